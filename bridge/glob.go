package bridge

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// globMatch reports whether name fits the pattern, in which * stands for any run of characters and ? for
// one. The time is at most len(pattern) × len(name).
func globMatch(pattern, name string) bool {
	if !strings.ContainsAny(pattern, "*?") {
		return pattern == name
	}
	p, n := []rune(pattern), []rune(name)
	return wildcard(len(p), len(n), func(i int) bool { return p[i] == '*' }, func(i, j int) bool {
		return p[i] == '?' || p[i] == n[j]
	})
}

// wildcard matches n items against a pattern of p items of which some are stars. One place to come back
// to is enough: what an earlier star could take more of, the latest can take as well.
func wildcard(p, n int, star func(i int) bool, same func(i, j int) bool) bool {
	i, j, back, taken := 0, 0, -1, 0
	for j < n {
		switch {
		case i < p && star(i):
			back, taken = i, j
			i++
		case i < p && same(i, j):
			i++
			j++
		case back >= 0:
			taken++
			i, j = back+1, taken
		default:
			return false
		}
	}
	for i < p && star(i) {
		i++
	}
	return i == p
}

// pathGlob is an absolute path pattern: * and ? inside a segment, ** for any number of segments, none
// included. Windows patterns match in any case, the drive may be ?.
type pathGlob struct {
	windows, posix bool
	drive          string // "c:", or "?:" for any
	segments       []string
	folded         []string // the same in one case
	anchored       bool     // the first segment is not **
}

