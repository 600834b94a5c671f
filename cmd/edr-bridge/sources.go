package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/redisbus"
	"github.com/edr-bridge/edr-bridge/configs"
)

// openFeeds makes the configured sources in the order of their names; nothing is dialled.
func (w *wiring) openFeeds(ctx context.Context) ([]feed, error) {
	var feeds []feed
	var called []string
	for _, name := range slices.Sorted(maps.Keys(w.set.Sources)) {
		s := w.set.Sources[name]
		if s.Type.OverHTTP() {
			called = append(called, name)
			continue
		}
		src, err := w.openSource(ctx, name, s)
		if err != nil {
			return nil, sourceError(name, err)
		}
		feeds = append(feeds, feed{name: name, src: src})
	}
	if len(called) == 0 {
		return feeds, nil
	}
	doors, err := w.openIngress(called)
	return append(feeds, doors...), err
}

// openSource makes a source with a connection or place of its own.
func (w *wiring) openSource(ctx context.Context, name string, s *configs.Source) (reader, error) {
	switch s.Type {
	case configs.RedisPubSub, configs.RedisStream:
		return w.openRedis(ctx, name, s)
	case configs.SyslogTCP:
		return w.openSyslog(ctx, name, s)
	case configs.KUMAPoll:
		return w.openPoll(ctx, name, s)
	case configs.KUMAScript:
		return w.openScript(ctx, name, s)
	case configs.OwnSensor:
		return w.openSensor(ctx, name, s)
	default:
		return nil, fmt.Errorf("unknown type %q", s.Type)
	}
}

func (w *wiring) openRedis(ctx context.Context, name string, s *configs.Source) (reader, error) {
	opts, err := w.redisOptions(s)
	if err != nil {
		return nil, err
	}
	if s.Type == configs.RedisPubSub {
		return redisbus.NewPubSub(redisbus.PubSubConfig{
			Options: opts, Name: name, Preset: s.Preset, Channel: s.Channel, Queue: s.Queue,
			OnNote: w.noter(ctx), Logger: w.log,
		})
	}
	return redisbus.NewStream(redisbus.StreamConfig{
		Options: opts, Name: name, Preset: s.Preset, Stream: s.Stream, Group: s.Group, Consumer: w.consumer(s),
		DeadLetter: s.DeadLetter, ClaimAfter: s.ClaimAfter, OnNote: w.noter(ctx), Logger: w.log,
		Position:    func(ctx context.Context) (string, error) { return w.store.SourcePosition(ctx, name) },
		SetPosition: func(ctx context.Context, id string) error { return w.store.SetSourcePosition(ctx, name, id) },
	})
}

func sourceError(name string, err error) error {
	if _, ok := errors.AsType[*problem](err); ok {
		return err
	}
	return fail(exitConfig, "config.sources", fmt.Errorf("sources.%s: %w", name, err), "edr-bridge config check")
}

// consumer is stable over restarts: the setting, else the host name.
func (w *wiring) consumer(s *configs.Source) string {
	if s.Consumer != "" {
		return s.Consumer
	}
	return w.self.Names[0]
}

// noter records what a source knows to be lost in the log and the audit chain.
func (w *wiring) noter(ctx context.Context) func(bridge.Note) {
	work := context.WithoutCancel(ctx)
	return func(n bridge.Note) {
		w.log.Warn("source reports", "what", n.What, "source_name", n.Source, "count", n.Count, "detail", n.Detail)
		if err := w.store.Note(work, n); err != nil {
			w.log.Error("loss could not be recorded", "what", n.What, "source_name", n.Source, "count", n.Count, "err", err)
		}
	}
}

func (w *wiring) redisOptions(s *configs.Source) (redisbus.Options, error) {
	opts := redisbus.Options{Addresses: s.Nodes(), Cluster: s.Cluster, Username: s.Username, DB: s.DB, AllowOpen: s.AllowOpen}
	var err error
	if opts.Password, err = w.secret(s.Password); err != nil {
		return opts, err
	}
	if s.Sentinel != nil {
		opts.MasterName, opts.SentinelUsername = s.Sentinel.Master, s.Sentinel.Username
		if opts.SentinelPassword, err = w.secret(s.Sentinel.Password); err != nil {
			return opts, err
		}
	}
	if s.TLS != nil {
		if opts.TLS, err = tlsConfig(s.TLS); err != nil {
			return opts, err
		}
	}
	return opts, nil
}

func tlsConfig(t *configs.TLS) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("tls.ca: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.ca: %s holds no PEM certificate", t.CA)
		}
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("tls.cert: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}
