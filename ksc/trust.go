package ksc

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // administrators read SHA-1 thumbprints off the console; see newTrust
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
)

// Certificate is what the server showed at the latest handshake.
type Certificate struct {
	// Subject is its distinguished name, Fingerprint its SHA-256 digest as upper-case hex pairs with colons.
	Subject, Fingerprint string
	NotBefore, NotAfter  time.Time
}

// PinError says that nothing in the settings vouches for the certificate the server showed. Nothing was sent.
type PinError struct {
	Address     string
	Certificate Certificate
	// Err is why: a fingerprint that is not listed, a wrong name, an unknown authority, a date.
	Err error
}

// Error names the fingerprint, so that it can be compared with the server's and added.
func (e *PinError) Error() string {
	return fmt.Sprintf("certificate of %s is not trusted: %v; its SHA-256 fingerprint is %s (%s, valid until %s): "+
		"was the certificate rotated? compare with klserver.cer on the server and add it to ksc.fingerprints or ksc.ca",
		e.Address, e.Err, e.Certificate.Fingerprint, e.Certificate.Subject, e.Certificate.NotAfter.UTC().Format(time.DateOnly))
}

// Unwrap returns the cause.
func (e *PinError) Unwrap() error { return e.Err }

// trust decides about server certificates.
type trust struct {
	address, name string
	pinned        []*x509.Certificate
	roots         *x509.CertPool
	prints        map[string]bool // lower-case hex, SHA-256 and SHA-1
	system        bool
	insecure      bool
	now           func() time.Time
	seen          atomic.Pointer[Certificate]
}

// newTrust reads CA and Fingerprints. SHA-1 is taken because KSC administrators work with such thumbprints: a pin
// needs that nobody finds a second preimage, which SHA-1 still gives; collisions do not help an attacker here.
func newTrust(cfg Config) (*trust, error) {
	host, _, err := net.SplitHostPort(cfg.Address)
	if err != nil {
		return nil, err
	}
	t := &trust{
		address: cfg.Address, name: host, system: cfg.SystemRoots, insecure: cfg.Insecure,
		prints: map[string]bool{}, now: cfg.Now,
	}
	for _, f := range cfg.Fingerprints {
		digest := strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(f))
		raw, err := hex.DecodeString(digest)
		if err != nil || len(raw) != sha256.Size && len(raw) != sha1.Size {
			return nil, fmt.Errorf("ksc.fingerprints: %q is neither a SHA-256 (64 hex digits) nor a SHA-1 (40)", f)
		}
		t.prints[digest] = true
	}
	if len(cfg.CA) == 0 {
		return t, nil
	}
	if t.pinned, err = parseCertificates(cfg.CA); err != nil {
		return nil, fmt.Errorf("ksc.ca: %w", err)
	}
	t.roots = x509.NewCertPool()
	for _, c := range t.pinned {
		t.roots.AddCert(c)
	}
	return t, nil
}

// parseCertificates reads PEM, or DER when there is none.
func parseCertificates(data []byte) ([]*x509.Certificate, error) {
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

// config checks certificates in VerifyConnection, which unlike VerifyPeerCertificate also runs when a session is resumed.
func (t *trust) config() *tls.Config {
	return &tls.Config{
		ServerName:         t.name,
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // verify does the checks: KSC certificates are self-signed and rarely carry the right name
		VerifyConnection:   t.verify,
		ClientSessionCache: tls.NewLRUClientSessionCache(tlsSessions),
	}
}

func (t *trust) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("server showed no certificate")
	}
	leaf := state.PeerCertificates[0]
	cert := describe(leaf)
	t.seen.Store(&cert)
	if t.insecure {
		return nil
	}
	if err := t.check(leaf, state.PeerCertificates[1:]); err != nil {
		return &PinError{Address: t.address, Certificate: cert, Err: err}
	}
	return nil
}

func (t *trust) check(leaf *x509.Certificate, others []*x509.Certificate) error {
	if t.isPinned(leaf) {
		switch now := t.now(); {
		case now.After(leaf.NotAfter):
			return errors.New("it has expired; renew it on the server")
		case now.Before(leaf.NotBefore):
			return errors.New("it is not valid yet; check the clocks")
		default:
			return nil
		}
	}
	opts := x509.VerifyOptions{DNSName: t.name, Intermediates: x509.NewCertPool(), CurrentTime: t.now()}
	for _, c := range others {
		opts.Intermediates.AddCert(c)
	}
	err := errors.New("it is not one of ksc.fingerprints")
	if t.roots != nil {
		opts.Roots = t.roots
		if _, err = leaf.Verify(opts); err == nil {
			return nil
		}
	}
	if t.system {
		opts.Roots = nil
		if _, err = leaf.Verify(opts); err == nil {
			return nil
		}
	}
	return err
}

func (t *trust) isPinned(leaf *x509.Certificate) bool {
	for _, c := range t.pinned {
		if bytes.Equal(c.Raw, leaf.Raw) {
			return true
		}
	}
	if len(t.prints) == 0 {
		return false
	}
	long, short := sha256.Sum256(leaf.Raw), sha1.Sum(leaf.Raw) //nolint:gosec // see newTrust
	return t.prints[hex.EncodeToString(long[:])] || t.prints[hex.EncodeToString(short[:])]
}

func describe(c *x509.Certificate) Certificate {
	digest := sha256.Sum256(c.Raw)
	pairs := make([]string, 0, len(digest))
	for _, b := range digest {
		pairs = append(pairs, fmt.Sprintf("%02X", b))
	}
	return Certificate{
		Subject: excerpt([]byte(c.Subject.String()), maxName), Fingerprint: strings.Join(pairs, ":"),
		NotBefore: c.NotBefore, NotAfter: c.NotAfter,
	}
}
