package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge/api"
	"github.com/edr-bridge/edr-bridge/configs"
)

// openIngress makes the listener of the sources that products call, and what they bring.
func (w *wiring) openIngress(names []string) ([]feed, error) {
	h := w.set.HTTP
	cfg := api.IngressConfig{
		Listen: h.Listen, Logger: w.log,
		Limits: api.IngressLimits{Body: int64(h.MaxBody), Conns: h.MaxConns, PeerConns: h.MaxConnsPeer},
	}
	if w.meter != nil {
		cfg.Meter = w.meter
	}
	if h.TLS != nil {
		cfg.TLS = api.IngressTLS{Cert: h.TLS.Cert, Key: h.TLS.Key, ClientCA: h.TLS.ClientCA}
	}
	var feeds []feed
	for _, name := range names {
		s := w.set.Sources[name]
		src, err := w.ingressSource(name, s)
		if err != nil {
			return nil, sourceError(name, err)
		}
		if s.Type == configs.KUMASOAR {
			soar, err := w.openSOAR(name, s)
			if err != nil {
				return nil, sourceError(name, err)
			}
			src.Kind, src.Preset, src.OwnAuth = api.IngressHandler, "", true
			src.Handler = http.StripPrefix(strings.TrimSuffix(s.Path, configs.SOARPath), soar)
			feeds = append(feeds, feed{name, soar})
		}
		cfg.Sources = append(cfg.Sources, src)
	}
	ingress, err := api.NewIngress(cfg)
	if err != nil {
		return nil, fail(exitConfig, "config.http", err, "edr-bridge config check")
	}
	for _, door := range ingress.Doors() {
		feeds = append(feeds, feed{door.Name(), door})
	}
	w.ingress = ingress
	return feeds, nil
}

func (w *wiring) ingressSource(name string, s *configs.Source) (api.IngressSource, error) {
	src := api.IngressSource{Name: name, Preset: s.Preset, Path: s.Path, Kind: api.IngressWebhook, Encodings: s.Encodings}
	if s.Type == configs.KUMAHTTP {
		src.Kind = api.IngressKUMA
	}
	if s.Rate != nil {
		src.Rate = api.IngressRate{Requests: float64(s.Rate.Requests), Documents: float64(s.Rate.Alerts)}
	}
	var err error
	if src.Peers, err = prefixes(s.Peers); err != nil {
		return src, err
	}
	src.Auth, err = w.ingressAuth(s.Auth)
	return src, err
}

func (w *wiring) ingressAuth(a *configs.Auth) (api.Auth, error) {
	var auth api.Auth
	if a == nil {
		return auth, nil
	}
	var failed error
	secret := func(ref configs.SecretRef) api.Secret {
		get, err := w.secret(ref)
		if err != nil && failed == nil {
			failed = err
		}
		return get
	}
	switch {
	case a.Bearer != "":
		auth.Bearer = &api.BearerAuth{Tokens: []api.Secret{secret(a.Bearer)}}
	case a.Basic != nil:
		auth.Basic = &api.BasicAuth{User: a.Basic.User, Passwords: []api.Secret{secret(a.Basic.Password)}}
	case a.HMAC != nil:
		auth.HMAC = &api.HMACAuth{}
		for _, id := range slices.Sorted(maps.Keys(a.HMAC.Keys)) {
			auth.HMAC.Keys = append(auth.HMAC.Keys, api.AuthKey{ID: id, Secret: secret(a.HMAC.Keys[id])})
		}
	case a.BodyHMAC != nil:
		auth.BodyHMAC = &api.BodyHMACAuth{Header: a.BodyHMAC.Header, Keys: []api.Secret{secret(a.BodyHMAC.Key)}}
	default:
		auth.MTLS = &api.MTLSAuth{Names: a.Clients}
	}
	return auth, failed
}

// serveIngress opens the port and answers on it until ctx ends. A port that cannot be opened ends the start: a product that calls would
// be lost without anybody noticing.
func (w *wiring) serveIngress(ctx context.Context) (serve func(context.Context) error, err error) {
	if w.ingress == nil {
		return func(context.Context) error { return nil }, nil
	}
	addr, err := w.ingress.Listen(ctx)
	if err != nil {
		return nil, fail(exitConfig, "config.http", err, "choose another port in http.listen")
	}
	w.onClose(func() { _ = w.ingress.Close() }) // after a start that failed further on; else Serve did it
	w.log.Info("http sources open", "address", addr.String())
	return w.ingress.Serve, nil
}

func (w *wiring) openSyslog(ctx context.Context, name string, s *configs.Source) (reader, error) {
	cfg := api.SyslogConfig{Name: name, Preset: s.Preset, Listen: s.Listen, AllowPlain: s.AllowPlain, OnNote: w.noter(ctx), Logger: w.log}
	var err error
	if cfg.Peers, err = prefixes(s.Peers); err != nil {
		return nil, err
	}
	if s.Rate != nil {
		cfg.Rate = float64(max(s.Rate.Requests, s.Rate.Alerts))
	}
	if s.ServerTLS != nil {
		if cfg.TLS, err = serverTLS(s.ServerTLS); err != nil {
			return nil, err
		}
	}
	return api.NewSyslog(cfg)
}

// serverTLS reads the files of a TLS listener.
func serverTLS(t *configs.ServerTLS) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("server_tls: %w", err)
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	if t.ClientCA == "" {
		return cfg, nil
	}
	pem, err := os.ReadFile(t.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("server_tls.client_ca: %w", err)
	}
	cfg.ClientCAs, cfg.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !cfg.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("server_tls.client_ca: %s holds no PEM certificate", t.ClientCA)
	}
	return cfg, nil
}

func prefixes(texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range texts {
		p, err := configs.Prefix(text)
		if err != nil {
			return nil, fmt.Errorf("peers: %w", err)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}
