package prevention

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
)

const (
	// MaxRules is how many rules there may be: what Kaspersky advises for KES
	// (support.kaspersky.com/KESWin/11.8.0/en-US/214778.htm).
	MaxRules = 5000

	defaultDeadline = 500 * time.Millisecond
	defaultStall    = 5 * time.Second
	defaultWorkers  = 4
	maxWorkers      = 64
	defaultBreaker  = 10
	defaultDisable  = "/run/edr-bridge-agent/disable"

	// bootWord on the command line of the kernel is the emergency switch for a machine that a rule keeps from starting. Linux only.
	bootWord = "edr_bridge.prevention=off"
)

// Mode says what becomes of an execution a rule is about.
type Mode string

// The modes. The zero value is LogOnly: nothing is blocked that nobody asked to be blocked.
const (
	LogOnly Mode = "log_only" // it goes on and is reported
	Block   Mode = "block"    // it fails with EPERM and is reported
)

// Protected are the files that must never be denied, as they are at this moment. *safety.Executables is one. The methods answer
// ReasonNone for what may be denied, else the reason and the entry of the never-touch table in words; they are called by many
// goroutines at once.
type Protected interface {
	// ByID judges a file by its identity.
	ByID(id files.ID) (bridge.Reason, string)
	// ByDigest judges a file by its MD5 or SHA-256, hex.
	ByDigest(digest string) (bridge.Reason, string)
	// ByPath judges whatever is, or may one day be, at the absolute path.
	ByPath(path string) (bridge.Reason, string)
}

// Config is what the guard may do and how.
type Config struct {
	// State is the folder for rules.json. It is made (0700) when it is missing. Required, absolute.
	State string
	// Mode is Block or LogOnly; empty = LogOnly.
	Mode Mode
	// Protected returns the files that must never be denied. It is called when a rule is added, when the listener starts and
	// then once a minute; it may block for seconds. An error means that nothing may be denied. Required.
	Protected func(context.Context) (Protected, error)
	// Listener is the command that ends up in Listen, program first, such as the program of the agent and a hidden verb of it.
	// The process gets its connection as descriptor 3. Linux only; without it Run answers an error.
	Listener []string
	// Mounts chooses among the file systems that can be watched; nil = all. Linux only; it is called in the listener.
	Mounts func(Mount) bool
	// Deadline is how long an execution may wait for the digest of a file nobody has seen yet; then it goes on and is reported.
	// 10 ms to 10 s, zero = 500 ms.
	Deadline time.Duration
	// Stall is how long the listener may answer nothing before the kernel kills it, which lets everything go on.
	// 1 s to 1 min, zero = 5 s.
	Stall time.Duration
	// Workers is how many files are hashed at once, 1 to 64; zero = 4.
	Workers int
	// Breaker is how many different files one rule may keep from being executed within a second. One more, and that rule denies
	// nothing until Resume, over restarts: it is a mistake. Zero = 10.
	Breaker int
	// DryRun lets everything happen but the effect: receipts then have StateShadow, no rule is stored, and those that are stored deny
	// nothing. Rules can be removed.
	DryRun bool
	// Denied is told what was denied, or would have been. It is called by one goroutine that does nothing else; what comes while
	// 1024 wait is dropped and counted. Nil = nobody is told.
	Denied func(Denial)
	// Disable is the emergency switch: while a file of this path exists nothing is denied. Any shell makes it without starting
	// a program (`> path`). Empty = /run/edr-bridge-agent/disable.
	Disable string
	// Logger receives what people want in the timeline of an incident; nil discards.
	Logger *slog.Logger
	// Now is the clock; nil = time.Now.
	Now func() time.Time
}

// Mount is one mounted file system.
type Mount = files.Mount

