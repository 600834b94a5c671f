package scan

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// The limits of a scan nobody bounded.
const (
	defaultMaxFile  = 1 << 30
	defaultMaxBytes = 1 << 40
	defaultMaxFiles = 2_000_000
	defaultMaxTime  = 6 * time.Hour
	defaultPerFile  = 2 * time.Minute
	maxWorkers      = 32
)

// Roots are the places the scopes are read from; the zero value means this machine. Tests point them elsewhere.
type Roots struct {
	// Root is what stands for "/" in places such as /etc and /home.
	Root string
	// Proc and Sys are the mount points of procfs and sysfs, Dev holds the device nodes.
	Proc, Sys, Dev string
	// MountInfo is the table of mounts (proc_pid_mountinfo(5)).
	MountInfo string
	// OpenDevice opens a whole disk or partition for reading; nil opens the node and checks that it is the block device
	// major:minor.
	OpenDevice func(path string, major, minor uint32) (*os.File, error)
}

// Config is what a Scanner needs.
type Config struct {
	// Clamd is the absolute path of clamd's Unix socket, or tcp:127.0.0.1:PORT. Empty = the places where Debian and others
	// put it; when nobody answers there, the built-in engine.
	Clamd string
	// ClamdMaxFile is the MaxFileSize in bytes of a clamd that does not report what it skips (AlertExceedsMax no); 0 = 25 MiB.
	ClamdMaxFile int64
	// Signatures is the file of the built-in engine; empty = it knows the EICAR test file only.
	Signatures string
	// MaxFile is the size in bytes of the largest file looked at (1 GiB), MaxBytes of all together (1 TiB), MaxFiles how many are
	// looked at (2 million). 0 = the default in parentheses.
	MaxFile, MaxBytes int64
	MaxFiles          int
	// MaxTime is how long a scan may take (6 h), PerFile how long one file may (2 min). 0 = the default in parentheses.
	MaxTime, PerFile time.Duration
	// Workers is how many files are looked at at once, 1 to 32; 0 = twice as many as there are CPUs, at most 8, so that clamd
	// never waits for the next file.
	Workers int
	// Priority is that of the threads of a scan. They end with it: a child process that was started on one with PR_SET_PDEATHSIG
	// dies.
	Priority Priority
	// Exclude keeps a file or folder out of every scan (the quarantine); nil = none. It is called by one goroutine at a time.
	Exclude func(path string) bool
	// Protected says why a file may not be touched, "" when it may; its answer goes into the finding. Nil = "". f is open for
	// reading.
	Protected func(path string, f *os.File) string
	// Engine replaces clamd and the built-in engine; nil = those.
	Engine Engine
	Roots  Roots
	// Logger may be nil. Now is the clock; nil = time.Now.
	Logger *slog.Logger
	Now    func() time.Time
}

// Scanner looks for malware. It is safe for many goroutines; each scan has workers of its own.
type Scanner struct {
	cfg     Config
	digests files.Cache

	// mu guards loaded and loadedFrom.
	mu         sync.Mutex
	loaded     *builtin
	loadedFrom files.Stat
}

// New checks cfg and opens nothing.
func New(cfg Config) (*Scanner, error) {
	var errs []error
	if cfg.Clamd != "" {
		if _, err := newClamd(cfg.Clamd, cfg.ClamdMaxFile, 0); err != nil {
			errs = append(errs, err)
		}
	}
	if cfg.Signatures != "" && !isAbsolute(cfg.Signatures) {
		errs = append(errs, fmt.Errorf("signatures: %q is no absolute path", cfg.Signatures))
	}
	for _, l := range []struct {
		name  string
		value int64
	}{
		{"max file", cfg.MaxFile},
		{"max bytes", cfg.MaxBytes},
		{"max files", int64(cfg.MaxFiles)},
		{"max time", int64(cfg.MaxTime)},
		{"time per file", int64(cfg.PerFile)},
		{"clamd's max file", cfg.ClamdMaxFile},
	} {
		if l.value < 0 {
			errs = append(errs, fmt.Errorf("%s: must not be negative", l.name))
		}
	}
	if cfg.Workers < 0 || cfg.Workers > maxWorkers {
		errs = append(errs, fmt.Errorf("workers: %d, want 1 to %d", cfg.Workers, maxWorkers))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	return &Scanner{cfg: withDefaults(cfg)}, nil
}

func withDefaults(c Config) Config {
	set(&c.MaxFile, defaultMaxFile)
	set(&c.MaxBytes, defaultMaxBytes)
	set(&c.MaxFiles, defaultMaxFiles)
	set(&c.MaxTime, defaultMaxTime)
	set(&c.PerFile, defaultPerFile)
	set(&c.Workers, min(2*runtime.NumCPU(), 8))
	set(&c.Roots.Root, "/")
	set(&c.Roots.Proc, "/proc")
	set(&c.Roots.Sys, "/sys")
	set(&c.Roots.Dev, "/dev")
	set(&c.Roots.MountInfo, "/proc/self/mountinfo")
	if c.Roots.OpenDevice == nil {
		c.Roots.OpenDevice = openDevice
	}
	if c.Exclude == nil {
		c.Exclude = func(string) bool { return false }
	}
	if c.Protected == nil {
		c.Protected = func(string, *os.File) string { return "" }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// set gives a field its default.
func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func isAbsolute(path string) bool { return filepath.IsAbs(path) }

// Scan looks at everything in the objects that are enabled; it blocks until that is done, a limit is reached, or ctx has ended.
// progress may be nil; it is called by one goroutine, about twice a second and once at the end.
//
// The Result is right as far as it goes in every case: read it even when there is an error. The error is a *verdict.Error: the
// objects make no sense, or one of them cannot be scanned here (Permanent), the engine does not answer any more, the system hangs, or ctx
// ended (Retry). To reach a limit of Config is no error. A scan changes nothing.
func (s *Scanner) Scan(ctx context.Context, objects []bridge.ScanObject, progress func(Progress)) (Result, error) {
	if err := (bridge.OnDemandScan{Objects: objects}).Validate(); err != nil {
		return Result{}, verdict.Refuse(bridge.ReasonInvalid, "%w", err)
	}
	if !anyEnabled(objects) {
		return Result{Objects: disabled(objects)}, verdict.Refuse(bridge.ReasonInvalid, "none of the %d objects is enabled", len(objects))
	}
	engine, info, end, err := s.choose(ctx)
	if err != nil {
		return Result{}, err
	}
	defer end()
	r := newRun(s, engine, info, progress)
	r.scan(ctx, objects)
	res := r.result(ctx)
	if err := verdict.Stopped(ctx, "scan"); err != nil {
		return res, err
	}
	if r.broken != nil {
		return res, verdict.Untouched("%w", r.broken)
	}
	return res, res.unscanned()
}

func anyEnabled(objects []bridge.ScanObject) bool {
	for _, o := range objects {
		if o.Enabled {
			return true
		}
	}
	return false
}

func disabled(objects []bridge.ScanObject) []ObjectResult {
	out := make([]ObjectResult, len(objects))
	for i, o := range objects {
		out[i] = ObjectResult{Object: o, State: ObjectDisabled}
	}
	return out
}
