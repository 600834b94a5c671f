package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// The owners of orders.
const (
	OwnerRun  = "run"  // the running bridge
	OwnerSend = "send" // a short-lived process that sends orders by hand
)

// FileName is the name of the database in Config.Dir.
const FileName = "edr-bridge.db"

const (
	defaultMaxBatch = 256
	defaultNotAfter = 15 * time.Minute
	maxReaders      = 4
)

// ErrClosed is returned by every method of a Store after Close has begun.
var ErrClosed = errors.New("store closed")

var _ bridge.Cabinet = (*Store)(nil)

// Config says where the store is and how it works.
type Config struct {
	// Dir is the folder of the store; made with mode 0700 when it is not there. The file in it is edr-bridge.db, mode 0600.
	Dir string
	// Owner is written to every order this store admits or moves; empty = OwnerRun.
	Owner string
	// Now is the clock; nil = time.Now.
	Now func() time.Time
	// Logger hears of migrations, write errors and their end; nil = silence.
	Logger *slog.Logger
	// Look opens a damaged store as well, for reading what can be read; nothing may be changed through it.
	Look bool
	// OnClock hears of jumps of the machine's clock; it must not block.
	OnClock func(by time.Duration)
	// OnFailure hears once that changes cannot be written any more; it must not block.
	OnFailure func(err error)
	// MaxBatch is how many requests one transaction takes at most, 1 to 4096; 0 = 256.
	MaxBatch int
	// Policy is what the guards go by that judge inside the transactions; every process that writes to the folder should have
	// the same. The zero value limits nothing. Its Known must not block and must not call the Store.
	Policy bridge.Policy
	// OnHold is called with the hold after each commit of this Store that set it, before the callers of that commit are answered; nil = nobody.
	// It must not block and must not call the Store.
	OnHold func(h bridge.Hold)
	// NotAfter returns the last moment an order may begin that a person approved at from; nil = 15 minutes later.
	NotAfter func(o bridge.Order, from time.Time) time.Time
	// AuditKey returns the key of the audit chain, at least 16 bytes; nil = the chain is sealed without a key. It is asked once, by Open.
	AuditKey func(ctx context.Context) ([]byte, error)
	// PolicyDigest is the digest of the settings and rules in force; 16 bytes of it are kept with every admission.
	PolicyDigest []byte
	// Uptime tells jumps of the clock from the passing of time; nil = that of the machine, or, where Now is not the clock of the
	// machine, none.
	Uptime Uptime
}

// Store is the durable state in one SQLite file. Its methods may be called by many goroutines at once.
// Methods that change something block until the change is synced to disk or certainly not made. A ctx that ends
// before the writer took the request means not done; after that the outcome is waited for, because it can no
// longer be taken back. An error of a change means that none of it is there; only when the disk
// refused the sync itself may a crash before the next commit bring the change back.
type Store struct {
	cfg  Config
	path string
	log  *slog.Logger
	// steps is the state machine of orders.
	steps map[step]bridge.Event
	key   auditKey

	queue   chan *request
	stop    chan struct{}
	stopped sync.Once
	writer  sync.WaitGroup
	writes  *writer    // not to be used while writer runs
	readers chan *conn // nil = a connection not opened yet
	closing error
	health  atomic.Pointer[error] // why the last change could not be written; nil = it was
}

// Open opens the store of cfg.Dir, makes or migrates it where needed and starts its writer. A database
// written by a later version is refused. ErrDamaged: the file or the end of the audit chain in it does not hold together.
// ErrNoKey: the chain is sealed with a key and cfg.AuditKey is nil. The caller calls Close.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Dir == "" {
		return nil, errors.New("store: folder required")
	}
	if cfg.MaxBatch < 0 || cfg.MaxBatch > 4096 {
		return nil, fmt.Errorf("store: batch of %d requests: want 1 to 4096", cfg.MaxBatch)
	}
	if cfg.MaxBatch == 0 {
		cfg.MaxBatch = defaultMaxBatch
	}
	if cfg.Owner == "" {
		cfg.Owner = OwnerRun
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
		if cfg.Uptime == nil {
			cfg.Uptime = systemUptime()
		}
	}
	cfg.PolicyDigest = slices.Clone(cfg.PolicyDigest[:min(len(cfg.PolicyDigest), maxPolicy)])
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.NotAfter == nil {
		cfg.NotAfter = func(_ bridge.Order, from time.Time) time.Time { return from.Add(defaultNotAfter) }
	}
	cfg.Policy.Deadlines = cfg.Policy.Filled()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var err error
	s := &Store{
		cfg:     cfg,
		path:    filepath.Join(cfg.Dir, FileName),
		log:     cfg.Logger,
		steps:   steps(),
		queue:   make(chan *request, cfg.MaxBatch),
		stop:    make(chan struct{}),
		readers: make(chan *conn, maxReaders),
	}
	if s.key, err = askKey(ctx, cfg.AuditKey); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	fresh, err := makeFile(cfg.Dir, s.path)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	w := &writer{store: s, seal: newSeal(s.key)}
	if err := w.open(context.WithoutCancel(ctx), fresh); err != nil {
		return nil, fmt.Errorf("open store %s: %w", s.path, damaged(err))
	}
	if !cfg.Look {
		if err := w.probe(context.WithoutCancel(ctx)); err != nil {
			return nil, errors.Join(fmt.Errorf("open store %s: %w", s.path, err), w.conn.close())
		}
	}
	for range maxReaders {
		s.readers <- nil
	}
	s.writes = w
	s.writer.Go(w.run)
	return s, nil
}

// Close finishes what callers have handed over, refuses more, and closes the file. It waits for reads under way. The
// last one to close the file moves its log into it, which takes some syncs; a short-lived process may end
// without Close, what was answered is safe.
func (s *Store) Close() error {
	s.stopped.Do(func() {
		close(s.stop)
		s.writer.Wait()
		for range maxReaders {
			if c := <-s.readers; c != nil {
				s.closing = errors.Join(s.closing, c.close())
			}
		}
		// Last, because a connection that only reads cannot move the log into the file.
		if c := s.writes.conn; c != nil {
			s.closing = errors.Join(s.closing, c.close())
		}
	})
	return s.closing
}

// Path returns the path of the database file.
func (s *Store) Path() string { return s.path }

// now returns the time of the wall clock: what is compared with it was read back from the file.
func (s *Store) now() time.Time { return s.cfg.Now().UTC().Round(0) }

// makeFile makes folder and file with their modes; an existing file is never opened, because closing it would
// drop the locks another connection of this process holds on it (fcntl(2), "Record locks").
func makeFile(dir, path string) (fresh bool, err error) {
	info, err := os.Stat(path)
	switch {
	case err == nil:
		if !info.Mode().IsRegular() {
			return false, fmt.Errorf("%s is not a regular file", path)
		}
		return info.Size() == 0, nil
	case !errors.Is(err, os.ErrNotExist):
		return false, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the folder is the operator's setting
	if errors.Is(err, os.ErrExist) {
		return false, nil // another process was faster
	}
	if err != nil {
		return false, err
	}
	return true, f.Close()
}
