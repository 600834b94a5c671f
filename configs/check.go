package configs

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	maxSources = 64
	maxRules   = 100
	maxGrace   = time.Minute
	maxWindow  = 30 * 24 * time.Hour
)

// checker looks at decoded settings. It is silent about what could not be decoded.
type checker struct {
	s        *Settings
	problems []Problem
	hidden   []span
	// later says that the connection to KSC comes from the environment of Kaspersky's scripts, see WithVendor.
	later bool
}

func (c *checker) all() {
	s := c.s
	if !s.places.has("version") && s.places.file != "" {
		c.bad("version", "required: the file begins with version: 1")
	} else if s.Version != settingsVersion {
		c.bad("version", "must be 1, not %d", s.Version)
	}
	oneOf(c, "mode", s.Mode, bridge.ModeOff, bridge.ModeShadow, bridge.ModeApprove, bridge.ModeEnforce)
	oneOf(c, "fallback", s.Fallback, FallbackNone, FallbackLocal)
	oneOf(c, "secrets.backend", s.Secrets.Backend, "file", "keyctl", "secret-service", "pass", "wincred", "keychain")
	if s.Secrets.KeyctlScope != "" {
		oneOf(c, "secrets.keyctl_scope", s.Secrets.KeyctlScope, "user", "session")
	}
	oneOf(c, "log.level", s.Log.Level, "debug", "info", "warn", "error")
	oneOf(c, "log.format", s.Log.Format, "auto", "text", "json")
	if s.Fallback == FallbackLocal && !s.Local.Enabled {
		c.bad("fallback", "local needs local.enabled: true")
	}
	c.local()
	c.sensor()
	between(c, "dedupe.for", s.Dedupe.For, 0, maxWindow)
	c.maxAge()
	c.limits()
	c.hours()
	c.policy()
	c.audit()
	c.metrics()
	c.api()
	c.protect()
	c.rules()
	c.servers()
	c.kuma()
	c.http()
	if len(s.Sources) > maxSources {
		c.bad("sources", "must be %d at most", maxSources)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Sources)) {
		c.source(name, s.Sources[name])
	}
	files := s.files()
	for _, path := range slices.Sorted(maps.Keys(files)) {
		// What lies in the state directory has the problem of local.state, not one of its own.
		if value := *files[path]; value != "" && !filepath.IsAbs(value) && (s.places.has(path) || path == "local.state") {
			c.bad(path, "must be an absolute path")
		}
	}
}

func (c *checker) maxAge() {
	known := []string{maxAgePID, maxAgeAny}
	for _, k := range bridge.Kinds() {
		known = append(known, string(k))
	}
	for _, key := range slices.Sorted(maps.Keys(c.s.MaxAge)) {
		path := join("max_age", key)
		if !slices.Contains(known, key) {
			c.badKey(path, "unknown task%s", bridge.DidYouMean(key, known))
			continue
		}
		between(c, path, c.s.MaxAge[key], time.Second, maxWindow)
	}
}

func (c *checker) protect() {
	if _, err := bridge.NewProtect(c.s.ProtectConfig()); err == nil {
		return
	}
	// One entry at a time, to put each problem at its place.
	p := c.s.ProtectConfig()
	one := func(list string, entries []bridge.ProtectEntry, cfg func(bridge.ProtectEntry) bridge.ProtectConfig) {
		for i, e := range entries {
			e.At = ""
			if _, err := bridge.NewProtect(cfg(e)); err != nil {
				c.bad(index("protect."+list, i), "%s", strings.TrimPrefix(err.Error(), "protect."+list+": "))
			}
		}
	}
	wrap := func(e bridge.ProtectEntry) []bridge.ProtectEntry { return []bridge.ProtectEntry{e} }
	one("hosts", p.Hosts, func(e bridge.ProtectEntry) bridge.ProtectConfig { return bridge.ProtectConfig{Hosts: wrap(e)} })
	one("processes", p.Processes, func(e bridge.ProtectEntry) bridge.ProtectConfig { return bridge.ProtectConfig{Processes: wrap(e)} })
	one("paths", p.Paths, func(e bridge.ProtectEntry) bridge.ProtectConfig { return bridge.ProtectConfig{Paths: wrap(e)} })
	one("addresses", p.Addresses, func(e bridge.ProtectEntry) bridge.ProtectConfig { return bridge.ProtectConfig{Addresses: wrap(e)} })
}

func (c *checker) rules() {
	for setting, patterns := range map[string][]string{"rules": c.s.Rules, "presets": c.s.Presets} {
		if len(patterns) > maxRules {
			c.bad(setting, "must be %d patterns at most", maxRules)
		}
		for i, pattern := range patterns {
			if _, err := filepath.Match(pattern, ""); err != nil {
				c.bad(index(setting, i), "is no pattern: brackets must be closed")
			}
		}
	}
}

// bad adds a problem at the place of the setting, unless there is one at it or inside it already.
func (c *checker) bad(path, format string, args ...any) {
	for _, p := range c.problems {
		if rest, ok := strings.CutPrefix(p.Path, path); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return
		}
	}
	p := Problem{Path: path, Message: fmt.Sprintf(format, args...)}
	at, found := c.s.places.nearest(path)
	switch {
	case at.env != "":
		p.File = at.env
	case found || c.s.places.file != "":
		p.File, p.Line, p.Column = c.s.places.file, at.line, at.column
	}
	c.problems = append(c.problems, p)
}

// badKey adds a problem at the key of the setting.
func (c *checker) badKey(path, format string, args ...any) {
	c.bad(path, format, args...)
	last := &c.problems[len(c.problems)-1]
	if at := c.s.places.at[path]; last.Path == path && at.keyLine > 0 {
		last.Line, last.Column = at.keyLine, at.keyColumn
	}
}

func (c *checker) require(path string, ok bool, hint string) bool {
	if !ok {
		c.bad(path, "required: %s", hint)
	}
	return ok
}

func oneOf[T ~string](c *checker, path string, got T, want ...T) {
	if slices.Contains(want, got) {
		return
	}
	names := make([]string, 0, len(want))
	for _, w := range want {
		names = append(names, string(w))
	}
	last := len(names) - 1
	list := names[last]
	if last > 0 {
		list = strings.Join(names[:last], ", ") + " or " + list
	}
	c.bad(path, "must be %s, not %s%s", list, quoted(string(got)), bridge.DidYouMean(string(got), names))
}

func between[T int | time.Duration | Size](c *checker, path string, got, low, high T) {
	if got < low || got > high {
		c.bad(path, "must be %v to %v, not %v", show(low), show(high), show(got))
	}
}
