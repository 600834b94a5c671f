package api

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/netip"
	"testing"
	"time"
)

// syslogCA makes certificates for tests.
type syslogCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newSyslogCA(t *testing.T) *syslogCA {
	t.Helper()
	ca := &syslogCA{pool: x509.NewCertPool()}
	pair := ca.issue(t, "test ca")
	ca.cert, ca.key = pair.Leaf, pair.PrivateKey.(*ecdsa.PrivateKey)
	ca.pool.AddCert(ca.cert)
	return ca
}

func (ca *syslogCA) issue(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := ca.cert, ca.key
	if parent == nil {
		cert.IsCA, cert.BasicConstraintsValid, cert.KeyUsage, cert.ExtKeyUsage = true, true, x509.KeyUsageCertSign, nil
		parent, signer = cert, key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func (ca *syslogCA) server(t *testing.T, mutual bool) *tls.Config {
	t.Helper()
	c := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "bridge")}}
	if mutual {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, ca.pool
	}
	return c
}

func (ca *syslogCA) client(t *testing.T) *tls.Config {
	t.Helper()
	return &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "sender")}, RootCAs: ca.pool, ServerName: "127.0.0.1"}
}

func TestSyslogTakesOnlySendersWithACertificate(t *testing.T) {
	t.Parallel()
	ca, other := newSyslogCA(t), newSyslogCA(t)
	r := startSyslog(t, func(cfg *SyslogConfig) {
		cfg.Listen = "0.0.0.0:0" // beyond loopback without AllowPlain
		server := ca.server(t, true)
		server.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, nil }
		cfg.TLS = server
	})
	address := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), netip.MustParseAddrPort(r.Addr().String()).Port()).String()
	send := func(cfg *tls.Config, text string) net.Conn {
		raw, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = raw.Close() })
		if cfg == nil {
			_, _ = raw.Write([]byte(text))
			return raw
		}
		conn := tls.Client(raw, cfg)
		_, _ = conn.Write([]byte(text)) // TLS 1.3 tells a client without certificate only later
		return conn
	}
	none, foreign, old := ca.client(t), ca.client(t), ca.client(t)
	none.Certificates = nil
	foreign.Certificates = []tls.Certificate{other.issue(t, "sender")}
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	for name, cfg := range map[string]*tls.Config{"no certificate": none, "a foreign certificate": foreign, "TLS 1.1": old, "no TLS": nil} {
		isClosed(t, send(cfg, "<13>evil from "+name+"\n"))
	}
	r.silent(t)
	send(ca.client(t), "<13>good\n")
	r.settled(t, "<13>good")
	syslogEventually(t, "four are refused", func() bool { return r.Stats().Refused == 4 && r.log.count(string(syslogNoTLS)) > 0 })
	if got := r.lost(); got != 0 {
		t.Errorf("%d losses are noted, want none", got)
	}
}

// A configuration chosen for each client must not ask for less than the one that was checked.
func TestSyslogChecksTheTLSOfEachClient(t *testing.T) {
	t.Parallel()
	ca := newSyslogCA(t)
	r := startSyslog(t, func(cfg *SyslogConfig) {
		cfg.Listen = "0.0.0.0:0"
		cfg.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return ca.server(t, false), nil }}
	})
	_, port, _ := net.SplitHostPort(r.Addr().String())
	raw, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if err := tls.Client(raw, ca.client(t)).HandshakeContext(t.Context()); err == nil {
		t.Error("a handshake without client certificates was accepted beyond loopback")
	}
	syslogEventually(t, "it is counted", func() bool { return r.Stats().Refused == 1 })
}
