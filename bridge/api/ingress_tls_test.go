package api

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue returns a certificate and its key as PEM.
func (a *authority) issue(t testing.TB, template *x509.Certificate) (cert, key []byte) {
	t.Helper()
	pair, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	if template.SerialNumber == nil {
		template.SerialNumber = big.NewInt(2)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &pair.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(pair)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}

func (a *authority) client(t testing.TB, template *x509.Certificate) tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(a.issue(t, template))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// serverFiles writes a certificate for 127.0.0.1 with the serial number, and the CA beside it.
func (a *authority) serverFiles(t testing.TB, dir string, serial int64) IngressTLS {
	t.Helper()
	cert, key := a.issue(t, &x509.Certificate{SerialNumber: big.NewInt(serial), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	files := IngressTLS{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), ClientCA: filepath.Join(dir, "ca.pem")}
	for name, text := range map[string][]byte{files.Cert: cert, files.Key: key, files.ClientCA: a.pem} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// withTLS lets the client of the bench speak TLS.
func (b *ingressBench) withTLS(t testing.TB, ca *authority, certs ...tls.Certificate) {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: certs, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true,
	}
	b.client = &http.Client{Transport: transport, Timeout: 30 * time.Second}
}

func TestTheCertificateFollowsItsFiles(t *testing.T) {
	t.Parallel()
	ca, dir := newAuthority(t), t.TempDir()
	files := ca.serverFiles(t, dir, 100)
	files.ClientCA = ""
	b := openIngress(t, func(cfg *IngressConfig) { cfg.TLS = files })
	b.settling(t, acceptAll)
	b.withTLS(t, ca)
	serial := func() int64 {
		t.Helper()
		conn, err := tls.Dial("tcp", b.addr, b.client.Transport.(*http.Transport).TLSClientConfig)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if got := serial(); got != 100 {
		t.Fatalf("serial number %d", got)
	}
	old, _ := os.ReadFile(files.Key)
	ca.serverFiles(t, dir, 200)
	fresh, _ := os.ReadFile(files.Key)
	_ = os.WriteFile(files.Key, old, 0o600)
	b.clock.advance(2 * time.Second)
	if got := serial(); got != 100 {
		t.Errorf("serial number %d while the key does not fit the certificate yet", got)
	}
	if !strings.Contains(b.logs.String(), "changed certificate cannot be used") {
		t.Error("nobody was told of a certificate that cannot be used")
	}
	_ = os.WriteFile(files.Key, fresh, 0o600)
	b.clock.advance(2 * time.Second)
	if got := serial(); got != 200 {
		t.Errorf("serial number %d after the files were replaced", got)
	}
	if a := b.post(t, "/webhook/hook", "{}"); a.status != http.StatusOK {
		t.Errorf("a request: %d", a.status)
	}
	old11 := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	if conn, err := tls.Dial("tcp", b.addr, old11); err == nil {
		_ = conn.Close()
		t.Error("TLS 1.1 was accepted")
	}
}

func TestClientCertificatesAreHeldAgainstTheList(t *testing.T) {
	t.Parallel()
	ca, stranger := newAuthority(t), newAuthority(t)
	b := openIngress(t, func(cfg *IngressConfig) {
		cfg.TLS = ca.serverFiles(t, t.TempDir(), 1)
		cfg.Sources = []IngressSource{
			{Name: "mtls", Path: "/mtls", Kind: IngressWebhook, Auth: Auth{MTLS: &MTLSAuth{Names: []string{
				"Correlator.corp.example", "uri:spiffe://corp/kuma", "email:soc@corp.example", "subject:CN=kuma,O=Corp",
			}}}},
			{Name: "open", Path: "/open", Kind: IngressWebhook},
		}
	})
	b.settling(t, acceptAll)
	uri, _ := url.Parse("spiffe://corp/kuma")
	for _, c := range []struct {
		name   string
		certs  []tls.Certificate
		status int
	}{
		{"none", nil, 401},
		{"listed DNS name", []tls.Certificate{ca.client(t, &x509.Certificate{DNSNames: []string{"x", "correlator.CORP.example"}})}, 200},
		{"listed URI", []tls.Certificate{ca.client(t, &x509.Certificate{URIs: []*url.URL{uri}})}, 200},
		{"listed address", []tls.Certificate{ca.client(t, &x509.Certificate{EmailAddresses: []string{"soc@corp.example"}})}, 200},
		{"listed subject", []tls.Certificate{ca.client(t, &x509.Certificate{Subject: pkix.Name{CommonName: "kuma", Organization: []string{"Corp"}}})}, 200},
		{"another name", []tls.Certificate{ca.client(t, &x509.Certificate{DNSNames: []string{"evil.corp.example"}})}, 401},
		{"the name as a common name", []tls.Certificate{ca.client(t, &x509.Certificate{Subject: pkix.Name{CommonName: "correlator.corp.example"}})}, 401},
		{"the common name alone", []tls.Certificate{ca.client(t, &x509.Certificate{Subject: pkix.Name{CommonName: "kuma"}})}, 401},
	} {
		b.withTLS(t, ca, c.certs...)
		if a := b.post(t, "/mtls", "{}"); a.status != c.status {
			t.Errorf("%s: %d, want %d", c.name, a.status, c.status)
		}
		if a := b.post(t, "/open", "{}"); a.status != http.StatusOK {
			t.Errorf("%s: the source without it answers %d", c.name, a.status)
		}
	}
	b.withTLS(t, ca)
	forged := stranger.client(t, &x509.Certificate{DNSNames: []string{"correlator.corp.example"}})
	b.client.Transport.(*http.Transport).TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &forged, nil
	}
	if a, err := b.send(b.request(t, http.MethodPost, "/mtls", "{}")); err == nil {
		t.Errorf("a certificate of another CA: %d", a.status)
	}
}

func TestAClientCAWithoutListsAsksEverybody(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	b := openIngress(t, func(cfg *IngressConfig) { cfg.TLS = ca.serverFiles(t, t.TempDir(), 1) })
	b.settling(t, acceptAll)
	b.withTLS(t, ca)
	if a, err := b.send(b.request(t, http.MethodPost, "/webhook/hook", "{}")); err == nil {
		t.Errorf("no certificate: %d", a.status)
	}
	b.withTLS(t, ca, ca.client(t, &x509.Certificate{DNSNames: []string{"any"}}))
	if a := b.post(t, "/webhook/hook", "{}"); a.status != http.StatusOK {
		t.Errorf("a certificate: %d", a.status)
	}
}

func TestListenNamesTheTLSFileThatIsWrong(t *testing.T) {
	t.Parallel()
	ca, dir := newAuthority(t), t.TempDir()
	files := ca.serverFiles(t, dir, 1)
	for _, c := range []struct {
		files IngressTLS
		want  string
	}{
		{IngressTLS{Cert: filepath.Join(dir, "none"), Key: files.Key}, "http.tls: "},
		{IngressTLS{Cert: files.Cert, Key: files.Key, ClientCA: filepath.Join(dir, "none")}, "http.tls.client_ca: "},
		{IngressTLS{Cert: files.Cert, Key: files.Key, ClientCA: files.Key}, "holds no PEM certificate"},
	} {
		in, err := NewIngress(IngressConfig{Listen: "127.0.0.1:0", TLS: c.files, Sources: hookAndKUMA()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.Listen(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q in it", err, c.want)
		}
	}
}
