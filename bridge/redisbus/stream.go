package redisbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	defaultField      = "alert"
	defaultCount      = 128
	defaultBlock      = time.Second
	defaultClaimAfter = time.Minute
	defaultSweep      = 15 * time.Second
	defaultRetry      = time.Second
	defaultMaxPending = 1024
	maxBlock          = 5 * time.Second
	maxRetry          = time.Minute
	deadSuffix        = ":dead"
)

// StreamConfig says what a Stream reads. An ACL user needs, on the stream and its dead letters, at least
//
//	+xreadgroup +xack +xclaim +xautoclaim +xpending +xrange +xinfo +xgroup|create +xadd +ping +client|setname
//
// and +xtrim for Trim.
type StreamConfig struct {
	Options Options
	// Name is the source's name in the settings, Preset the reading of its documents.
	Name, Preset string
	// Stream is the key of the stream, Group its consumer group; both are made when missing, the group from
	// the stream's beginning.
	Stream, Group string
	// Consumer names this replica in the group. It must be the same after a restart and unlike that of every
	// other replica, so that pending entries are found again: host and instance, never a pid.
	Consumer string
	// Field is the field of an entry that holds the document; "" = "alert". An entry without it gives its
	// only field, or all its fields as a JSON object.
	Field string
	// Count is how many entries are read at once and wait at most for Receive; 0 = 128.
	Count int
	// Block is how long one read waits for entries; 0 = 1 s, at most 5 s.
	Block time.Duration
	// ClaimAfter is how long an entry of another consumer may stay idle before this one takes it over; 0 = 60 s.
	// It must be the same on all replicas and several times the longest time from read to settle.
	ClaimAfter time.Duration
	// Sweep is the time between two looks for forgotten and lost entries; 0 = 15 s.
	Sweep time.Duration
	// Retry is the pause before an entry settled with an error is delivered again; it doubles up to a minute. 0 = 1 s.
	Retry time.Duration
	// DeadLetter is the stream for documents nobody can read; "" = "<stream>:dead". In a cluster it must lie in
	// the slot of its choice; it need not be that of Stream.
	DeadLetter string
	// MaxPending is how many entries may be read and not yet acknowledged; 0 = 1024. At the limit, or at
	// 64 MiB, nothing more is read: the backlog waits in Redis.
	MaxPending int
	// Trim deletes entries from the stream that every one of its groups has acknowledged. Leave it off when
	// something reads the stream without a group.
	Trim bool
	// OnNote gets losses, gaps, dead letters and entries other consumers took; equal notes of one second
	// come as one with Count. It is called from one goroutine at a time and may block; nil = none.
	OnNote func(bridge.Note)
	// Position returns what SetPosition stored last, or "" when there is nothing; SetPosition is called when it
	// changed, at most once a sweep. The text is opaque and under 100 bytes. It lets a lost group be made
	// anew where it stood; nil = only this process remembers.
	Position    func(context.Context) (string, error)
	SetPosition func(context.Context, string) error
	// Now and Rand are the clock and the source of jitter in [0,1); nil = real.
	Now  func() time.Time
	Rand func() float64
	// Logger gets connection changes and what keeps entries pending; nil = none.
	Logger *slog.Logger
}

// Stream is a source that reads a Redis Stream as one consumer of a group. Delivery is at-least-once: an entry is
// acknowledged only after its delivery is settled, and comes back after a restart, a lost answer or
// a settlement with an error. Entries are delivered in the order of the stream, redeliveries out of it.
type Stream struct {
	cfg    StreamConfig
	life   *bridge.SourceLife
	notes  *notes
	health *health
	stats  counters

	queue   chan []*entry // unbuffered: one batch is read ahead
	current []*entry      // belongs to Receive
	freed   chan struct{} // room appeared
	settled chan struct{} // something is to be acknowledged or dead-lettered

	// mu guards the fields below and the changing fields of entries.
	mu      sync.Mutex
	hand    map[entryID]*entry
	bytes   int64 // of the documents in hand
	again   []*entry
	acks    []*entry
	bad     []*entry
	tombs   map[entryID]struct{} // left the hand during the sweep under way; nil between sweeps
	badDue  time.Time
	badBack backoff

	acker ackLink
	group groupState // belongs to the reading goroutine
}

var _ bridge.Source = (*Stream)(nil)

