package mapping

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// RuleFile is one file with rules, already read.
type RuleFile struct {
	// Name is the path as it is shown to people, Data the YAML text of at most 1 MiB.
	Name string
	Data []byte
}

// Source says how the documents of one source are read.
type Source struct {
	// Preset is the name of a preset; see Presets.
	Preset string
	// Host stands in for the host of alerts that name none; empty = orders of such alerts are refused.
	// For a source that reports about this machine the caller puts this machine's own name here.
	Host string
	// Tasks are the tasks alerts of this source may lead to; nil = all, empty = none.
	Tasks []bridge.Kind
}

// Config is what a Mapping is made of.
type Config struct {
	// Files are compiled in the given order, which is also the order of the orders of one alert.
	Files []RuleFile
	// Sources are the sources by their name in the settings.
	Sources map[string]Source
	// Ceiling bounds the mode of every rule; empty = shadow.
	Ceiling bridge.Mode
	// Window is the dedupe window of rules that do not name their own; 0 = 10 min, negative = none.
	Window time.Duration
	// Lease is how long an isolation lasts whose rule does not say `for` (leases.default of the settings):
	// 1s to 720h; 0 = 4h.
	Lease time.Duration
	// Location is the zone of times that a preset declares local; nil = time.Local.
	Location *time.Location
}

// source is a Source ready for use.
type source struct {
	Source
	preset *preset
	tree   *tree
}

// Mapping turns documents into alerts and orders. It never changes and may be used by many goroutines.
type Mapping struct {
	sources  map[string]*source
	rules    []*rule
	rawCount int
	ceiling  bridge.Mode
	location *time.Location
}

var _ bridge.Mapper = (*Mapping)(nil)

// New compiles presets and rules. It does no I/O. Mistakes in rule files come all at once as a *LoadError,
// mistakes in sources as plain errors that name the setting, both joined.
func New(cfg Config) (*Mapping, error) {
	m := &Mapping{sources: map[string]*source{}, ceiling: cfg.Ceiling, location: cfg.Location}
	if m.location == nil {
		m.location = time.Local
	}
	window := cfg.Window
	switch {
	case window == 0:
		window = defaultWindow
	case window < 0:
		window = 0
	}
	l := newLoader(window, cmp.Or(cfg.Lease, defaultIsolation))
	var problems []Problem
	for _, f := range cfg.Files {
		problems = append(problems, l.load(f)...)
	}
	var errs []error
	if len(problems) > 0 {
		sortProblems(problems)
		errs = append(errs, &LoadError{Problems: problems})
	}
	m.rules, m.rawCount = l.rules, len(l.rawPaths)
	for _, name := range slices.Sorted(maps.Keys(cfg.Sources)) {
		s, err := newSource(name, cfg.Sources[name], l.rawPaths)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		m.sources[name] = s
	}
	if cfg.Ceiling != "" {
		if _, err := bridge.ParseMode(string(cfg.Ceiling)); err != nil {
			errs = append(errs, fmt.Errorf("mode: %w", err))
		}
	}
	if l.lease < minFor || l.lease > maxFor {
		errs = append(errs, fmt.Errorf("leases.default: must be from %s to %s, not %s", minFor, hours(maxFor), l.lease))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return m, nil
}

func newSource(name string, cfg Source, rawPaths []string) (*source, error) {
	s := &source{Source: cfg, preset: compiledPreset(cfg.Preset)}
	s.Tasks = slices.Clone(cfg.Tasks)
	if s.preset == nil {
		return nil, fmt.Errorf("sources.%s.preset: unknown preset %q%s", name, cfg.Preset, bridge.DidYouMean(cfg.Preset, presetNames()))
	}
	if cfg.Host != "" {
		if err := checkHost(cfg.Host); err != nil {
			return nil, fmt.Errorf("sources.%s.host: %w", name, err)
		}
	}
	for _, k := range cfg.Tasks {
		if _, err := bridge.ParseKind(string(k)); err != nil {
			return nil, fmt.Errorf("sources.%s.tasks: %w", name, err)
		}
	}
	s.tree = newTree(s.preset.rows, rawPaths)
	return s, nil
}

// Map reads the document of raw and returns its alert with the orders of every rule that applies, in the
// order of the files. raw.Source names a source of the Config and raw.Received must be set: without it no
// time can be judged. raw is not changed; Raw is shared with the result. The error wraps bridge.ErrBadAlert
// when the document is unreadable and names the field; for an unknown source it does not.
func (m *Mapping) Map(raw bridge.Alert) ([]bridge.Mapped, error) {
	src := m.sources[raw.Source]
	if src == nil {
		return nil, fmt.Errorf("map alert: no source is called %q", raw.Source)
	}
	out := make([]bridge.Mapped, 1)
	v := view{alert: &out[0].Alert, raw: make([][]value, m.rawCount)}
	if err := m.read(raw, src, &v); err != nil {
		return nil, fmt.Errorf("%w: preset %s: %w", bridge.ErrBadAlert, src.preset.name, err)
	}
	for _, r := range m.rules {
		mode := r.mode.Under(m.ceiling)
		if mode != bridge.ModeOff && r.holds(&v) {
			r.orders(&out[0], &v, mode, src)
		}
	}
	return out, nil
}

// read fills in the alert and the raw values of v.
func (m *Mapping) read(raw bridge.Alert, src *source, v *view) error {
	if len(raw.Raw) > maxDocument {
		return fmt.Errorf("the document is larger than %d bytes", maxDocument)
	}
	if err := bridge.CheckJSON(raw.Raw); err != nil {
		return err
	}
	a := v.alert
	a.Source, a.Preset, a.Received, a.Raw = raw.Source, src.preset.name, raw.Received, raw.Raw
	r := reader{doc: raw.Raw, preset: src.preset, alert: a, raw: v.raw}
	if err := r.read(src.tree); err != nil {
		return err
	}
	if a.ID == "" {
		sum := sha256.Sum256(raw.Raw)
		a.ID = "d" + hex.EncodeToString(sum[:16])
	}
	if a.Host == "" {
		a.Host = src.Host
	}
	var local *time.Location
	if src.preset.naive {
		local = m.location
	}
	a.Time = alertTime(r.clock, local, raw.Received)
	derive(a)
	return nil
}

// Rules describes the rules in the order in which they are asked. The result is the caller's.
func (m *Mapping) Rules() []RuleInfo {
	infos := make([]RuleInfo, 0, len(m.rules))
	for _, r := range m.rules {
		info := RuleInfo{Name: r.name, File: r.file, Line: r.line, Mode: r.mode.Under(m.ceiling)}
		for _, s := range r.steps {
			info.Tasks = append(info.Tasks, s.kind)
		}
		infos = append(infos, info)
	}
	return infos
}