// parsePathGlob refuses what could never match, such as relative patterns.
func parsePathGlob(pattern string) (pathGlob, error) {
	var g pathGlob
	if err := checkText(pattern); err != nil {
		return g, err
	}
	rest := pattern
	switch {
	case pattern == "":
		return g, errors.New("is empty")
	case strings.HasPrefix(pattern, "**/"):
		g.windows, g.posix, g.drive = true, true, "?:"
	case strings.HasPrefix(pattern, `**\`):
		g.windows, g.drive = true, "?:"
	case hasDrive(pattern), strings.HasPrefix(pattern, "?:"), strings.HasPrefix(pattern, "*:"):
		if len(pattern) < 3 || !isWindowsSeparator(rune(pattern[2])) {
			return g, errors.New(`has no separator after the drive letter: in YAML write backslashes in single quotes or none`)
		}
		g.windows, g.drive, rest = true, strings.ToLower(strings.Replace(pattern[:2], "*", "?", 1)), pattern[2:]
	case strings.HasPrefix(pattern, "//"), strings.HasPrefix(pattern, `\\`):
		return g, errors.New("is a network or device path, which no task can touch")
	case strings.HasPrefix(pattern, "/"):
		g.posix = true
	default:
		return g, errors.New(`is not absolute: start it with /, a drive letter, ?:\ for any drive, or **/ for anywhere`)
	}
	if g.windows && hasPercentVariable(pattern) || hasDollarVariable(pattern) {
		return g, errors.New("holds a variable, which nobody expands: write the whole path")
	}
	separator := func(r rune) bool { return r == '/' || g.windows && r == '\\' }
	for segment := range strings.FieldsFuncSeq(rest, separator) {
		switch {
		case segment == ".", segment == "..":
			return g, fmt.Errorf("holds %q: write the path without detours", segment)
		case strings.Contains(segment, "**") && segment != "**":
			return g, errors.New("holds ** inside a name: ** stands alone between separators")
		}
		g.segments = append(g.segments, segment)
		g.folded = append(g.folded, foldPath(segment))
	}
	g.anchored = len(g.segments) > 0 && g.segments[0] != "**"
	return g, nil
}

// reading is a path to be judged, cut into segments.
type reading struct {
	windows  bool
	drive    string // "c:", or "" when the path leaves it open
	segments []string
}

// readings returns the readings of a path. A POSIX path has two, because a Windows host takes /Windows for a
// folder of its current drive and drops dots, spaces and streams at the end of names. A Windows path that
// goes through a second name of a folder is also read with the first one.
func readings(path string) []reading {
	all := plainReadings(path)
	for _, r := range all {
		if r.windows {
			if other, ok := withoutAlias(r.segments); ok {
				all = append(all, reading{windows: true, drive: r.drive, segments: other})
			}
		}
	}
	return all
}

// withoutAlias replaces the folders every Windows has two names for, by links or by redirection.
func withoutAlias(segments []string) ([]string, bool) {
	changed := false
	for _, alias := range [...]struct{ from, to []string }{
		{[]string{"documents and settings"}, []string{"users"}},
		{[]string{"users", "all users"}, []string{"programdata"}},
		{[]string{"programdata", "application data"}, []string{"programdata"}},
		{[]string{"windows", "sysnative"}, []string{"windows", "system32"}},
	} {
		for len(segments) >= len(alias.from) && slices.Equal(segments[:len(alias.from)], alias.from) {
			segments = slices.Concat(alias.to, segments[len(alias.from):])
			changed = true
		}
	}
	return segments, changed
}

func plainReadings(path string) []reading {
	if windowsLike(path) {
		normal := NormalPath(path)
		if !hasDrive(normal) {
			return []reading{{windows: true, segments: splitSegments(normal, `\`)}}
		}
		return []reading{{windows: true, drive: normal[:2], segments: splitSegments(normal[2:], `\`)}}
	}
	posix := splitSegments(cleanPOSIX(path), "/")
	windows := make([]string, len(posix))
	for i, segment := range posix {
		name, _, _ := strings.Cut(foldPath(segment), ":")
		windows[i] = strings.TrimRight(name, ". ")
	}
	return []reading{{segments: posix}, {windows: true, segments: windows}}
}

func splitSegments(path, separator string) []string {
	return slices.DeleteFunc(strings.Split(path, separator), func(s string) bool { return s == "" })
}

// knows reports whether pattern and path are of one kind and drive.
func (g *pathGlob) knows(r reading) bool {
	if !r.windows {
		return g.posix
	}
	return g.windows && (g.drive == "?:" || r.drive == "" || g.drive == r.drive)
}

// segment reports whether pattern segment i fits a name, or a name that a DOS 8.3 name may stand for.
func (g *pathGlob) segment(i int, r reading, name string) bool {
	if r.windows {
		return globMatch(g.folded[i], name) || isShortName(name) && mayShorten(g.folded[i], name)
	}
	return globMatch(g.segments[i], name)
}

// match reports whether the pattern fits the path itself.
func (g *pathGlob) match(r reading) bool {
	if !g.knows(r) || g.anchored && (len(r.segments) == 0 || !g.segment(0, r, r.segments[0])) {
		return false
	}
	return wildcard(len(g.segments), len(r.segments),
		func(i int) bool { return g.segments[i] == "**" },
		func(i, j int) bool { return g.segments[i] != "**" && g.segment(i, r, r.segments[j]) })
}

// above reports whether the path is a folder on the way to what the pattern names: /usr for /usr/bin/**.
// sure is false when only a ** leads there, as from every folder to **/*.key.
func (g *pathGlob) above(r reading) (above, sure bool) {
	if !g.knows(r) {
		return false, false
	}
	for j, name := range r.segments {
		switch {
		case j >= len(g.segments):
			return false, false
		case g.segments[j] == "**":
			return true, false
		case !g.segment(j, r, name):
			return false, false
		}
	}
	if len(g.segments) <= len(r.segments) {
		return false, false
	}
	return true, g.segments[len(r.segments)] != "**" || len(g.segments) == len(r.segments)+1
}

// endsIn reports whether a path with this file name can fit the pattern.
func (g *pathGlob) endsIn(r reading, name string) bool {
	last := len(g.segments) - 1
	return last >= 0 && (g.segments[last] == "**" || g.segment(last, r, name))
}
