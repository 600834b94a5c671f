package configs

import (
	"iter"
	"maps"
	"slices"
	"strings"
	"time"
)

// KSC says how to reach Kaspersky Security Center over OpenAPI.
type KSC struct {
	// Address is host or host:port of the Administration Server; the port of OpenAPI is 13299.
	Address string `yaml:"address" jsonschema:"required"`
	// CA is a PEM or DER file, relative to this file: klserver.cer, or the authority that signed the server's certificate.
	CA string `yaml:"ca,omitempty"`
	// Fingerprints are SHA-256 or SHA-1 digests of server certificates in hex, colons allowed. The server replaces its
	// certificate after 397 days: list the next one too.
	Fingerprints []string `yaml:"fingerprints,omitempty"`
	// SystemRoots also trusts what the operating system trusts.
	SystemRoots bool `yaml:"system_roots,omitempty"`
	// Insecure checks no certificate: whoever is on the network path learns the password.
	Insecure bool `yaml:"insecure,omitempty"`

	// User is the account, best one of its own.
	User string `yaml:"user" jsonschema:"required"`
	// Password is a reference to the password of the account, default secret:ksc/password.
	Password SecretRef `yaml:"password"`
	// Internal says that User is an internal user of KSC and not an account of the operating system or domain.
	Internal bool `yaml:"internal,omitempty"`
	// Domain is the Windows domain of User.
	Domain string `yaml:"domain,omitempty"`
	// DomainEncoding is plain (default) or base64: servers differ.
	DomainEncoding string `yaml:"domain_encoding" jsonschema:"enum=plain,enum=base64"`
	// VirtualServer is the name of a virtual Administration Server; default the main one.
	VirtualServer string `yaml:"virtual_server,omitempty"`

	// InFlight is how many requests run at once, 1 to 1024; default 16.
	InFlight int `yaml:"in_flight" jsonschema:"minimum=1,maximum=1024"`
	// Timeout bounds one attempt of one call, 1s to 10m; default 30s.
	Timeout time.Duration `yaml:"timeout"`
	// SettleTime is the wait before the second search for an incident whose fate is not known. It must not be shorter
	// than Timeout and is at most 1h; default 60s.
	SettleTime time.Duration `yaml:"settle_time"`
	// Tasks are about the response tasks at KSC.
	Tasks KSCTasks `yaml:"tasks"`
}

// TaskScope says which unfinished tasks are counted together.
type TaskScope string

// The scopes.
const (
	PerServer TaskScope = "server"
	PerHost   TaskScope = "host"
)

// KSCTasks are about the response tasks at KSC. The product keeps 100 and then drops the oldest, finished or not
// (support.kaspersky.com/help/KUMA/3.4, topic 300229).
type KSCTasks struct {
	// Hold is how many unfinished tasks there may be before orders wait, 1 to 100000; default 80.
	Hold int `yaml:"hold" jsonschema:"minimum=1,maximum=100000"`
	// Keep is how many more there may be for isolateHost alone, 0 to 100000; default 15.
	Keep int `yaml:"keep" jsonschema:"minimum=0,maximum=100000"`
	// Per is server (default: all tasks count together) or host (those of each host apart).
	Per TaskScope `yaml:"per" jsonschema:"enum=server,enum=host"`
	// FollowEvery is how often KSC is asked what became of accepted orders, 1s to 1h; default 5s.
	FollowEvery time.Duration `yaml:"follow_every"`
	// FollowFor is how long an accepted order may stay unconfirmed before it ends as unknown, 1m to 720h; default 24h.
	FollowFor time.Duration `yaml:"follow_for"`
}

// servers walks over the only KSC, or over those of the profiles by name, each with its path in the settings.
func (s *Settings) servers() iter.Seq2[string, *KSC] {
	return func(yield func(string, *KSC) bool) {
		if s.KSC != nil && !yield("ksc", s.KSC) {
			return
		}
		for _, name := range slices.Sorted(maps.Keys(s.Profiles)) {
			if k := s.Profiles[name]; k != nil && !yield(join("ksc", name), k) {
				return
			}
		}
	}
}

// Servers walks over the configured KSC servers by profile, in alphabetical order; the only one has the empty profile.
func (s *Settings) Servers() iter.Seq2[string, *KSC] {
	return func(yield func(string, *KSC) bool) {
		for path, k := range s.servers() {
			if _, profile, _ := strings.Cut(path, "."); !yield(profile, k) {
				return
			}
		}
	}
}
