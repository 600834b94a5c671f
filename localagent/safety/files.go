package safety

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// dpkgFolder is where dpkg keeps what is installed (dpkg(1), FILES).
const dpkgFolder = "/var/lib/dpkg"

// Config is what the file part of the table has to know of the agent.
type Config struct {
	// Own are absolute paths of what the agent depends on: its program, settings, state, quarantine and audit; folders with
	// all below them. The running program itself is always protected.
	Own []string
	// Packages is the folder of dpkg's database; empty = /var/lib/dpkg. Linux only.
	Packages string
	// Now is the clock; nil = time.Now.
	Now func() time.Time
}

// Files judges files and executions by the table. It is safe for many goroutines.
type Files struct {
	cfg Config
	filesState
}

// NewFiles returns a judge of files. It reports every problem of cfg at once and opens nothing.
func NewFiles(cfg Config) (*Files, error) {
	var errs []error
	for i, own := range cfg.Own {
		clean := filepath.Clean(own)
		if !filepath.IsAbs(own) || clean == filepath.Dir(clean) {
			errs = append(errs, fmt.Errorf("own[%d]: %q is not an absolute path below the root", i, own))
		}
	}
	if cfg.Packages != "" && !filepath.IsAbs(cfg.Packages) {
		errs = append(errs, fmt.Errorf("packages: %q is not absolute", cfg.Packages))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("never-touch table: %w", err)
	}
	if cfg.Packages == "" {
		cfg.Packages = dpkgFolder
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Files{cfg: cfg}, nil
}
