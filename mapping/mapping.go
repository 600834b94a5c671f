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
	// Preset is the name of a preset; see Presets. Of a Direct source it reads the event of a call; empty = kuma.
	Preset string
	// Host stands in for the host of alerts that name none; empty = orders of such alerts are refused.
	// For a source that reports about this machine the caller puts this machine's own name here.
	Host string
	// Tasks are the tasks alerts of this source may lead to; nil = all, empty = none.
	Tasks []bridge.Kind
	// Hosts are the hosts alerts of this source may act on: names with * and ?, addresses, prefixes like 10.0.5.0/24; nil = all.
	Hosts []string
	// Profile is the KSC profile for alerts that name no tenant; empty = orders of such alerts are refused where there are profiles.
	Profile string
	// Direct says that a document is a call for one order and not matched by rules:
	//
	//	{"id":"<unique id of the call>","task":"isolateHost","host":"ws-01","params":{"action":1},"at":"<RFC 3339>",
	//	 "timestamp":<milliseconds since 1970 of the event>,"event_id":"<id of an event to fetch>","event":{…},
	//	 "for":"4h" or "permanent","reason":"<text>"}
	//
	// id, task and at are required, no other keys are taken. params are the vendor's, or all of them texts as
	// bridge.TaskFromParams reads them. What host and params leave out is taken from the alert that Preset makes of the event:
	// the process for terminateProcess, the file for tasks on files, either for preventExecution. Rule of the order is the name
	// of the source, so that mode, budgets, hours and approvals hold for it; At is "sources.<name>"; an isolation lasts Config.Lease unless for says otherwise, and within Config.Window the same task for the same host is a duplicate.
	Direct bool
	// Mode is how far the orders of a Direct source may go, under the ceiling; empty = enforce.
	Mode bridge.Mode
}

// Config is what a Mapping is made of.
type Config struct {
	// Files are compiled in the given order, which is also the order of the orders of one alert.
	Files []RuleFile
	// Presets are the user's own presets, beside those of the bridge.
	Presets []PresetFile
	// Sources are the sources by their name in the settings.
	Sources map[string]Source
	// Profiles are the names of the KSC servers; nil = one server without a name. With profiles every order is addressed to
	// HOST@PROFILE, or refused.
	Profiles []string
	// Tenants gives the profile of a product's tenant id. An alert of a tenant that is not in it is refused, also when its source
	// has a profile.
	Tenants map[string]string
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
	// tree is for a strict preset, trees are the layers of another.
	tree    *tree
	trees   []*tree
	hosts   []hostPattern
	routing *routing
}

// Mapping turns documents into alerts and orders. It never changes and may be used by many goroutines.
type Mapping struct {
	sources  map[string]*source
	rules    []*rule
	rawCount int
	ceiling  bridge.Mode
	window   time.Duration
	lease    time.Duration
	location *time.Location
	presets  shelf
}

var _ bridge.Mapper = (*Mapping)(nil)

