package safety

import (
	"bufio"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

const (
	// maxStatusLine bounds one line of dpkg's status file; the longest in Debian are lists of virtual packages of some 100 KiB.
	maxStatusLine = 1 << 20
	// maxPackages bounds the packages that are read; Debian has some 65,000.
	maxPackages = 200_000
)

// pack is one installed package as dpkg describes it (deb822(5), deb-control(5)).
type pack struct {
	name, arch string
	// vital says that dpkg calls it Essential or Protected, or that its priority is required.
	vital bool
	// provides are virtual names, needs the alternatives of each dependency.
	provides []string
	needs    [][]string
}

// parseStatus reads dpkg's status file and returns the packages whose files are on the disk.
func parseStatus(r io.Reader) ([]pack, error) {
	var all []pack
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxStatusLine)
	var p pack
	unpacked := false
	end := func() error {
		if p.name != "" && unpacked {
			if len(all) == maxPackages {
				return fmt.Errorf("more than %d packages", maxPackages)
			}
			all = append(all, p)
		}
		p, unpacked = pack{}, false
		return nil
	}
	for lines.Scan() {
		line := lines.Text()
		if strings.TrimSpace(line) == "" {
			if err := end(); err != nil {
				return nil, err
			}
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok || key == "" || key[0] == ' ' || key[0] == '\t' {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.ToLower(key) {
		case "package":
			p.name = value
		case "architecture":
			p.arch = value
		case "essential", "protected":
			p.vital = p.vital || strings.EqualFold(value, "yes")
		case "priority":
			p.vital = p.vital || value == "required"
		case "status":
			words := strings.Fields(value)
			unpacked = len(words) == 3 && words[2] != "not-installed" && words[2] != "config-files"
		case "provides":
			for _, alternatives := range relations(value) {
				p.provides = append(p.provides, alternatives...)
			}
		case "depends", "pre-depends":
			p.needs = append(p.needs, relations(value)...)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	return all, end()
}

// relations splits "a (>= 1) | b, c:any" into names: [[a b] [c]].
func relations(value string) [][]string {
	var all [][]string
	for group := range strings.SplitSeq(value, ",") {
		var names []string
		for word := range strings.SplitSeq(group, "|") {
			name := strings.TrimSpace(word)
			if i := strings.IndexAny(name, " ([:\t"); i >= 0 {
				name = name[:i]
			}
			if name != "" {
				names = append(names, name)
			}
		}
		if len(names) > 0 {
			all = append(all, names)
		}
	}
	return all
}

// neededPackages returns the vital packages, those whose name fits a pattern, and everything they need, transitively. Of
// alternatives all that are installed count. Packages come back in the order of all.
func neededPackages(all []pack, patterns []string) []pack {
	byName := make(map[string][]int)
	for i := range all {
		for _, name := range append([]string{all[i].name}, all[i].provides...) {
			byName[name] = append(byName[name], i)
		}
	}
	taken := make([]bool, len(all))
	var queue []int
	take := func(i int) {
		if !taken[i] {
			taken[i] = true
			queue = append(queue, i)
		}
	}
	for i := range all {
		if all[i].vital || slices.ContainsFunc(patterns, func(p string) bool { ok, err := path.Match(p, all[i].name); return err == nil && ok }) {
			take(i)
		}
	}
	for len(queue) > 0 {
		p := &all[queue[0]]
		queue = queue[1:]
		for _, alternatives := range p.needs {
			for _, name := range alternatives {
				for _, i := range byName[name] {
					take(i)
				}
			}
		}
	}
	var needed []pack
	for i := range all {
		if taken[i] {
			needed = append(needed, all[i])
		}
	}
	return needed
}

// ofUse reports whether a file of a needed package is a program, a library or a setting and not text for people.
func ofUse(name string) bool {
	rest, ok := strings.CutPrefix(name, "/usr/share/")
	if !ok {
		return name != "/." && strings.HasPrefix(name, "/")
	}
	first, _, _ := strings.Cut(rest, "/")
	return !slices.Contains([]string{
		"bash-completion", "bug", "common-licenses", "doc", "doc-base", "i18n", "info", "lintian", "locale", "man", "menu", "zoneinfo",
	}, first)
}
