package configs

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

const (
	maxRuleFiles = 1000
	maxRuleFile  = 1 << 20 // bytes
)

// RuleFile is one file of rules or presets.
type RuleFile struct {
	// Name is its path, relative to the working directory when the settings file was; Data its text, 1 MiB at most.
	Name string
	Data []byte
}

// RuleFiles reads the rule files in the order of the settings, those of one pattern sorted, each once. A pattern that
// matches nothing gives nothing, a path without * ? [ must exist. Files that anyone may write to are refused. Errors are
// *Error; it ends early when ctx does.
func (s *Settings) RuleFiles(ctx context.Context) ([]RuleFile, error) {
	return s.named(ctx, "rules", s.Rules)
}

// PresetFiles reads the files of `presets` as RuleFiles does those of `rules`.
func (s *Settings) PresetFiles(ctx context.Context) ([]RuleFile, error) {
	return s.named(ctx, "presets", s.Presets)
}

// RulePaths returns where the files of `rules` and `presets` are at this moment, without reading them.
func (s *Settings) RulePaths() ([]string, error) {
	var paths []string
	for _, pattern := range slices.Concat(s.Rules, s.Presets) {
		names, err := s.matching(pattern)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", pattern, err)
		}
		paths = append(paths, names...)
	}
	return paths, nil
}

// matching returns the files a pattern names, sorted.
func (s *Settings) matching(pattern string) ([]string, error) {
	full := pattern
	if !filepath.IsAbs(pattern) && s.places.file != "" {
		full = filepath.Join(literalGlob(s.places.dir), pattern)
	}
	names, err := filepath.Glob(full)
	slices.Sort(names)
	if err == nil && len(names) == 0 && !strings.ContainsAny(pattern, "*?[") {
		names = []string{full}
	}
	return names, err
}

// named reads the files that the patterns of a setting name.
func (s *Settings) named(ctx context.Context, setting string, patterns []string) ([]RuleFile, error) {
	var files []RuleFile
	var problems []Problem
	seen := make(map[string]bool)
	for i, pattern := range patterns {
		wrong := func(message string) Problem {
			path := index(setting, i)
			at, _ := s.places.nearest(path)
			return Problem{File: s.places.file, Line: at.line, Column: at.column, Path: path, Message: message}
		}
		names, err := s.matching(pattern)
		if err != nil {
			problems = append(problems, wrong(err.Error()))
		}
		for _, name := range names {
			if seen[name] {
				continue
			}
			seen[name] = true
			if err := context.Cause(ctx); err != nil {
				return nil, err
			}
			if len(seen) > maxRuleFiles {
				return nil, &Error{Problems: []Problem{wrong("matches more than 1000 files")}}
			}
			data, err := readGuarded(name, maxRuleFile)
			if err != nil {
				problems = append(problems, wrong(err.Error()))
				continue
			}
			files = append(files, RuleFile{Name: name, Data: data})
		}
	}
	if len(problems) > 0 {
		return nil, &Error{Problems: problems}
	}
	return files, nil
}

// literalGlob makes a directory match only itself at the head of a pattern.
func literalGlob(dir string) string {
	return strings.NewReplacer("[", "[[]", "*", "[*]", "?", "[?]").Replace(dir)
}
