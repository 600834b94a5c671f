package servercert

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // administrators read SHA-1 thumbprints off the console; see Config.Thumbprints
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
)

const maxSubject = 256 // characters of a distinguished name that errors show

// Config says who vouches for the certificate of one server.
type Config struct {
	// Address is host:port, as it is dialled.
	Address string
	// Section is the section of the settings that holds CA and fingerprints, as errors call it: "ksc".
	Section string
	// Original says where people find the true certificate: "klserver.cer on the server".
	Original string

	// CA are certificates as PEM, or one as DER: pinned themselves, and authorities of others. Empty is none.
	CA []byte
	// Fingerprints are SHA-256 digests of certificates as hex digits in either case, with or without colons and spaces.
	Fingerprints []string
	// Thumbprints takes SHA-1 digests among Fingerprints as well. The console of KSC shows such; a pin needs that nobody finds a
	// second preimage, which SHA-1 still gives: collisions do not help an attacker here.
	Thumbprints bool
	// SystemRoots takes what the authorities of the operating system vouch for.
	SystemRoots bool
	// Insecure takes every certificate.
	Insecure bool
	// Sessions is how many TLS sessions are kept for resumption; 0 is none.
	Sessions int
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Certificate is what a server showed.
type Certificate struct {
	// Subject is its distinguished name as one line of at most 256 characters, Fingerprint its SHA-256 digest as upper-case hex pairs
	// with colons.
	Subject, Fingerprint string
	NotBefore, NotAfter  time.Time
}

// PinError says that nothing in the settings vouches for the certificate the server showed. Nothing was sent.
type PinError struct {
	Address     string
	Certificate Certificate
	// Err is why: a fingerprint that is not listed, a wrong name, an unknown authority, a date.
	Err error

	section, original string
}

// Error names the fingerprint, so that it can be compared with the server's and added.
func (e *PinError) Error() string {
	return fmt.Sprintf("certificate of %s is not trusted: %v; its SHA-256 fingerprint is %s (%s, valid until %s): "+
		"was the certificate rotated? compare with %s and add it to %s.fingerprints or %s.ca",
		e.Address, e.Err, e.Certificate.Fingerprint, e.Certificate.Subject, e.Certificate.NotAfter.UTC().Format(time.DateOnly),
		e.original, e.section, e.section)
}

// Unwrap returns the cause.
func (e *PinError) Unwrap() error { return e.Err }

// Trust decides about the certificates of one server. It may be used by several goroutines at once.
type Trust struct {
	cfg    Config
	name   string
	pinned []*x509.Certificate
	roots  *x509.CertPool
	prints map[string]bool // lower-case hex
	seen   atomic.Pointer[Certificate]
}

// New reads CA and Fingerprints. Its errors name the setting.
func New(cfg Config) (*Trust, error) {
	host, _, err := net.SplitHostPort(cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("%s.address: %w", cfg.Section, err)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	t := &Trust{cfg: cfg, name: host, prints: map[string]bool{}}
	for _, f := range cfg.Fingerprints {
		digest := strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(f))
		raw, err := hex.DecodeString(digest)
		switch {
		case err == nil && (len(raw) == sha256.Size || cfg.Thumbprints && len(raw) == sha1.Size):
			t.prints[digest] = true
		case cfg.Thumbprints:
			return nil, fmt.Errorf("%s.fingerprints: %q is neither a SHA-256 (64 hex digits) nor a SHA-1 (40)", cfg.Section, f)
		default:
			return nil, fmt.Errorf("%s.fingerprints: %q is not a SHA-256 digest (64 hex digits)", cfg.Section, f)
		}
	}
	if len(cfg.CA) == 0 {
		return t, nil
	}
	if t.pinned, err = parse(cfg.CA); err != nil {
		return nil, fmt.Errorf("%s.ca: %w", cfg.Section, err)
	}
	t.roots = x509.NewCertPool()
	for _, c := range t.pinned {
		t.roots.AddCert(c)
	}
	return t, nil
}

// TLS returns settings for connections to the server, TLS 1.2 or later. Certificates are checked in VerifyConnection, which unlike
// VerifyPeerCertificate also runs when a session is resumed.
func (t *Trust) TLS() *tls.Config {
	cfg := &tls.Config{
		ServerName:         t.name,
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // verify does the checks: the certificates are self-signed and rarely carry the right name
		VerifyConnection:   t.verify,
	}
	if t.cfg.Sessions > 0 {
		cfg.ClientSessionCache = tls.NewLRUClientSessionCache(t.cfg.Sessions)
	}
	return cfg
}

// Seen is what the server showed at the latest handshake, trusted or not; nil before the first.
func (t *Trust) Seen() *Certificate { return t.seen.Load() }

func (t *Trust) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("server showed no certificate")
	}
	leaf := state.PeerCertificates[0]
	cert := describe(leaf)
	t.seen.Store(&cert)
	if t.cfg.Insecure {
		return nil
	}
	if err := t.check(leaf, state.PeerCertificates[1:]); err != nil {
		return &PinError{Address: t.cfg.Address, Certificate: cert, Err: err, section: t.cfg.Section, original: t.cfg.Original}
	}
	return nil
}

