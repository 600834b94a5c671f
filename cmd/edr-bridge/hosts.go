package main

import (
	"os"
	"slices"
	"strings"
)

// expandHosts reads @FILE and refuses what is no name: there are no wildcard targets.
func expandHosts(given []string) ([]string, error) {
	var hosts []string
	for _, h := range given {
		if name, isFile := strings.CutPrefix(h, "@"); isFile {
			lines, err := readLines(name)
			if err != nil {
				return nil, usagef("--host @%s: %w", name, err)
			}
			hosts = append(hosts, lines...)
			continue
		}
		hosts = append(hosts, h)
	}
	var out []string
	for _, h := range hosts {
		if strings.ContainsAny(h, "*?[]\"") || strings.TrimSpace(h) != h || h == "" || strings.HasPrefix(h, "-") {
			return nil, usagef("--host %q: want one GUID, name or address; there are no wildcards", h)
		}
		if !slices.Contains(out, h) {
			out = append(out, h)
		}
	}
	return out, nil
}

func readLines(path string) ([]string, error) {
	data, err := os.ReadFile(path) //nolint:gosec // the user names the file
	if err != nil {
		return nil, err
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines, nil
}
