package configs

import (
	"fmt"
	"strings"
)

// place is where a setting was set: in a file, or by an environment variable.
type place struct {
	line, column       int // of the value
	keyLine, keyColumn int // of the key, 0 for an item of a list
	env                string
}

// places knows where the settings come from.
type places struct {
	// file is the path as it was given, dir its directory as given, base the absolute one; all empty without a file.
	file, dir, base string
	at              map[string]place
}

func (p places) has(path string) bool { _, ok := p.at[path]; return ok }

// nearest returns the place of the setting or of the one it would stand in.
func (p places) nearest(path string) (place, bool) {
	for {
		if at, ok := p.at[path]; ok {
			return at, true
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return place{line: 1, column: 1}, false
		}
		path = path[:i]
	}
}

// At returns where the setting with the path ("mode", "protect.hosts[0]") was made: "edr-bridge.yaml:6", the name of an
// environment variable, or "default". For a path that is not set it is the place of what encloses it.
func (s *Settings) At(path string) string {
	at, ok := s.places.nearest(path)
	switch {
	case !ok:
		return "default"
	case at.env != "":
		return at.env
	case at.keyLine > 0:
		return fmt.Sprintf("%s:%d", s.places.file, at.keyLine)
	default:
		return fmt.Sprintf("%s:%d", s.places.file, at.line)
	}
}

// File returns the path Load was given, empty without a file.
func (s *Settings) File() string { return s.places.file }

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func index(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }
