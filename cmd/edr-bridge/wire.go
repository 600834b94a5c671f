package main

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/api"
	"github.com/edr-bridge/edr-bridge/bridge/store"
	"github.com/edr-bridge/edr-bridge/configs"
	"github.com/edr-bridge/edr-bridge/configs/secrets"
	"github.com/edr-bridge/edr-bridge/ksc"
	"github.com/edr-bridge/edr-bridge/kuma"
	"github.com/edr-bridge/edr-bridge/localagent"
)

// wiring opens the parts of one bridge as a verb asks for them and closes them in reverse.
type wiring struct {
	app *app
	set *configs.Settings
	// vendor is where the KSC connection comes from when the settings have none.
	vendor *configs.Vendor
	log    *slog.Logger
	self   bridge.Identity
	hold   *bridge.HoldSwitch

	secrets *secrets.Store
	store   *store.Store
	agent   *localagent.Agent // of this process, see openAgent
	// resident says that this process goes on: its agent accepts long work and tells later.
	resident bool
	servers  map[string]*ksc.Executor // by profile; the only one has the empty profile
	guard    *bridge.Guard
	ingress  *api.Ingress
	core     *kuma.Client
	rules    []byte // digest of the rule files read last
	look     bool   // the verb changes nothing
	meter    *api.Meter
	// anchored hears of each anchor; nil = nobody does.
	anchored func(seq int64)
	hosts    atomic.Int64 // known hosts, as KSC counted them; 0 = not known
	closers  []func()
}

// open reads the settings for a verb that ends soon: its result says it all, logs are for -v.
func (a *app) open() (*wiring, error) {
	w, err := a.openServing()
	if err == nil {
		w.log = a.logger(slog.LevelError)
	}
	return w, err
}

// openServing reads the settings for a verb that goes on; nothing else is touched yet.
func (a *app) openServing() (*wiring, error) {
	set, vendor, err := a.settings()
	if err != nil {
		return nil, err
	}
	return &wiring{app: a, set: set, vendor: vendor, log: a.loggerAs(logLevel(set), set.Log.Format), self: identity(), hold: &bridge.HoldSwitch{}}, nil
}

// settings reads the settings file and, ranking below it, the connection variables of the vendor's scripts.
func (a *app) settings() (*configs.Settings, *configs.Vendor, error) {
	invalid := func(err error) error { return fail(exitConfig, "config.invalid", err, "edr-bridge config check") }
	path, err := configs.Find(a.config, a.env)
	if err != nil {
		return nil, nil, invalid(err)
	}
	set, err := configs.Load(path, a.env)
	if err != nil {
		return nil, nil, invalid(err)
	}
	vendor, err := configs.VendorEnv(a.env)
	if err != nil {
		return nil, nil, invalid(err)
	}
	if hasKSC(set) {
		vendor = nil
	}
	return set.WithVendor(vendor), vendor, nil
}

func logLevel(set *configs.Settings) slog.Level {
	var level slog.Level
	if err := level.UnmarshalText([]byte(set.Log.Level)); err != nil {
		return slog.LevelInfo
	}
	return level
}

func (w *wiring) close() {
	for _, f := range slices.Backward(w.closers) {
		f()
	}
	w.closers = nil
}

func (w *wiring) onClose(f func()) { w.closers = append(w.closers, f) }

// openSecrets opens the secrets; it does not ask the back-end yet.
func (w *wiring) openSecrets() (*secrets.Store, error) {
	if w.secrets != nil {
		return w.secrets, nil
	}
	s := w.set.Secrets
	credentials, _ := w.app.env("CREDENTIALS_DIRECTORY")
	st, err := secrets.Open(secrets.Config{
		Backend: secrets.Backend(s.Backend), Dir: s.Dir, KeyctlScope: s.KeyctlScope, PassphraseFile: s.PassphraseFile,
		Passphrase: w.app.askPassphrase(), CredentialsDirectory: credentials, Logger: w.log,
	})
	if err != nil {
		return nil, fail(exitConfig, "config.secrets", err, "edr-bridge config check")
	}
	w.secrets = st
	return st, nil
}

// secret returns a function that asks for the secret each time: a rotated one is picked up.
func (w *wiring) secret(ref configs.SecretRef) (func(context.Context) ([]byte, error), error) {
	if ref == "" {
		return nil, nil
	}
	parsed, err := secrets.ParseRef(string(ref))
	if err != nil {
		return nil, fail(exitConfig, "config.secrets", err, "")
	}
	st, err := w.openSecrets()
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) ([]byte, error) {
		value, err := st.Get(ctx, parsed)
		if err != nil {
			return nil, err
		}
		return value.Reveal(), nil
	}, nil
}

// router opens the executors; the second result is KSC's, nil without KSC.
func (w *wiring) router() (bridge.Router, bridge.Server, error) {
	router := bridge.Router{Self: w.self, Fallback: w.set.Fallback == configs.FallbackLocal}
	local, err := w.openLocal()
	if err != nil {
		return router, nil, err
	}
	if local != nil {
		router.Local, router.Processes = local, local
	}
	server, err := w.openKSC()
	if err != nil {
		return router, nil, err
	}
	if server != nil {
		router.KSC = server
	}
	return router, server, nil
}

// openPipeline puts the parts together; st may be a store that somebody watches.
func (w *wiring) openPipeline(mapper bridge.Mapper, st bridge.Store) (*bridge.Pipeline, error) {
	guard, err := w.openGuard()
	if err != nil {
		return nil, err
	}
	router, server, err := w.router()
	if err != nil {
		return nil, err
	}
	cfg := bridge.PipelineConfig{Mapper: mapper, Store: st, Guard: guard, Router: router, GiveUp: w.set.GiveUp, Logger: w.log}
	if w.meter != nil {
		cfg.Meter = w.meter
	}
	if server != nil {
		for _, k := range w.set.Servers() {
			cfg.InFlight, cfg.Settle = max(cfg.InFlight, k.InFlight), max(cfg.Settle, k.SettleTime)
		}
	}
	return bridge.NewPipeline(cfg)
}

// actor names who sits at the command line.
func actor() string {
	user := strings.TrimSpace(currentUser())
	if user == "" {
		return "cli"
	}
	return "cli:" + user
}
