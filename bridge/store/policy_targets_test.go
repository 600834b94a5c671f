package store_test

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// protected looks whether an effect touches what the settings protect.
func (o *oracle) protected(v verdicts, m int, executor string) {
	if m < 0 {
		return
	}
	host := machines()[m]
	for _, pattern := range o.set.Hosts {
		v.must("protected host", !hostIs(pattern, host, executor), "%s is %s", host.fqdn, pattern)
	}
	switch t := v.order.Task.(type) {
	case bridge.IsolateHost:
		v.must("own host", !host.own || executor == bridge.ExecutorLocal, "the bridge runs there, and KSC would isolate it")
	case bridge.IOCScan:
		v.must("own host", !host.own || !t.IsolateHost || executor == bridge.ExecutorLocal, "the bridge runs there, and a hit through KSC isolates it")
	case bridge.TerminateProcess:
		o.imageFree(v, t.Path, v.order.Subject.Path)
	case bridge.PreventExecution:
		o.imageFree(v, t.Path)
		o.pathFree(v, t.Path, false)
	case bridge.DeleteFile:
		o.pathFree(v, t.Path, t.SearchInSubfolders)
	case bridge.QuarantineFile:
		o.pathFree(v, t.Path, false)
	case bridge.BlockAddress:
		addr, err := netip.ParseAddr(t.Address)
		v.must("protected address", err == nil, "%v", err)
		for _, pattern := range append([]string{"169.254.169.254"}, o.set.Addresses...) {
			v.must("protected address", !addressIs(pattern, addr), "%s is %s", addr, pattern)
		}
	}
}

func addressIs(pattern string, addr netip.Addr) bool {
	if one, err := netip.ParseAddr(pattern); err == nil {
		return one.Unmap() == addr.Unmap()
	}
	prefix, err := netip.ParsePrefix(strings.Replace(pattern, "::ffff:10.0.9.0/120", "10.0.9.0/24", 1))
	return err == nil && prefix.Contains(addr.Unmap())
}

// wild makes a regular expression of a pattern with * and ?.
func wild(pattern, star string) *regexp.Regexp {
	quoted := regexp.QuoteMeta(pattern)
	return regexp.MustCompile("^" + strings.ReplaceAll(strings.ReplaceAll(quoted, `\*`, star), `\?`, ".") + "$")
}

// hostIs reports whether an entry is about the machine, by any name it has.
func hostIs(pattern string, m machine, executor string) bool {
	pattern = strings.TrimSuffix(strings.ToLower(pattern), ".")
	if group, is := strings.CutPrefix(pattern, "group:"); is {
		if m.group == "" {
			return executor == bridge.ExecutorKSC // what cannot be told is refused
		}
		group, path := strings.Trim(group, "/"), strings.ToLower(m.group)
		return wild(group, ".*").MatchString(path) || wild(group+"/*", ".*").MatchString(path)
	}
	if addressIs(pattern, netip.MustParseAddr(m.address)) {
		return true
	}
	re := wild(pattern, ".*")
	return slices.ContainsFunc(m.names(), func(name string) bool { return re.MatchString(strings.ToLower(name)) })
}

// pathOf cuts a path as its system would read it. On Windows letters have one case, a drive comes first.
func pathOf(path string) (parts []string, windows bool) {
	path = strings.TrimPrefix(strings.TrimPrefix(path, `\\?\`), `\\.\`)
	if windows = len(path) > 1 && path[1] == ':'; windows {
		path = strings.ToLower(strings.ReplaceAll(path, `\`, "/"))
	}
	for i, part := range strings.Split(path, "/") {
		if windows && i > 0 {
			part, _, _ = strings.Cut(part, ":")
			part = strings.Replace(strings.TrimRight(part, ". "), "progra~1", "program files", 1)
		}
		switch part {
		case "", ".":
		case "..":
			parts = parts[:max(0, len(parts)-1)]
		default:
			parts = append(parts, part)
		}
	}
	return parts, windows
}

// covers reports whether a path pattern covers the path.
func covers(pattern, path string) bool {
	parts, windows := pathOf(path)
	pattern = strings.ReplaceAll(pattern, `\`, "/")
	drive := len(pattern) > 1 && pattern[1] == ':'
	if windows {
		pattern = strings.ToLower(pattern)
	} else if drive {
		return false
	}
	if windows != drive && !strings.HasPrefix(pattern, "**/") {
		return false
	}
	return coversParts(strings.Split(strings.Trim(pattern, "/"), "/"), parts)
}

func coversParts(pattern, parts []string) bool {
	switch {
	case len(pattern) == 0:
		return len(parts) == 0
	case pattern[0] == "**":
		return coversParts(pattern[1:], parts) || len(parts) > 0 && coversParts(pattern, parts[1:])
	default:
		return len(parts) > 0 && wild(pattern[0], ".*").MatchString(parts[0]) && coversParts(pattern[1:], parts[1:])
	}
}

// builtInPaths and builtInImages are what no setting can lift, as far as the alerts of the plans come near it.
func builtInPaths() []string {
	return []string{"?:/Windows/System32/**", "?:/Program Files/Kaspersky Lab/**", "/usr/bin/**", "/etc/shadow", "/bin/**", "/usr/lib/**"}
}

func builtInImages() []string {
	return []string{"?:/Windows/System32/lsass.exe", "?:/Program Files/Kaspersky Lab/**", "/usr/sbin/sshd", "/usr/lib/systemd/systemd"}
}

// treasures are files of the world that the path patterns of the plans protect.
func treasures() []string {
	return []string{"/srv/secret/a", "/srv/secret/x/a", "/opt/db/data.bin", `C:\Secret\a.exe`, "/home/u/id.key", `C:\Users\u\id.key`, `E:\Vault\x.db`}
}

func (o *oracle) pathFree(v verdicts, path string, below bool) {
	if path == "" {
		return
	}
	for _, pattern := range append(builtInPaths(), o.set.Paths...) {
		v.must("protected path", !covers(pattern, path), "%s is %s", path, pattern)
		if !below {
			continue
		}
		parts, _ := pathOf(path)
		for _, treasure := range treasures() {
			at, _ := pathOf(treasure)
			last := len(parts) - 1
			found := len(at) > last && slices.Equal(at[:last], parts[:last]) && at[len(at)-1] == parts[last]
			v.must("protected path", !found || !covers(pattern, treasure), "the search for %s finds %s, which is %s", path, treasure, pattern)
		}
	}
}

func (o *oracle) imageFree(v verdicts, images ...string) {
	for _, image := range images {
		if image == "" {
			continue
		}
		parts, _ := pathOf(image)
		base := strings.TrimSuffix(strings.ToLower(parts[len(parts)-1]), ".exe")
		for _, pattern := range append(builtInImages(), o.set.Processes...) {
			is := covers(pattern, image)
			if !strings.ContainsAny(pattern, `/\`) {
				is = wild(strings.TrimSuffix(strings.ToLower(pattern), ".exe"), ".*").MatchString(base)
			}
			v.must("protected process", !is, "%s is %s", image, pattern)
		}
	}
}
