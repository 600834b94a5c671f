package main

import (
	"context"
	"fmt"
	"os"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/configs"
	"github.com/edr-bridge/edr-bridge/ksc"
)

// hasKSC reports whether the settings name a KSC, or several.
func hasKSC(set *configs.Settings) bool { return set.KSC != nil || len(set.Profiles) > 0 }

// openKSC makes clients and executors of the configured KSC servers; nil when there is none. Nothing is dialled.
func (w *wiring) openKSC() (bridge.Server, error) {
	if !hasKSC(w.set) {
		return nil, nil
	}
	if w.servers == nil {
		servers := map[string]*ksc.Executor{}
		for profile, k := range w.set.Servers() {
			exec, err := w.openServer(profile, k)
			if err != nil {
				return nil, err
			}
			servers[profile] = exec
		}
		w.servers = servers
	}
	if only := w.servers[""]; only != nil {
		return only, nil
	}
	several := bridge.Servers{}
	for profile, exec := range w.servers {
		several[profile] = exec
	}
	return several, nil
}

// kscPath is where the settings of a profile stand.
func kscPath(profile string) string {
	if profile == "" {
		return "ksc"
	}
	return "ksc." + profile
}

func (w *wiring) openServer(profile string, k *configs.KSC) (*ksc.Executor, error) {
	invalid := func(err error, hint string) error {
		return fail(exitConfig, "config.ksc", fmt.Errorf("%s: %w", kscPath(profile), err), hint)
	}
	log := w.log
	if profile != "" {
		log = log.With("ksc", profile)
	}
	password, err := w.kscPassword(k)
	if err != nil {
		return nil, err
	}
	var ca []byte
	if k.CA != "" {
		if ca, err = os.ReadFile(k.CA); err != nil {
			return nil, fail(exitConfig, "config.ksc.ca", fmt.Errorf("%s.ca: %w", kscPath(profile), err), "copy klserver.cer from the Administration Server")
		}
	}
	client, err := ksc.New(ksc.Config{
		Address: k.Address, CA: ca, Fingerprints: k.Fingerprints, SystemRoots: k.SystemRoots, Insecure: k.Insecure,
		User: k.User, Domain: k.Domain, DomainBase64: k.DomainEncoding == "base64", Internal: k.Internal,
		VirtualServer: k.VirtualServer, Password: password, Timeout: k.Timeout, InFlight: k.InFlight, Logger: log,
	})
	if err != nil {
		return nil, invalid(err, "edr-bridge config check")
	}
	w.onClose(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		if err := client.Close(ctx); err != nil {
			log.Debug("session was not ended", "err", err)
		}
	})
	groups, err := bridge.NewProtect(w.protect())
	if err != nil {
		return nil, fail(exitConfig, "config.protect", err, "")
	}
	exec, err := ksc.NewExecutor(ksc.ExecutorConfig{Client: client, Groups: groups.NamesGroups(), Logger: log})
	if err != nil {
		return nil, invalid(err, "")
	}
	return exec, nil
}

// kscPassword prefers the stored secret; kscPassword of the environment is what the vendor's scripts read.
func (w *wiring) kscPassword(k *configs.KSC) (func(context.Context) ([]byte, error), error) {
	get, err := w.secret(k.Password)
	if err != nil || w.vendor == nil || w.vendor.Password() == nil {
		return get, err
	}
	return func(ctx context.Context) ([]byte, error) {
		if get != nil {
			if value, err := get(ctx); err == nil {
				return value, nil
			}
		}
		for _, warning := range w.vendor.Warnings {
			w.log.Warn("KSC connection taken from the environment", "detail", warning)
		}
		return w.vendor.Password(), nil
	}, nil
}