// Guard keeps files from being executed by rules that outlive it. It is safe for many goroutines.
type Guard struct {
	cfg Config
	log *slog.Logger
	// mu makes changes of the rules one after the other: stored, made effective, and only then the next.
	mu      sync.Mutex
	machine *machine
	// owned says that this process has the lock of the state folder.
	owned atomic.Bool
}

// New returns a guard. It reports every problem of cfg at once, does no I/O and starts nothing.
func New(cfg Config) (*Guard, error) {
	cfg, err := cfg.checked()
	if err != nil {
		return nil, err
	}
	return &Guard{cfg: cfg, log: cfg.Logger, machine: newMachine(&cfg)}, nil
}

// checked returns cfg with its defaults, or all its problems.
func (cfg Config) checked() (Config, error) {
	var errs []error
	if !filepath.IsAbs(cfg.State) {
		errs = append(errs, errors.New("state: must be an absolute path"))
	}
	switch cfg.Mode {
	case "":
		cfg.Mode = LogOnly
	case LogOnly, Block:
	default:
		errs = append(errs, fmt.Errorf("mode: is %q, want %s or %s", cfg.Mode, Block, LogOnly))
	}
	if cfg.Protected == nil {
		errs = append(errs, errors.New("protected: required, because the hash of a shell would stop the machine"))
	}
	inRange := func(name string, d *time.Duration, zero, least, most time.Duration) {
		if *d == 0 {
			*d = zero
		}
		if *d < least || *d > most {
			errs = append(errs, fmt.Errorf("%s: %s is not between %s and %s", name, *d, least, most))
		}
	}
	inRange("deadline", &cfg.Deadline, defaultDeadline, 10*time.Millisecond, 10*time.Second)
	inRange("stall", &cfg.Stall, defaultStall, time.Second, time.Minute)
	if cfg.Workers < 0 || cfg.Workers > maxWorkers {
		errs = append(errs, fmt.Errorf("workers: %d is not between 1 and %d", cfg.Workers, maxWorkers))
	}
	if cfg.Breaker < 0 {
		errs = append(errs, errors.New("breaker: must not be negative"))
	}
	if cfg.Workers == 0 {
		cfg.Workers = defaultWorkers
	}
	if cfg.Breaker == 0 {
		cfg.Breaker = defaultBreaker
	}
	if cfg.Disable == "" {
		cfg.Disable = defaultDisable
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if err := errors.Join(errs...); err != nil {
		return Config{}, fmt.Errorf("prevention: %w", err)
	}
	return cfg, nil
}

// Run makes the stored rules effective and keeps them so until ctx ends; it then answers nil. Only one process can run the guard
// of a state folder. An error says what is missing on this machine, or what is wrong with the stored rules.
//
// On Linux it starts the listener process and starts it again, after a pause, when it ends. While no listener runs everything
// may be executed: a machine must not hang because of its guard.
func (g *Guard) Run(ctx context.Context) error {
	lock, err := g.lock()
	if err != nil {
		return fmt.Errorf("prevention: %w", err)
	}
	// Whoever needs the switch cannot run mkdir any more.
	if err := os.MkdirAll(filepath.Dir(g.cfg.Disable), 0o755); err != nil { //nolint:gosec // everybody may look, as into /run
		g.cfg.Logger.Warn("the folder of the emergency switch cannot be made", "path", g.cfg.Disable, "err", err)
	}
	g.owned.Store(true)
	defer func() {
		g.owned.Store(false)
		lock.Release()
	}()
	if _, err := g.load(); err != nil {
		return fmt.Errorf("prevention: %w", err)
	}
	if err := g.machine.run(ctx); err != nil {
		return fmt.Errorf("prevention: %w", err)
	}
	return nil
}

// Running reports whether the stored rules are in effect at this moment (or, in LogOnly, watched).
func (g *Guard) Running() bool { return g.machine.running() }

// Probe looks for what the guard needs from the machine and says what it found, or what is missing. It changes nothing.
func (g *Guard) Probe(ctx context.Context) (string, error) { return g.machine.probe(ctx) }
