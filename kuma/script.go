package kuma

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/peersocket"
)

const (
	// ScriptPreset is the reading of a call's document.
	ScriptPreset = "kuma-call"

	scriptAnswer     = 5 * time.Second  // a caller waits no longer for what became of its call
	scriptScan       = time.Second      // the spool directory is looked through that often even when nothing stirs
	scriptRetry      = time.Second      // before a call that could not be stored comes again, doubled up to scriptMaxRetry
	scriptMaxRetry   = 30 * time.Second // also between two tries to fetch an event
	scriptEventAge   = 15 * time.Minute
	scriptEventCall  = 30 * time.Second // one try to fetch an event
	scriptFetchers   = 4
	scriptMaxFetched = 4 << 20 // bytes of an event (the page on normalised events: at most 4 MB)
	scriptReopen     = 5 * time.Second
	scriptStuck      = 10 * time.Minute // before an entry that cannot be put aside is complained about again
)

var (
	errScriptSettled = errors.New("the delivery is settled already")
	errScriptRunning = errors.New("run was called before")
)

var _ bridge.Source = (*Script)(nil)

// ScriptConfig says where calls come from. Socket or Spool is required.
type ScriptConfig struct {
	// Name is the name of the source in the settings; required.
	Name string
	// Preset is the reading of the documents; empty = ScriptPreset.
	Preset string
	// Socket is the absolute path of the socket for calls, Group the group that may connect (empty = the group of the process).
	// It is not the control socket: whoever may call may not approve, resume or read anything.
	Socket, Group string
	// Callers are the user ids that may call over the socket; nil = whom its mode lets in. root may always.
	Callers []uint32
	// Spool is the absolute path of the spool directory, Writers the user ids whose files are taken; nil = everybody the directory
	// lets in, which then must not be everybody on the machine.
	Spool   string
	Writers []uint32
	// Orders returns how the orders of an alert stand; nil = callers are told that the call is stored and no more.
	Orders func(ctx context.Context, source, alertID string) ([]bridge.Order, error)
	// Event fetches the correlation event of an id (a lower-case UUID) and its time; nil = calls with an event id are delivered
	// without. It is called by up to Fetchers goroutines (0 = 4) and again after an error until the call is EventAge old (0 = 15 min);
	// then the call is delivered without its event.
	Event    func(ctx context.Context, id string, timestampMS int64) (json.RawMessage, error)
	Fetchers int
	EventAge time.Duration
	// Scan is how often the spool directory is looked through when nothing stirs (0 = 1 s), Retry the pause before a call that could
	// not be stored comes again (0 = 1 s, doubled up to 30 s).
	Scan, Retry time.Duration
	// OnNote is told what was put aside; nil = nobody.
	OnNote func(bridge.Note)
	// Logger is required; Now is the clock, nil = time.Now.
	Logger *slog.Logger
	Now    func() time.Time
}

// Script is the source of calls of the nine scripts and of `send --task` on machines without settings: a socket for those who
// find the bridge running and a spool directory for those who do not. Run has to run for Receive to get anything.
type Script struct {
	cfg ScriptConfig
	out chan bridge.Delivery // handed over one by one: what is not taken stays where it is

	// mu guards started, closed and stop.
	mu      sync.Mutex
	started bool
	closed  bool
	stop    context.CancelFunc

	closing chan struct{} // closed by Close
	over    chan struct{} // closed when Run has ended, or by Close when it never began
	ready   chan struct{} // closed when socket and spool first stood
	stood   sync.Once
	// listening and spooling say that the half works, or is not configured.
	listening, spooling atomic.Bool
	// settled wakes the spool loop after a delivery was settled.
	settled chan struct{}
}

