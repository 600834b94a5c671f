package configs

import (
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// Settings is everything a user can set. It is read by Load or made by Default, checked, and does not change.
type Settings struct {
	// Version is the form of this file. It must be 1.
	Version int `yaml:"version" jsonschema:"required,enum=1"`
	// Mode is the ceiling for the mode of every rule: off, shadow (default), approve or enforce.
	Mode bridge.Mode `yaml:"mode" jsonschema:"enum=off,enum=shadow,enum=approve,enum=enforce"`
	// Sources are where alerts come from, by name.
	Sources map[string]*Source `yaml:"sources,omitempty"`
	// KSC is the Kaspersky Security Center that carries tasks out. Without it the local agent does, on this machine.
	KSC *KSC `yaml:"ksc,omitempty"`
	// Profiles are several of them by name, as ksc: {main: {...}, branch: {...}}; KSC is nil then, and hosts are addressed as
	// HOST@PROFILE.
	Profiles map[string]*KSC `yaml:"-"`
	// Tenants are the profiles of KSC for the alerts of a tenant, by the tenant's id. Alerts of other tenants are refused.
	Tenants map[string]string `yaml:"tenants,omitempty"`
	// KUMA is the core that is asked for alerts and events and told about outcomes.
	KUMA *KUMA `yaml:"kuma,omitempty"`
	// HTTP is the listener of sources that products call.
	HTTP HTTP `yaml:"http"`
	// Presets are files with presets besides the built-in ones: paths or globs, relative to this file.
	Presets []string `yaml:"presets,omitempty"`
	// Fallback says what happens when KSC cannot be reached: none (default, orders wait) or local (the local agent takes
	// over orders for this machine).
	Fallback Fallback `yaml:"fallback" jsonschema:"enum=none,enum=local"`
	// Local is the agent that carries orders out on this machine.
	Local Local `yaml:"local"`
	// Sensor watches the processes of this machine, for sources of type sensor and for `edr-bridge sensor`.
	Sensor Sensor `yaml:"sensor"`
	// Protect lists what is never touched, besides the built-in entries.
	Protect Protect `yaml:"protect"`
	// Rules are the rule files: paths or globs, relative to this file.
	Rules []string `yaml:"rules,omitempty"`
	// MaxAge is how old an alert may be when its order begins: by task, pid for orders about a process id (default 60s)
	// and default for all others (15m).
	MaxAge map[string]time.Duration `yaml:"max_age"`
	// Dedupe is the window for rules that do not name their own.
	Dedupe Dedupe `yaml:"dedupe"`
	// Limits are the budgets. Default: isolateHost 5 per 1h; [] = none.
	Limits []Limit `yaml:"limits" jsonschema:"maxItems=100"`
	// Inventory is what is known about the machines.
	Inventory Inventory `yaml:"inventory"`
	// Approvals says which orders wait for a person.
	Approvals Approvals `yaml:"approvals"`
	// Hours are the spans of the week in which rules may act with a task. Default: none, at any time.
	Hours []Hours `yaml:"hours,omitempty" jsonschema:"maxItems=100"`
	// Damping keeps a host from being isolated and released by turns.
	Damping Damping `yaml:"damping"`
	// Undo watches how often people take back what rules did.
	Undo Undo `yaml:"undo"`
	// Leases says how isolations end.
	Leases Leases `yaml:"leases"`
	// GiveUp is how long the search for the outcome of an order may go on before it ends as unknown, 1m to 24h. Default 30m.
	GiveUp time.Duration `yaml:"give_up"`
	// Audit says how the audit chain is sealed and how long it is kept.
	Audit Audit `yaml:"audit"`
	// Metrics is about the page with metrics and health.
	Metrics Metrics `yaml:"metrics"`
	// API is about the control socket of a running bridge.
	API API `yaml:"api"`
	// Secrets says where the references beginning with secret: lead.
	Secrets Secrets `yaml:"secrets"`
	// Log is about the program's own log on stderr.
	Log Log `yaml:"log"`

	places places
}

// Fallback says who carries out what KSC could not be reached for.
type Fallback string

// The fallbacks.
const (
	FallbackNone  Fallback = "none"
	FallbackLocal Fallback = "local"
)

// Protect are the never-touch lists.
type Protect struct {
	// Hosts are names, globs, addresses and networks: dc*, ksc01, 10.0.5.0/24.
	Hosts []string `yaml:"hosts,omitempty"`
	// Processes are names or globs of image files: klnagent.
	Processes []string `yaml:"processes,omitempty"`
	// Paths are absolute paths or globs, ** for any depth: /etc/**.
	Paths []string `yaml:"paths,omitempty"`
	// Addresses are addresses and networks that are never blocked.
	Addresses []string `yaml:"addresses,omitempty"`
}

// Dedupe is the default of the rules' dedupe.
type Dedupe struct {
	// For is the window in which an order that another one covers is a duplicate, 0s (no window) to 720h. Default 15m.
	For time.Duration `yaml:"for"`
}

// Secrets says where secrets are kept beside systemd credentials.
type Secrets struct {
	// Backend is file (default), keyctl, secret-service, pass, keychain, or wincred (default on Windows).
	Backend string `yaml:"backend" jsonschema:"enum=file,enum=keyctl,enum=secret-service,enum=pass,enum=wincred,enum=keychain"`
	// Dir is the directory of the file back-end: absolute or relative to this file. Default: secrets below local.state.
	Dir string `yaml:"dir,omitempty"`
	// PassphraseFile holds the passphrase of the file back-end in one line; only its owner may read it.
	PassphraseFile string `yaml:"passphrase_file,omitempty"`
	// KeyctlScope is user (default) or session, for keyctl.
	KeyctlScope string `yaml:"keyctl_scope,omitempty" jsonschema:"enum=user,enum=session"`
}

// Log is about the program's own log.
type Log struct {
	// Level is debug, info (default), warn or error.
	Level string `yaml:"level" jsonschema:"enum=debug,enum=info,enum=warn,enum=error"`
	// Format is auto (default: text on a terminal, else json), text or json.
	Format string `yaml:"format" jsonschema:"enum=auto,enum=text,enum=json"`
}

// SecretRef names a secret, such as secret:ksc/password; empty = none. It is not the secret and may be printed.
type SecretRef string

// MaxAgeOf returns the ages set for single tasks, for the guard.
func (s *Settings) MaxAgeOf() map[bridge.Kind]time.Duration {
	ages := make(map[bridge.Kind]time.Duration)
	for _, k := range bridge.Kinds() {
		if age, ok := s.MaxAge[string(k)]; ok {
			ages[k] = age
		}
	}
	return ages
}

// ProtectConfig returns the never-touch lists with the place of each entry.
func (s *Settings) ProtectConfig() bridge.ProtectConfig {
	list := func(name string, patterns []string) []bridge.ProtectEntry {
		entries := make([]bridge.ProtectEntry, 0, len(patterns))
		for i, p := range patterns {
			entries = append(entries, bridge.ProtectEntry{Pattern: p, At: s.At(index("protect."+name, i))})
		}
		return entries
	}
	return bridge.ProtectConfig{
		Hosts: list("hosts", s.Protect.Hosts), Processes: list("processes", s.Protect.Processes),
		Paths: list("paths", s.Protect.Paths), Addresses: list("addresses", s.Protect.Addresses),
	}
}