// New compiles presets and rules. It does no I/O. Mistakes in preset and rule files come all at once as a *LoadError,
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
	shelf, problems := newShelf(cfg.Presets)
	for _, f := range cfg.Files {
		problems = append(problems, l.load(f)...)
	}
	var errs []error
	if len(problems) > 0 {
		sortProblems(problems)
		errs = append(errs, &LoadError{Problems: problems})
	}
	m.rules, m.rawCount, m.window, m.lease, m.presets = l.rules, len(l.rawPaths), window, l.lease, shelf
	routing, err := newRouting(cfg.Profiles, cfg.Tenants)
	if err != nil {
		errs = append(errs, err)
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Sources)) {
		s, err := newSource(name, cfg.Sources[name], shelf, l.rawPaths)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if s.routing = routing; routing != nil {
			err = routing.check(name, s.Profile)
		} else if s.Profile != "" {
			err = fmt.Errorf("sources.%s.profile: there are no profiles: ksc has one server", name)
		}
		if err != nil {
			errs = append(errs, err)
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

func newSource(name string, cfg Source, presets shelf, rawPaths []string) (*source, error) {
	if cfg.Direct && cfg.Preset == "" {
		cfg.Preset = presetKUMA
	}
	p, err := presets.preset(cfg.Preset)
	if err != nil {
		return nil, fmt.Errorf("sources.%s.preset: %w", name, err)
	}
	s := &source{Source: cfg, preset: p}
	s.Tasks, s.Hosts = slices.Clone(cfg.Tasks), slices.Clone(cfg.Hosts)
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
	for _, text := range cfg.Hosts {
		h, err := newHostPattern(text)
		if err != nil {
			return nil, fmt.Errorf("sources.%s.hosts: %w", name, err)
		}
		s.hosts = append(s.hosts, h)
	}
	if err := s.checkDirect(); err != nil {
		return nil, fmt.Errorf("sources.%s.%w", name, err)
	}
	if p.strict {
		s.tree = newTree(p.rows, nil, rawPaths)
		return s, nil
	}
	for i, raws := range layered(rawPaths, len(p.layers)) {
		s.trees = append(s.trees, newTree(nil, p.layers[i].paths, raws))
	}
	return s, nil
}

// Map reads the document of raw and returns its alerts, each with the orders of every rule that applies, in the order of
// the files. raw.Source names a source of the Config and raw.Received must be set: without it no time can be judged. raw
// is not changed.
//
// A strict preset makes one alert of one JSON object of at most 1 MiB. Other presets read up to 10,000 alerts from
// a delivery of at most 4 MiB: an array, objects one behind the other, lines of CEF, or the elements of a list the preset names.
// What of it cannot be read becomes one refused order without rule and task, whose alert holds its bytes; a document the preset's
// only leaves out becomes nothing, so the result may be empty. Alert ids are unique in a delivery: the product's, else a digest
// of the element, with "#2" and so on behind an id that comes again; the same element twice is one alert.
//
// Alert.Raw shares the memory of raw.Raw. It is the smallest document the preset can read again on its own: the element of
// an array, one of several objects, a line of CEF; alerts from a list inside a document share that document, because what the
// document says around the list belongs to each of them.
//
// The error wraps bridge.ErrBadAlert when nothing in the delivery can be read, and names the field; for an unknown source it
// does not.
func (m *Mapping) Map(raw bridge.Alert) ([]bridge.Mapped, error) {
	src := m.sources[raw.Source]
	if src == nil {
		return nil, fmt.Errorf("map alert: no source is called %q", raw.Source)
	}
	if src.Direct {
		out, err := m.mapDirect(raw, src)
		if err != nil {
			return nil, fmt.Errorf("%w: call: %w", bridge.ErrBadAlert, err)
		}
		return out, nil
	}
	if !src.preset.strict {
		out, err := m.mapMany(raw, src)
		if err != nil {
			return nil, fmt.Errorf("%w: preset %s: %w", bridge.ErrBadAlert, src.preset.name, err)
		}
		return out, nil
	}
	out := make([]bridge.Mapped, 1)
	v := view{alert: &out[0].Alert, raw: make([][]value, m.rawCount)}
	if err := m.read(raw, src, &v); err != nil {
		return nil, fmt.Errorf("%w: preset %s: %w", bridge.ErrBadAlert, src.preset.name, err)
	}
	m.apply(&out[0], &v, src)
	return out, nil
}

// apply adds the orders of every rule that holds.
func (m *Mapping) apply(out *bridge.Mapped, v *view, src *source) {
	for _, r := range m.rules {
		mode := r.mode.Under(m.ceiling)
		if mode != bridge.ModeOff && r.holds(v) {
			r.orders(out, v, mode, src)
		}
	}
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
		a.ID = documentID(raw.Raw)
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

// documentID is the id of an alert whose product gives none.
func documentID(doc []byte) string {
	sum := sha256.Sum256(doc)
	return "d" + hex.EncodeToString(sum[:16])
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
