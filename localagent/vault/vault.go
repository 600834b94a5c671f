package vault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
)

const (
	// defaultMaxFile is what Kaspersky takes into quarantine: 100 MB a file
	// (support.kaspersky.com/help/KEDR_Optimum/4.0/en-US/220374.htm).
	defaultMaxFile    = 100 << 20
	defaultQuota      = 10 << 30
	defaultMaxTargets = 64
	// maxTargetsLimit bounds the pinned files of one order: two descriptors each.
	maxTargetsLimit = 4096
	// maxFileLimit keeps the chunk counter and the time of one order within reason.
	maxFileLimit = 1 << 40
)

var (
	// ErrNotFound says that the vault holds no such item.
	ErrNotFound = errors.New("the quarantine holds no such item")
	// ErrDamaged says that a copy or its description is not what was put into the vault.
	ErrDamaged = errors.New("the item is damaged or was tampered with")
	// ErrKey says that the key is not the one the vault was made with.
	ErrKey = errors.New("the key is not the one of this quarantine: bring the old key back, or use another folder")
)

// Config is what the file tasks may do and where copies go.
type Config struct {
	// Dir is the folder of the vault, absolute. It is made root-only; one that others may look into is refused. Required.
	Dir string
	// Key returns the 32 bytes everything is sealed with. It is called once, by the first operation. Required: see FileKey.
	Key func(ctx context.Context) ([]byte, error)
	// Protected answers ReasonNone for a file that may be acted on, else the reason and the entry in words. It is asked about the
	// open file before anything is done with it but hashing, and about its cleaned path. Nil = nothing is protected.
	Protected func(ctx context.Context, f *os.File, path string) (bridge.Reason, string, error)
	// DryRun lets everything happen but the effect; receipts then have StateShadow, and the vault is not touched: Prune and Recover
	// do nothing.
	DryRun bool
	// MaxFile is the largest file that is copied, in bytes; 0 = 100 MiB.
	MaxFile int64
	// Quota is how many bytes all copies together may have; 0 = 10 GiB. QuotaWarns only logs what goes beyond it.
	Quota      int64
	QuotaWarns bool
	// Retention is how long copies are kept by Prune; 0 = for ever.
	Retention time.Duration
	// MaxTargets is how many files one deleteFile may remove, 1 to 4096; 0 = 64.
	MaxTargets int
	// Logger receives what people want in the timeline of an incident; nil discards.
	Logger *slog.Logger
	// Now is the clock; nil = time.Now.
	Now func() time.Time

	// crash is called at each step of the order of writes; tests end the process there.
	crash func(point string)
	// holders is files.Holders; tests that act thousands of times do without.
	holders func(context.Context, files.ID) ([]files.Holder, error)
}

// Vault carries out the file tasks and keeps the copies. It is safe for many goroutines; other processes may use the same folder.
type Vault struct {
	cfg Config
	log *slog.Logger

	// mu guards key, reserved and old.
	mu       sync.Mutex
	key      []byte
	reserved int64                // bytes of copies that are being made
	old      map[string]time.Time // items that are too old, and since when this process knows
}

// New returns a vault. It reports every problem of cfg at once, does no I/O and starts nothing.
func New(cfg Config) (*Vault, error) {
	var errs []error
	if !filepath.IsAbs(cfg.Dir) || filepath.Dir(filepath.Clean(cfg.Dir)) == filepath.Clean(cfg.Dir) {
		errs = append(errs, fmt.Errorf("dir: %q is not an absolute path below the root", cfg.Dir))
	}
	if cfg.Key == nil {
		errs = append(errs, errors.New("key: required"))
	}
	if cfg.MaxFile < 0 || cfg.MaxFile > maxFileLimit {
		errs = append(errs, fmt.Errorf("max_file: %d is not between 1 and %d bytes", cfg.MaxFile, int64(maxFileLimit)))
	}
	if cfg.Quota < 0 {
		errs = append(errs, errors.New("quota: must not be negative"))
	}
	if cfg.Retention < 0 {
		errs = append(errs, errors.New("retention: must not be negative"))
	}
	if cfg.MaxTargets < 0 || cfg.MaxTargets > maxTargetsLimit {
		errs = append(errs, fmt.Errorf("max_targets: %d is not between 1 and %d", cfg.MaxTargets, maxTargetsLimit))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("quarantine: %w", err)
	}
	cfg.Dir = filepath.Clean(cfg.Dir)
	if cfg.MaxFile == 0 {
		cfg.MaxFile = defaultMaxFile
	}
	if cfg.Quota == 0 {
		cfg.Quota = defaultQuota
	}
	if cfg.MaxTargets == 0 {
		cfg.MaxTargets = defaultMaxTargets
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.crash == nil {
		cfg.crash = func(string) {}
	}
	if cfg.holders == nil {
		cfg.holders = files.Holders
	}
	return &Vault{cfg: cfg, log: cfg.Logger}, nil
}

// Dir returns the folder of the vault.
func (v *Vault) Dir() string { return v.cfg.Dir }
