package ksctest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"sync/atomic"
	"time"
)

// certDays is how long the certificate of a new Administration Server is valid
// (support.kaspersky.com/help/KSCLinux/15.1/en-US/206479.htm).
const certDays = 397

// certificate holds what the listener shows; it may be replaced while the server runs.
type certificate struct {
	hosts    []string
	notAfter time.Time
	current  atomic.Pointer[tls.Certificate]
}

func newCertificate(address string, notAfter time.Time) (*certificate, error) {
	c := &certificate{hosts: []string{"localhost", "127.0.0.1", "::1"}, notAfter: notAfter}
	if host, _, err := net.SplitHostPort(address); err == nil && host != "" {
		c.hosts = append(c.hosts, host)
	}
	return c, c.rotate()
}

// rotate makes a new key and certificate.
func (c *certificate) rotate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make the server's key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return fmt.Errorf("make the certificate's serial number: %w", err)
	}
	// A verifying client compares with the machine's clock, so Config.Now has no say here.
	now := time.Now()
	template := x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "ksctest mock Administration Server"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 0, certDays),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true,
	}
	if !c.notAfter.IsZero() {
		template.NotAfter = c.notAfter
		if template.NotBefore.After(c.notAfter) {
			template.NotBefore = c.notAfter.Add(-time.Hour)
		}
	}
	for _, h := range c.hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		return fmt.Errorf("make the certificate: %w", err)
	}
	c.current.Store(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key})
	return nil
}

// config returns the TLS settings of a listener. The vendor documents TLS 1.2 as the newest version.
func (c *certificate) config(handshake func()) *tls.Config {
	return &tls.Config{ //nolint:gosec // TLS 1.2 is what the vendor documents
		MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		GetCertificate:   func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
		VerifyConnection: func(tls.ConnectionState) error { handshake(); return nil },
	}
}

// CertPEM returns the server's self-signed certificate in PEM, as klserver.cer holds it.
func (s *Server) CertPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.cert.current.Load().Certificate[0]})
}

// Fingerprint returns the SHA-256 of the certificate: 64 lower-case hex digits.
func (s *Server) Fingerprint() string {
	sum := sha256.Sum256(s.cert.current.Load().Certificate[0])
	return hex.EncodeToString(sum[:])
}

// RotateCertificate replaces key and certificate for connections made from then on.
func (s *Server) RotateCertificate() error { return s.cert.rotate() }
