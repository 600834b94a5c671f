package ioc

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	defaultTime    = time.Hour
	defaultFiles   = 10_000_000
	defaultBytes   = 1 << 40
	defaultHash    = 1 << 30
	defaultWorkers = 2
	maxWorkers     = 64
	defaultRecords = 1000
	maxRoots       = 1000
)

// Scope is where files are looked for; the words are Kaspersky's (support.kaspersky.com/KESWin/11.7.0/en-US/219049.htm).
type Scope string

// The scopes.
const (
	// ScopeAll is every local disk and memory filesystem.
	ScopeAll Scope = "all"
	// ScopeSystem is the filesystem the system is on.
	ScopeSystem Scope = "system"
	// ScopeCritical are the folders of programs, settings, users and temporary files.
	ScopeCritical Scope = "critical"
	// ScopeCustom are Config.Roots only.
	ScopeCustom Scope = "custom"
)

// Config is where and how long a scan looks. Its zero value looks at all local files for an hour.
type Config struct {
	// Scope is where files are looked for; empty = ScopeAll.
	Scope Scope
	// Roots are absolute paths of folders or files, for ScopeCustom only, at most 1000.
	Roots []string
	// Exclude are absolute paths of folders and files that are not looked at, at most 1000. The agent's own quarantine belongs here.
	Exclude []string
	// Network also looks at filesystems of other machines and of programs (FUSE), which may hang for as long as those do.
	// Without it they are skipped and reported.
	Network bool
	// MaxTime is how long a scan may take; zero = 1 h.
	MaxTime time.Duration
	// MaxFiles is how many names are looked at; zero = 10 million.
	MaxFiles int
	// MaxBytes is how many bytes are read to hash files; zero = 1 TiB. After that only what needs no hash is looked for.
	MaxBytes int64
	// MaxFile is the size in bytes above which a file is not hashed; zero = 1 GiB.
	MaxFile int64
	// Workers read files, 1 to 64; zero = 2.
	Workers int
	// MaxRecords is how many records a match lists; zero = 1000.
	MaxRecords int
	// Eager lets the scan compete with the work of the machine. Without it files are read in the idle class (ioprio_set(2)).
	Eager bool
	// Now is the clock; nil = time.Now.
	Now func() time.Time
}

// check fills in the defaults and reports every problem at once.
func (c Config) check() (Config, error) {
	var errs []error
	if c.Scope == "" {
		c.Scope = ScopeAll
	}
	switch c.Scope {
	case ScopeAll, ScopeSystem, ScopeCritical:
		if len(c.Roots) > 0 {
			errs = append(errs, fmt.Errorf("roots: only the scope %s has some", ScopeCustom))
		}
	case ScopeCustom:
		if len(c.Roots) == 0 {
			errs = append(errs, errors.New("roots: name a folder"))
		}
	default:
		errs = append(errs, fmt.Errorf("scope: %s is not all, system, critical or custom", verdict.Shown(string(c.Scope))))
	}
	c.Roots, errs = cleaned("roots", c.Roots, errs)
	c.Exclude, errs = cleaned("exclude", c.Exclude, errs)
	errs = append(errs,
		bounded("max_time", &c.MaxTime, defaultTime), bounded("max_files", &c.MaxFiles, defaultFiles),
		bounded("max_bytes", &c.MaxBytes, defaultBytes), bounded("max_file", &c.MaxFile, defaultHash),
		bounded("workers", &c.Workers, defaultWorkers), bounded("max_records", &c.MaxRecords, defaultRecords))
	if c.Workers > maxWorkers {
		errs = append(errs, fmt.Errorf("workers: %d are more than %d", c.Workers, maxWorkers))
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, errors.Join(errs...)
}

// cleaned returns the paths in their shortest form.
func cleaned(name string, paths []string, errs []error) ([]string, []error) {
	if len(paths) > maxRoots {
		return nil, append(errs, fmt.Errorf("%s: %d are more than %d", name, len(paths), maxRoots))
	}
	paths = slices.Clone(paths)
	for i, p := range paths {
		if !filepath.IsAbs(p) || strings.ContainsRune(p, 0) {
			errs = append(errs, fmt.Errorf("%s: %s is no absolute path", name, verdict.Shown(p)))
			continue
		}
		paths[i] = filepath.Clean(p)
	}
	return paths, errs
}

// bounded puts the default in place of zero.
func bounded[N int | int64 | time.Duration](name string, n *N, otherwise N) error {
	switch {
	case *n < 0:
		return fmt.Errorf("%s: must not be negative", name)
	case *n == 0:
		*n = otherwise
	}
	return nil
}

// excluded reports whether the path is, or lies below, one that is not looked at.
func (c *Config) excluded(path string) bool {
	for _, e := range c.Exclude {
		if path == e || files.Below(path, e) {
			return true
		}
	}
	return false
}
