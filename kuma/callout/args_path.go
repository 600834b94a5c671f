package callout

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const argsMaxHost = 253 // characters, the longest domain name (RFC 1035 §2.3.4 without the root)

// file reads the option of one path; "" when there is none or it is bad.
func (p *argsParser) file(option string) string {
	word, ok := p.one(option)
	if !ok {
		return ""
	}
	return p.checkPath(option, word)
}

func (p *argsParser) checkPath(option, word string) string {
	path := argsSingleSeparators(word)
	if err := bridge.CheckPath(path); err != nil {
		hint := ""
		switch {
		case argsEaten(path):
			hint = `KUMA took the backslashes for its own: double them, or use --event-id "{{.ID}}"`
		case strings.ContainsAny(word[:1], `"'`):
			hint = "the quotes arrived as part of the value: leave them out"
		}
		p.fail(option, Excerpt(word), "--"+option+" "+err.Error(), hint)
		return ""
	}
	return path
}

// argsSingleSeparators undoes the doubling of backslashes on the way through KUMA and a shell. The two in front of a share stay.
func argsSingleSeparators(path string) string {
	share := strings.HasPrefix(path, `\\`)
	if !share && !argsHasDrive(path) {
		return path
	}
	for strings.Contains(path, `\\`) {
		path = strings.ReplaceAll(path, `\\`, `\`)
	}
	if share {
		path = `\` + path
	}
	return path
}

func argsHasDrive(path string) bool {
	return len(path) >= 2 && path[1] == ':' && 'a' <= path[0]|' ' && path[0]|' ' <= 'z'
}

func argsEaten(path string) bool {
	return argsHasDrive(path) && (len(path) == 2 || path[2] != '\\' && path[2] != '/')
}

// argsAbsolute reports whether a word begins as an absolute path does, backslashes eaten or not.
func argsAbsolute(word string) bool {
	return strings.HasPrefix(word, "/") || strings.HasPrefix(word, `\\`) || argsHasDrive(word)
}

// folders reads the paths of a scan: each word is one, and a word is split at its spaces only where every part is absolute
// itself. (The vendor's page: "space-separated list", yet names hold spaces.)
func (p *argsParser) folders() []string {
	words, given := p.line.words[optPath]
	if !given {
		return nil
	}
	if words.cut || len(words.list) == 0 {
		p.empty(optPath, words)
		return nil
	}
	var paths []string
	for i, word := range words.list {
		if argsEmpty(word) {
			p.empty(optPath, argsWords{list: []string{word}})
			return nil
		}
		if err := argsCheckValue(word); err != nil {
			p.fail(optPath, Excerpt(word), "--path "+err.Error(), "")
			return nil
		}
		if i > 0 && !argsAbsolute(word) {
			p.fail(optPath, Excerpt(word), "a word behind --path is no path of its own", `quote the template: --path "{{…}}"`)
			return nil
		}
		for _, part := range argsSplitPaths(word) {
			path := p.checkPath(optPath, part)
			if path == "" {
				return nil
			}
			paths = append(paths, path)
		}
	}
	return paths
}

func argsSplitPaths(word string) []string {
	parts := strings.Split(word, " ")
	for _, part := range parts {
		if !argsAbsolute(part) {
			return []string{word}
		}
	}
	return parts
}

// host reads the endpoint; it may be left to the event.
func (p *argsParser) host(fromEvent bool) string {
	word, ok := p.one(optHost)
	if !ok {
		if !fromEvent {
			p.required(optHost)
		}
		return ""
	}
	if err := argsCheckHost(word); err != nil {
		p.fail(optHost, Excerpt(word), "--targetHost "+err.Error(), "want one name, GUID or address")
		return ""
	}
	return word
}

// argsCheckHost refuses what cannot be the name of one other machine: wildcards and what a search filter could read, loopback
// names, lists, and numbers some resolvers take for an address (inet_aton(3)). A profile of the settings may follow (host@branch).
func argsCheckHost(host string) error {
	name, profile, profiled := strings.Cut(host, "@")
	if profiled && (profile == "" || strings.Trim(strings.ToLower(profile), "abcdefghijklmnopqrstuvwxyz0123456789-_") != "") {
		return errors.New("names no profile behind @")
	}
	if name == "" || utf8.RuneCountInString(name) > argsMaxHost {
		return fmt.Errorf("has %d characters, want 1 to %d", utf8.RuneCountInString(name), argsMaxHost)
	}
	if addr, err := netip.ParseAddr(name); err == nil {
		addr = addr.Unmap()
		if addr.Zone() != "" || addr.IsLoopback() || addr.IsUnspecified() || addr.IsMulticast() {
			return errors.New("is not the address of one machine")
		}
		return nil
	}
	for _, r := range name {
		if !unicode.In(r, unicode.L, unicode.M) && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.' {
			return fmt.Errorf("holds %s, which no host name has", Excerpt(string(r)))
		}
	}
	bare := strings.ToLower(strings.TrimSuffix(name, "."))
	last := bare[strings.LastIndexByte(bare, '.')+1:]
	switch {
	case name[0] == '-':
		return errors.New("begins with a dash, as options do")
	case last == "" || strings.Contains(bare, "..") || strings.HasPrefix(bare, "."):
		return errors.New("has an empty part")
	case last == "localhost", last == "localdomain", bare == "ip6-localhost", bare == "ip6-loopback":
		return errors.New("is every machine's own name")
	case strings.Trim(last, "0123456789") == "":
		return errors.New("is neither a name nor an address")
	case strings.HasPrefix(last, "0x") && strings.Trim(last[2:], "0123456789abcdef") == "":
		return errors.New("is neither a name nor an address")
	default:
		return nil
	}
}
