package servercert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"
)

var certTime = time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)

type issued struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func issue(t *testing.T, name string, by *issued) *issued {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: certTime.Add(-time.Hour), NotAfter: certTime.Add(397 * 24 * time.Hour),
		DNSNames: []string{name}, IsCA: by == nil, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issued{cert, key}
}

func TestF24CertificateIsTrustedByPinChainOrFingerprintOnly(t *testing.T) {
	t.Parallel()
	authority, stranger := issue(t, "authority", nil), issue(t, "stranger", nil)
	named, misnamed, foreign := issue(t, "ksc01.corp.local", authority), issue(t, "other.corp.local", authority), issue(t, "ksc01.corp.local", stranger)
	self := issue(t, "WIN-7F3K", nil)
	der := func(i *issued) []byte { return i.cert.Raw }
	asPEM := func(is ...*issued) (b []byte) {
		for _, i := range is {
			b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw})...)
		}
		return b
	}
	long, short := sha256.Sum256(self.cert.Raw), sha1.Sum(self.cert.Raw)
	colons := func(b []byte) string {
		var parts []string
		for _, x := range b {
			parts = append(parts, strings.ToUpper(hex.EncodeToString([]byte{x})))
		}
		return strings.Join(parts, ":")
	}
	for name, c := range map[string]struct {
		cfg    Config
		server *issued
		now    time.Time
		want   bool
	}{
		"pinned itself, name differs":     {Config{CA: der(self)}, self, certTime, true},
		"pinned as PEM among others":      {Config{CA: asPEM(stranger, self)}, self, certTime, true},
		"chain and name":                  {Config{CA: asPEM(authority)}, named, certTime, true},
		"chain, wrong name":               {Config{CA: asPEM(authority)}, misnamed, certTime, false},
		"wrong authority":                 {Config{CA: asPEM(authority)}, foreign, certTime, false},
		"self-signed, not pinned":         {Config{CA: asPEM(authority)}, self, certTime, false},
		"SHA-256 with colons":             {Config{Fingerprints: []string{colons(long[:])}}, self, certTime, true},
		"SHA-1":                           {Config{Fingerprints: []string{hex.EncodeToString(short[:])}, Thumbprints: true}, self, certTime, true},
		"one of two":                      {Config{Fingerprints: []string{strings.Repeat("0", 64), hex.EncodeToString(long[:])}}, self, certTime, true},
		"other fingerprint":               {Config{Fingerprints: []string{strings.Repeat("0", 64)}}, self, certTime, false},
		"pinned but expired":              {Config{CA: der(self)}, self, certTime.Add(400 * 24 * time.Hour), false},
		"fingerprint but expired":         {Config{Fingerprints: []string{hex.EncodeToString(long[:])}}, self, certTime.Add(400 * 24 * time.Hour), false},
		"pinned but not yet valid":        {Config{CA: der(self)}, self, certTime.Add(-2 * time.Hour), false},
		"chain but expired":               {Config{CA: asPEM(authority)}, named, certTime.Add(400 * 24 * time.Hour), false},
		"system roots do not know it":     {Config{SystemRoots: true}, named, certTime, false},
		"insecure takes anything":         {Config{Insecure: true}, foreign, certTime.Add(9000 * 24 * time.Hour), true},
		"authority of wrong, print of it": {Config{CA: asPEM(stranger), Fingerprints: []string{hex.EncodeToString(long[:])}}, self, certTime, true},
	} {
		c.cfg.Address, c.cfg.Section, c.cfg.Now = "ksc01.corp.local:13299", "ksc", func() time.Time { return c.now }
		tr, err := New(c.cfg)
		if err != nil {
			t.Fatal(err)
		}
		err = tr.verify(tls.ConnectionState{PeerCertificates: []*x509.Certificate{c.server.cert}})
		if (err == nil) != c.want {
			t.Errorf("%s: %v", name, err)
		}
		if pin, ok := errors.AsType[*PinError](err); err != nil && (!ok || pin.Certificate.Fingerprint == "" || !strings.Contains(err.Error(), pin.Certificate.Fingerprint)) {
			t.Errorf("%s: error does not name the fingerprint: %v", name, err)
		}
	}
	tr := &Trust{}
	if err := tr.verify(tls.ConnectionState{}); err == nil {
		t.Error("no certificate is trusted")
	}
	if cfg := tr.TLS(); cfg.MinVersion != tls.VersionTLS12 || cfg.MaxVersion != 0 {
		t.Errorf("versions %x to %x", cfg.MinVersion, cfg.MaxVersion)
	}
}

func TestSettingsThatVouchForNothingAreRefusedByName(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"no port":               {Config{Address: "core"}, "kuma.address: "},
		"no hex":                {Config{Address: "core:7223", Fingerprints: []string{"zz"}}, `kuma.fingerprints: "zz" is not a SHA-256`},
		"SHA-1, not asked for":  {Config{Address: "core:7223", Fingerprints: []string{strings.Repeat("ab", 20)}}, "is not a SHA-256"},
		"MD5, SHA-1 is allowed": {Config{Address: "core:7223", Fingerprints: []string{strings.Repeat("ab", 16)}, Thumbprints: true}, "neither a SHA-256"},
		"no certificate":        {Config{Address: "core:7223", CA: []byte("klserver.cer")}, "kuma.ca: holds no certificate"},
		"torn certificate": {
			Config{Address: "core:7223", CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("torn")})}, "kuma.ca: ",
		},
	} {
		c.cfg.Section = "kuma"
		if _, err := New(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestRefusalSaysWhatWasShownInOnePlainLine(t *testing.T) {
	t.Parallel()
	server := issue(t, "core\x1b[2J\n"+strings.Repeat("x", 60), nil)
	tr, err := New(Config{
		Address: "core:7223", Section: "kuma", Original: "the certificate on the core", Fingerprints: []string{strings.Repeat("0", 64)},
		Now: func() time.Time { return certTime },
	})
	if err != nil {
		t.Fatal(err)
	}
	if tr.Seen() != nil {
		t.Error("a certificate is seen before any handshake")
	}
	err = tr.verify(tls.ConnectionState{PeerCertificates: []*x509.Certificate{server.cert}})
	if err == nil {
		t.Fatal("trusted")
	}
	for _, want := range []string{"core:7223", "not one of kuma.fingerprints", "the certificate on the core", "kuma.ca", "2027-12-22"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	if strings.ContainsAny(err.Error(), "\x1b\n") {
		t.Errorf("control characters in %q", err)
	}
	if seen := tr.Seen(); seen == nil || seen.Fingerprint == "" || !seen.NotAfter.Equal(server.cert.NotAfter) {
		t.Errorf("seen %+v", seen)
	}
}