func (t *Trust) check(leaf *x509.Certificate, others []*x509.Certificate) error {
	now := t.cfg.Now()
	if t.isPinned(leaf) {
		switch {
		case now.After(leaf.NotAfter):
			return errors.New("it has expired; renew it on the server")
		case now.Before(leaf.NotBefore):
			return errors.New("it is not valid yet; check the clocks")
		default:
			return nil
		}
	}
	opts := x509.VerifyOptions{DNSName: t.name, Intermediates: x509.NewCertPool(), CurrentTime: now}
	for _, c := range others {
		opts.Intermediates.AddCert(c)
	}
	err := fmt.Errorf("it is not one of %s.fingerprints", t.cfg.Section)
	if t.roots != nil {
		opts.Roots = t.roots
		if _, err = leaf.Verify(opts); err == nil {
			return nil
		}
	}
	if t.cfg.SystemRoots {
		opts.Roots = nil
		if _, err = leaf.Verify(opts); err == nil {
			return nil
		}
	}
	return err
}

func (t *Trust) isPinned(leaf *x509.Certificate) bool {
	for _, c := range t.pinned {
		if bytes.Equal(c.Raw, leaf.Raw) {
			return true
		}
	}
	if len(t.prints) == 0 {
		return false
	}
	long, short := sha256.Sum256(leaf.Raw), sha1.Sum(leaf.Raw) //nolint:gosec // see Config.Thumbprints
	return t.prints[hex.EncodeToString(long[:])] || t.prints[hex.EncodeToString(short[:])]
}

// parse reads PEM, or DER when there is none.
func parse(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, c)
	}
	if len(certs) > 0 {
		return certs, nil
	}
	c, err := x509.ParseCertificate(data)
	if err != nil {
		return nil, errors.New("holds no certificate, neither PEM nor DER")
	}
	return []*x509.Certificate{c}, nil
}

func describe(c *x509.Certificate) Certificate {
	digest := sha256.Sum256(c.Raw)
	pairs := make([]string, 0, len(digest))
	for _, b := range digest {
		pairs = append(pairs, fmt.Sprintf("%02X", b))
	}
	return Certificate{
		Subject: oneLine(c.Subject.String()), Fingerprint: strings.Join(pairs, ":"), NotBefore: c.NotBefore, NotAfter: c.NotAfter,
	}
}

// oneLine makes a name from outside fit to stand in errors and logs.
func oneLine(name string) string {
	runes := []rune(strings.ToValidUTF8(name, "\uFFFD"))
	if len(runes) > maxSubject {
		runes = append(runes[:maxSubject], '…')
	}
	for i, r := range runes {
		if !unicode.IsPrint(r) {
			runes[i] = '\uFFFD'
		}
	}
	return string(runes)
}
