package bridge

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
)

type protectedPath struct {
	ProtectEntry
	glob pathGlob
}

// matchOrAbove reports whether the path is protected or a folder that holds something protected.
func (e *protectedPath) matchOrAbove(r reading) bool {
	if e.glob.match(r) {
		return true
	}
	above, sure := e.glob.above(r)
	// Behind a lone * every file of the folder would count as a folder on the way.
	return above && sure && (len(r.segments) == 0 || e.glob.segments[len(r.segments)-1] != "*")
}

// below reports whether a search for the file name in the subfolders of its folder can come to something
// protected.
func (e *protectedPath) below(r reading) bool {
	last := len(r.segments) - 1
	folder := reading{windows: r.windows, drive: r.drive, segments: r.segments[:last]}
	if e.glob.match(folder) {
		return true
	}
	above, sure := e.glob.above(folder)
	return above && (sure || e.glob.endsIn(r, r.segments[last]))
}

// protectedProcess goes by file name in any folder, or by path.
type protectedProcess struct {
	ProtectEntry
	name string // folded, without .exe; empty for a path
	glob pathGlob
}

func newProtectedProcess(e ProtectEntry) (protectedProcess, error) {
	x := protectedProcess{ProtectEntry: e}
	if strings.ContainsAny(e.Pattern, `\/:`) {
		glob, err := parsePathGlob(e.Pattern)
		x.glob = glob
		return x, err
	}
	if err := checkText(e.Pattern); err != nil {
		return x, err
	}
	x.name = imageName(e.Pattern)
	if x.name == "" {
		return x, errors.New("is empty")
	}
	return x, nil
}

func (e *protectedProcess) match(image string, all []reading) bool {
	if e.name != "" {
		base := foldPath(BaseName(image))
		return globMatch(e.name, imageName(base)) || windowsLike(image) && isShortName(base) && mayShorten(e.name, imageName(base))
	}
	return slices.ContainsFunc(all, e.glob.match)
}

func imageName(name string) string { return strings.TrimSuffix(foldPath(name), ".exe") }

// protectedHost is a name or glob, a prefix, or an administration group.
type protectedHost struct {
	ProtectEntry
	name, short string
	prefix      netip.Prefix
	group       string // lower case, without GroupPrefix; * and ? are wildcards
}

func newProtectedHost(e ProtectEntry) (protectedHost, error) {
	h := protectedHost{ProtectEntry: e}
	if group, is := strings.CutPrefix(strings.ToLower(e.Pattern), GroupPrefix); is {
		h.group = strings.Trim(group, "/ ")
		if h.group == "" {
			return h, errors.New("names no group: write group:Managed devices/Servers")
		}
		return h, checkText(e.Pattern)
	}
	if prefix, err := parsePrefix(e.Pattern); err == nil {
		h.prefix = prefix.Masked()
		return h, nil
	}
	if err := checkText(e.Pattern); err != nil {
		return h, err
	}
	h.name = strings.TrimSuffix(strings.ToLower(e.Pattern), ".")
	switch {
	case h.name == "":
		return h, errors.New("is empty")
	case strings.ContainsAny(h.name, `/\:[]{} `):
		return h, errors.New("is neither a host name, nor an address, nor a prefix like 10.0.5.0/24 (wildcards are * and ?)")
	}
	// The first label stands for the host, unless it is all wildcards: *.corp.local is not every host.
	if label, _, dotted := strings.Cut(h.name, "."); dotted && strings.Trim(label, "*?") != "" && !isAddressGlob(h.name) {
		h.short = label
	}
	return h, nil
}

// isAddressGlob knows 10.0.5.*, whose first label is no name.
func isAddressGlob(name string) bool { return strings.Trim(name, "0123456789.*?") == "" }

// hostSpelling is a host as an order names it.
type hostSpelling struct {
	name, short string
	addr        netip.Addr
	group       string
}

func hostSpellings(name string) hostSpelling {
	if group, is := strings.CutPrefix(strings.ToLower(name), GroupPrefix); is {
		return hostSpelling{group: strings.Trim(group, "/ ")}
	}
	name, _ = SplitHost(strings.ToLower(strings.TrimSpace(name)))
	name = strings.TrimSpace(name)
	// DOMAIN\host is how some products name an endpoint.
	name = strings.TrimSuffix(name[strings.LastIndexByte(name, '\\')+1:], ".")
	s := hostSpelling{name: name}
	if addr, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		s.addr = addr.Unmap().WithZone("")
		return s
	}
	if label, _, dotted := strings.Cut(name, "."); dotted {
		s.short = label
	}
	return s
}

// match compares the name as given, an FQDN also by its first label with a pattern without dots, and a
// name without dots with the first label of the pattern. Two FQDNs of different domains stay different.
func (e *protectedHost) match(s hostSpelling) bool {
	if e.group != "" || s.group != "" {
		return e.group != "" && e.inGroup(s.group)
	}
	if e.prefix.IsValid() {
		return s.addr.IsValid() && e.prefix.Contains(s.addr)
	}
	if s.name == "" {
		return false
	}
	if s.addr.IsValid() {
		return globMatch(e.name, s.addr.String())
	}
	dotless := !strings.Contains(e.name, ".")
	return globMatch(e.name, s.name) ||
		dotless && s.short != "" && globMatch(e.name, s.short) ||
		s.short == "" && e.short != "" && globMatch(e.short, s.name)
}

// inGroup reports whether the group is the protected one or lies below it.
func (e *protectedHost) inGroup(path string) bool {
	for path != "" {
		if globMatch(e.group, path) {
			return true
		}
		path = path[:max(strings.LastIndexByte(path, '/'), 0)]
	}
	return false
}

type protectedAddress struct {
	ProtectEntry
	prefix netip.Prefix
}
