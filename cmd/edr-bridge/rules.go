package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/store"
	"github.com/edr-bridge/edr-bridge/configs"
	"github.com/edr-bridge/edr-bridge/mapping"
)

// openMapping compiles the rules that the settings name.
func (w *wiring) openMapping(ctx context.Context) (*mapping.Mapping, error) {
	return w.compileRules(ctx, w.set)
}

// compileRules compiles the rule files of other settings under the mode, window and sources of these.
func (w *wiring) compileRules(ctx context.Context, of *configs.Settings) (*mapping.Mapping, error) {
	files, err := of.RuleFiles(ctx)
	if err != nil {
		return nil, fail(exitConfig, "rules.invalid", err, "edr-bridge rules check")
	}
	cfg := mapping.Config{Ceiling: w.set.Mode, Window: w.set.Dedupe.For, Lease: w.set.Leases.Default, Sources: map[string]mapping.Source{}, Tenants: w.set.Tenants}
	if cfg.Window == 0 {
		cfg.Window = -1 // the settings say none; unset is a default there
	}
	digest := sha256.New()
	if cfg.Presets, err = w.presetFiles(ctx, of); err != nil {
		return nil, err
	}
	for profile := range w.set.Servers() {
		if profile != "" {
			cfg.Profiles = append(cfg.Profiles, profile)
		}
	}
	for _, f := range cfg.Presets {
		_, _ = fmt.Fprintf(digest, "preset %d:%s%d:", len(f.Name), f.Name, len(f.Data)) // a hash takes everything
		_, _ = digest.Write(f.Data)
	}
	for _, f := range files {
		cfg.Files = append(cfg.Files, mapping.RuleFile{Name: f.Name, Data: f.Data})
		_, _ = fmt.Fprintf(digest, "%d:%s%d:", len(f.Name), f.Name, len(f.Data)) // a hash takes everything
		_, _ = digest.Write(f.Data)
	}
	for name, s := range w.set.Sources {
		src := mapping.Source{Preset: s.Preset, Host: s.Host, Hosts: s.Hosts, Profile: s.KSC}
		if s.Type == configs.KUMAScript {
			src.Preset, src.Direct, src.Mode = "", true, s.Mode
		}
		if s.Host == configs.HostThis {
			src.Host = w.self.Names[0]
		}
		for _, t := range s.Tasks {
			src.Tasks = append(src.Tasks, bridge.Kind(t))
		}
		cfg.Sources[name] = src
	}
	m, err := mapping.New(cfg)
	if err != nil {
		return nil, fail(exitConfig, "rules.invalid", err, "edr-bridge rules check")
	}
	w.rules = digest.Sum(nil)
	return m, nil
}

// presetFiles reads the user's own presets.
func (w *wiring) presetFiles(ctx context.Context, of *configs.Settings) ([]mapping.PresetFile, error) {
	files, err := of.PresetFiles(ctx)
	if err != nil {
		return nil, fail(exitConfig, "presets.invalid", err, "mend the files named by presets: in the settings")
	}
	var presets []mapping.PresetFile
	for _, f := range files {
		presets = append(presets, mapping.PresetFile{Name: f.Name, Data: f.Data})
	}
	return presets, nil
}

// policyDigest is the digest of settings and rules that stands in the audit records.
func (w *wiring) policyDigest() ([]byte, error) {
	digest, err := w.set.Digest()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(append([]byte(digest), w.rules...))
	return sum[:], nil
}

// liveRules is a mapper whose rules can be replaced while alerts flow: an alert meets the old rules or the new ones.
type liveRules struct {
	current atomic.Pointer[mapping.Mapping]
}

// Map maps by the rules of this moment.
func (l *liveRules) Map(raw bridge.Alert) ([]bridge.Mapped, error) { return l.current.Load().Map(raw) }

// awaitReload catches SIGHUP from here on, so that it never ends a bridge that has begun to work.
func awaitReload() (asked chan os.Signal, stop func()) {
	asked = make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGHUP)
	return asked, func() { signal.Stop(asked) }
}

// followReload reads the rules again each time it is asked.
func (w *wiring) followReload(ctx context.Context, st *store.Store, rules *liveRules, asked <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-asked:
			w.reload(ctx, st, rules)
		}
	}
}

// reload replaces the rules whole, or leaves the old ones when the settings or rules are not valid. Everything else
// in the settings takes a restart, because guards, credentials and sources must not change unseen.
func (w *wiring) reload(ctx context.Context, st *store.Store, rules *liveRules) {
	m, set, err := w.readRules(ctx)
	if err == nil {
		err = w.trustAgent(set)
	}
	if w.meter != nil {
		w.meter.Reloaded(err == nil)
	}
	if err != nil {
		w.log.Warn("reload refused, the old rules stay", "err", err)
		return
	}
	if w.otherwiseChanged(set) {
		w.log.Warn("settings beside the rules have changed: they take effect at the next start")
	}
	digest, err := w.policyDigest()
	if err == nil {
		err = st.SetPolicyDigest(ctx, digest)
	}
	if err != nil {
		w.log.Warn("reload refused, the old rules stay: it could not be recorded", "err", err)
		return
	}
	if err := st.Note(ctx, bridge.Note{What: bridge.NoteReload, Actor: actor(), Count: int64(len(m.Rules()))}); err != nil {
		w.log.Warn("reload refused, the old rules stay: it could not be recorded", "err", err)
		return
	}
	rules.current.Store(m)
	w.log.Info("rules reloaded", "rules", len(m.Rules()))
}

// readRules reads settings and rules anew.
func (w *wiring) readRules(ctx context.Context) (*mapping.Mapping, *configs.Settings, error) {
	set, _, err := w.app.settings()
	if err != nil {
		return nil, nil, err
	}
	m, err := w.compileRules(ctx, set)
	return m, set, err
}

// otherwiseChanged reports whether the settings differ in anything but the list of rule files.
func (w *wiring) otherwiseChanged(set *configs.Settings) bool {
	before, after := *w.set, *set
	before.Rules, after.Rules = nil, nil
	was, err := before.Digest()
	if err != nil {
		return true
	}
	is, err := after.Digest()
	return err != nil || was != is
}