// NewStream checks the settings; Run connects.
func NewStream(cfg StreamConfig) (*Stream, error) {
	errs := []error{cfg.Options.Validate()}
	for _, f := range []struct{ name, value string }{
		{"name", cfg.Name}, {"stream", cfg.Stream}, {"group", cfg.Group}, {"consumer", cfg.Consumer},
	} {
		if f.value == "" {
			errs = append(errs, fmt.Errorf("%s: required", f.name))
		}
	}
	if cfg.Block < 0 || cfg.Block > maxBlock {
		errs = append(errs, fmt.Errorf("block: must be between 0 and %s", maxBlock))
	}
	if cfg.Count < 0 || cfg.MaxPending < 0 || cfg.ClaimAfter < 0 || cfg.Sweep < 0 || cfg.Retry < 0 {
		errs = append(errs, errors.New("count, max pending, claim after, sweep and retry: must not be negative"))
	}
	if cfg.DeadLetter != "" && cfg.DeadLetter == cfg.Stream {
		errs = append(errs, errors.New("dead letter: must not be the stream itself"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("redis stream source: %w", err)
	}
	cfg = cfg.filled()
	s := &Stream{
		cfg: cfg, life: bridge.NewSourceLife(), notes: newNotes(cfg.OnNote), health: &health{log: cfg.Logger.With("source_name", cfg.Name)},
		queue: make(chan []*entry), freed: make(chan struct{}, 1), settled: make(chan struct{}, 1),
		hand: make(map[entryID]*entry), badBack: newBackoff(cfg.Rand),
	}
	s.acker.opts = cfg.Options
	s.group.count = cfg.Count
	return s, nil
}

func (c StreamConfig) filled() StreamConfig {
	c.Options = c.Options.filled()
	c.Field = orDefault(c.Field, defaultField)
	c.Count = orDefault(c.Count, defaultCount)
	c.Block = orDefault(c.Block, defaultBlock)
	c.ClaimAfter = orDefault(c.ClaimAfter, defaultClaimAfter)
	c.Sweep = orDefault(c.Sweep, defaultSweep)
	c.Retry = orDefault(c.Retry, defaultRetry)
	c.DeadLetter = orDefault(c.DeadLetter, c.Stream+deadSuffix)
	c.MaxPending = orDefault(c.MaxPending, defaultMaxPending)
	c.Now, c.Rand, c.Logger = seams(c.Now, c.Rand, c.Logger)
	return c
}

func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}

// Run reads, acknowledges and reconnects (after 0.1 s to 5 s) until ctx ends or Close is called, and then
// returns nil. The only error is ErrOpenServer. It may be called once. What is settled after Run has ended is
// acknowledged by Close.
func (s *Stream) Run(ctx context.Context) error {
	ctx, cancel, err := s.life.Begin(ctx)
	if err != nil {
		return err
	}
	defer s.life.End()
	var wg sync.WaitGroup
	wg.Go(func() { s.notes.run(ctx) })
	wg.Go(func() { s.acknowledge(ctx) })
	defer wg.Wait()
	defer cancel()

	back := newBackoff(s.cfg.Rand)
	for {
		err := s.session(ctx, &back)
		if errors.Is(err, ErrOpenServer) {
			return err
		}
		s.health.fall(ctx, err)
		if ctx.Err() != nil || !pause(ctx, back.next()) {
			return nil
		}
	}
}

// Receive returns the next entry. It blocks until one is there, ctx ends, or the source is over (ErrClosed: what was
// read and not handed out stays pending in Redis). bridge.ErrNotConnected means that an entry waited so long that
// another consumer may have taken it, and Redis cannot be asked.
func (s *Stream) Receive(ctx context.Context) (bridge.Delivery, error) {
	for {
		switch {
		case ctx.Err() != nil:
			return bridge.Delivery{}, context.Cause(ctx)
		case s.life.IsOver():
			return bridge.Delivery{}, bridge.ErrClosed
		}
		if len(s.current) == 0 {
			select {
			case s.current = <-s.queue:
			case <-ctx.Done():
				return bridge.Delivery{}, context.Cause(ctx)
			case <-s.life.Done():
				return bridge.Delivery{}, bridge.ErrClosed
			}
		}
		d, ok, err := s.give(ctx, s.current[0])
		if err != nil {
			return bridge.Delivery{}, err
		}
		s.current[0] = nil
		s.current = s.current[1:]
		if ok {
			return d, nil
		}
	}
}

// Ready is closed when the group first stands and the entries left pending by an earlier run are being delivered.
func (s *Stream) Ready() <-chan struct{} { return s.life.Ready() }

// Connected reports whether the group is being read.
func (s *Stream) Connected() bool { return s.health.connected() }

// Err returns why the group is not being read, or nil; it may wrap ErrCredentials or bridge.ErrNotConnected.
func (s *Stream) Err() error { return s.health.last() }

// Stats returns the counters.
func (s *Stream) Stats() Stats {
	st := s.stats.snapshot()
	s.mu.Lock()
	defer s.mu.Unlock()
	st.InHand = len(s.hand)
	for _, e := range s.hand {
		if e.stage == queued {
			st.Queued++
		}
	}
	return st
}

// Close ends Run, waits for it and acknowledges what was settled, all within ctx. Entries that are not settled stay
// pending in Redis and come back after the next start; a later Settle answers bridge.ErrClosed.
func (s *Stream) Close(ctx context.Context) error {
	first, err := s.life.Shut(ctx)
	if err != nil || !first {
		return err
	}
	defer s.acker.close()
	err = s.flushAll(ctx)
	s.notes.flush()
	return err
}

func (s *Stream) note(what string, count int64, detail string) {
	s.notes.add(bridge.Note{What: what, Source: s.cfg.Name, Count: count, Detail: detail})
}

// give turns an entry into a delivery; ok is false when another consumer owns it by then.
func (s *Stream) give(ctx context.Context, e *entry) (d bridge.Delivery, ok bool, err error) {
	if err := s.confirm(ctx, e); err != nil {
		return bridge.Delivery{}, false, err
	}
	s.mu.Lock()
	if e.stage != queued {
		s.mu.Unlock()
		return bridge.Delivery{}, false, nil
	}
	e.stage = delivered
	e.attempts++
	attempt := e.attempts
	s.mu.Unlock()
	s.stats.delivered.Add(1)
	if attempt > 1 {
		s.stats.redelivered.Add(1)
	}
	return bridge.Delivery{
		Alert:  bridge.Alert{ID: e.text, Source: s.cfg.Name, Preset: s.cfg.Preset, Received: e.received, Raw: []byte(e.doc)},
		Settle: func(_ context.Context, err error) error { return s.settle(e, attempt, err) },
	}, true, nil
}
