package api

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// ingressTLS is a certificate that follows its files.
type ingressTLS struct {
	files IngressTLS
	auth  tls.ClientAuthType
	log   *slog.Logger
	now   func() time.Time

	mu      sync.Mutex // guards what follows
	current *tls.Config
	stamp   [3]fileStamp // of what current was read from
	looked  time.Time
	warned  [3]fileStamp // the files a warning was given for
}

// fileStamp tells whether a file has changed.
type fileStamp struct {
	changed time.Time
	size    int64
}

func newIngressTLS(files IngressTLS, auth tls.ClientAuthType, log *slog.Logger, now func() time.Time) *ingressTLS {
	return &ingressTLS{files: files, auth: auth, log: log, now: now}
}

// clientAuth is what the listener asks of its clients; each source still looks at what it got.
func (i *Ingress) clientAuth() tls.ClientAuthType {
	if i.cfg.TLS.ClientCA == "" {
		return tls.NoClientCert
	}
	with := 0
	for _, s := range i.sources {
		if s.Auth.MTLS != nil {
			with++
		}
	}
	if with == 0 || with == len(i.sources) {
		return tls.RequireAndVerifyClientCert
	}
	return tls.VerifyClientCertIfGiven
}

func (t *ingressTLS) listenerConfig() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return t.get(), nil },
	}
}

// load reads the files for the first time.
func (t *ingressTLS) load() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	stamp := t.stamps()
	cfg, err := t.read()
	if err != nil {
		return err
	}
	t.current, t.stamp, t.looked = cfg, stamp, t.now()
	return nil
}

// get returns the certificate, read again when its files have changed. Files are often replaced one after the other: while they do
// not fit together the former ones stay, and are tried again with the next look.
func (t *ingressTLS) get() *tls.Config {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if since := now.Sub(t.looked); since >= 0 && since < time.Second {
		return t.current
	}
	t.looked = now
	stamp := t.stamps()
	if stamp == t.stamp {
		return t.current
	}
	cfg, err := t.read()
	switch {
	case err == nil:
		t.current, t.stamp = cfg, stamp
		t.log.Info("certificate was read again")
	case stamp != t.warned:
		t.warned = stamp
		t.log.Warn("changed certificate cannot be used, the former stays", "err", err)
	}
	return t.current
}

func (t *ingressTLS) stamps() (s [3]fileStamp) {
	for n, name := range []string{t.files.Cert, t.files.Key, t.files.ClientCA} {
		if info, err := os.Stat(name); err == nil {
			s[n] = fileStamp{info.ModTime(), info.Size()}
		}
	}
	return s
}

func (t *ingressTLS) read() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(t.files.Cert, t.files.Key)
	if err != nil {
		return nil, fmt.Errorf("http.tls: read certificate: %w", err)
	}
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, Certificates: []tls.Certificate{cert}, ClientAuth: t.auth,
		// A resumed session would stand on a certificate that was checked under former CAs.
		SessionTicketsDisabled: t.files.ClientCA != "",
	}
	if t.files.ClientCA == "" {
		return cfg, nil
	}
	pem, err := os.ReadFile(t.files.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("http.tls.client_ca: %w", err)
	}
	cfg.ClientCAs = x509.NewCertPool()
	if !cfg.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, errors.New("http.tls.client_ca: the file holds no PEM certificate")
	}
	return cfg, nil
}