// NewScript checks the settings and opens nothing.
func NewScript(cfg ScriptConfig) (*Script, error) {
	var errs []error
	if cfg.Name == "" {
		errs = append(errs, errors.New("name: required"))
	}
	if cfg.Socket == "" && cfg.Spool == "" {
		errs = append(errs, errors.New("socket or spool: required"))
	}
	for key, path := range map[string]string{"socket": cfg.Socket, "spool": cfg.Spool} {
		if path != "" && !filepath.IsAbs(path) {
			errs = append(errs, fmt.Errorf("%s: %q is not absolute", key, path))
		}
	}
	if len(cfg.Socket) > peersocket.MaxPath {
		errs = append(errs, fmt.Errorf("socket: the path has %d bytes, allowed are %d", len(cfg.Socket), peersocket.MaxPath))
	}
	if cfg.Logger == nil {
		errs = append(errs, errors.New("logger: required"))
	}
	if cfg.Scan < 0 || cfg.Retry < 0 || cfg.EventAge < 0 || cfg.Fetchers < 0 {
		errs = append(errs, errors.New("scan, retry, event age and fetchers: must not be negative"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("kuma-script: %w", err)
	}
	cfg.Preset = cmp.Or(cfg.Preset, ScriptPreset)
	cfg.Fetchers = cmp.Or(cfg.Fetchers, scriptFetchers)
	cfg.EventAge = cmp.Or(cfg.EventAge, scriptEventAge)
	cfg.Scan = cmp.Or(cfg.Scan, scriptScan)
	cfg.Retry = cmp.Or(cfg.Retry, scriptRetry)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.OnNote == nil {
		cfg.OnNote = func(bridge.Note) {}
	}
	s := &Script{
		cfg: cfg, out: make(chan bridge.Delivery), closing: make(chan struct{}), over: make(chan struct{}),
		ready: make(chan struct{}), settled: make(chan struct{}, 1),
	}
	s.listening.Store(cfg.Socket == "")
	s.spooling.Store(cfg.Spool == "")
	return s, nil
}

// Receive blocks until a call is there or ctx ends.
func (s *Script) Receive(ctx context.Context) (bridge.Delivery, error) {
	select {
	case <-s.over:
		return bridge.Delivery{}, bridge.ErrClosed
	case <-s.closing:
		return bridge.Delivery{}, bridge.ErrClosed
	default:
	}
	if ctx.Err() != nil {
		return bridge.Delivery{}, context.Cause(ctx)
	}
	select {
	case d := <-s.out:
		return d, nil
	case <-ctx.Done():
		return bridge.Delivery{}, context.Cause(ctx)
	case <-s.closing:
		return bridge.Delivery{}, bridge.ErrClosed
	case <-s.over:
		return bridge.Delivery{}, bridge.ErrClosed
	}
}

// Run listens and looks through the spool directory until ctx ends or Close is called. What does not work is said in the log and
// tried again; only a system that cannot tell who calls (errors.ErrUnsupported) ends it.
func (s *Script) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.started || s.closed {
		s.mu.Unlock()
		return errScriptRunning
	}
	s.started = true
	ctx, s.stop = context.WithCancel(ctx)
	s.mu.Unlock()
	defer s.stop()
	defer close(s.over)
	var parts sync.WaitGroup
	errs := make([]error, 2)
	if s.cfg.Socket != "" {
		parts.Go(func() { errs[0] = s.keepUp(ctx, "socket", &s.listening, s.serveSocket) })
	}
	if s.cfg.Spool != "" {
		parts.Go(func() { errs[1] = s.keepUp(ctx, "spool", &s.spooling, s.readSpool) })
	}
	parts.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if s.isClosing() {
		return nil
	}
	return context.Cause(ctx)
}

// keepUp runs one half, and again after a pause when it fails.
func (s *Script) keepUp(ctx context.Context, half string, up *atomic.Bool, run func(ctx context.Context, stands func()) error) error {
	said := ""
	for {
		err := run(ctx, func() { up.Store(true); said = ""; s.stand() })
		up.Store(false)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // told to stop
		}
		if errors.Is(err, errors.ErrUnsupported) {
			s.stop()
			return fmt.Errorf("kuma-script %s: %w", half, err)
		}
		if err != nil && err.Error() != said {
			said = err.Error()
			s.cfg.Logger.Error("calls of scripts are not taken this way, trying again", "source_name", s.cfg.Name, "half", half, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(scriptReopen):
		}
	}
}

func (s *Script) stand() {
	if s.listening.Load() && s.spooling.Load() {
		s.stood.Do(func() { close(s.ready) })
	}
}

// Ready is closed once the socket answers and the spool directory was read.
func (s *Script) Ready() <-chan struct{} { return s.ready }

// Connected reports whether the socket answers and the spool directory can be read.
func (s *Script) Connected() bool { return s.listening.Load() && s.spooling.Load() && !s.isClosing() }

// Close ends Run and waits for it, at most until ctx ends. Callers whose call is not stored by then are told so and spool it. What is
// settled later still leaves the spool directory.
func (s *Script) Close(ctx context.Context) error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.closing)
		if s.started {
			s.stop()
		} else {
			close(s.over)
		}
	}
	s.mu.Unlock()
	select {
	case <-s.over:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the source to end: %w", context.Cause(ctx))
	}
}

func (s *Script) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// alert is the document of a call as the pipeline takes it.
func (s *Script) alert(id string, doc []byte) bridge.Alert {
	return bridge.Alert{ID: id, Source: s.cfg.Name, Preset: s.cfg.Preset, Received: s.cfg.Now().UTC(), Raw: doc}
}
