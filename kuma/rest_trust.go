package kuma

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// PinError says that nothing in the settings vouches for the certificate the core showed. Nothing was sent.
type PinError struct {
	Address string
	// Subject is the distinguished name of the certificate, Fingerprint its SHA-256 digest as upper-case hex pairs with colons.
	Subject, Fingerprint string
	NotAfter             time.Time
	// Err is why: a fingerprint that is not listed, a wrong name, an unknown authority, a date.
	Err error
}

// Error names the fingerprint, so that it can be compared with the core's and added.
func (e *PinError) Error() string {
	return fmt.Sprintf("certificate of %s is not trusted: %v; its SHA-256 fingerprint is %s (%s, valid until %s): "+
		"was it replaced? compare with the certificate on the core and add it to kuma.fingerprints or kuma.ca",
		e.Address, e.Err, e.Fingerprint, e.Subject, e.NotAfter.UTC().Format(time.DateOnly))
}

// Unwrap returns the cause.
func (e *PinError) Unwrap() error { return e.Err }

// restTrust decides about server certificates.
type restTrust struct {
	address, name string
	pinned        []*x509.Certificate
	roots         *x509.CertPool
	prints        map[string]bool // lower-case hex of SHA-256
	system        bool
	now           func() time.Time
}

func newRestTrust(cfg Config) (*restTrust, error) {
	host, _, err := net.SplitHostPort(cfg.Address)
	if err != nil {
		return nil, err
	}
	t := &restTrust{address: cfg.Address, name: host, system: cfg.SystemRoots, prints: map[string]bool{}, now: cfg.Now}
	for _, f := range cfg.Fingerprints {
		digest := strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(f))
		if raw, err := hex.DecodeString(digest); err != nil || len(raw) != sha256.Size {
			return nil, fmt.Errorf("kuma.fingerprints: %q is not a SHA-256 digest (64 hex digits)", f)
		}
		t.prints[digest] = true
	}
	if len(cfg.CA) == 0 {
		return t, nil
	}
	if t.pinned, err = restCertificates(cfg.CA); err != nil {
		return nil, fmt.Errorf("kuma.ca: %w", err)
	}
	t.roots = x509.NewCertPool()
	for _, c := range t.pinned {
		t.roots.AddCert(c)
	}
	return t, nil
}

// restCertificates reads PEM, or DER when there is none.
func restCertificates(data []byte) ([]*x509.Certificate, error) {
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

// config checks certificates in VerifyConnection, which also runs when a session is resumed.
func (t *restTrust) config() *tls.Config {
	return &tls.Config{
		ServerName:         t.name,
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // verify does the checks: the certificate of a core is self-signed and rarely carries the right name
		VerifyConnection:   t.verify,
	}
}

func (t *restTrust) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("server showed no certificate")
	}
	leaf := state.PeerCertificates[0]
	if err := t.check(leaf, state.PeerCertificates[1:]); err != nil {
		sum := sha256.Sum256(leaf.Raw)
		pairs := make([]string, 0, len(sum))
		for _, b := range sum {
			pairs = append(pairs, fmt.Sprintf("%02X", b))
		}
		return &PinError{
			Address: t.address, Subject: restExcerpt([]byte(leaf.Subject.String()), restMaxName), Fingerprint: strings.Join(pairs, ":"),
			NotAfter: leaf.NotAfter, Err: err,
		}
	}
	return nil
}

func (t *restTrust) check(leaf *x509.Certificate, others []*x509.Certificate) error {
	now := t.now()
	if t.isPinned(leaf) {
		switch {
		case now.After(leaf.NotAfter):
			return errors.New("it has expired; renew it on the core")
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
	err := errors.New("it is not one of kuma.fingerprints")
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

func (t *restTrust) isPinned(leaf *x509.Certificate) bool {
	for _, c := range t.pinned {
		if bytes.Equal(c.Raw, leaf.Raw) {
			return true
		}
	}
	sum := sha256.Sum256(leaf.Raw)
	return t.prints[hex.EncodeToString(sum[:])]
}
