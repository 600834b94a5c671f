package redisbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	defaultQueue = 4096
	defaultProbe = time.Second
	// maxDocument is the size of the largest document taken, in bytes.
	maxDocument = 1 << 20
	// maxQueued bounds the bytes that wait in a queue or are in hand.
	maxQueued = 64 << 20
)

// PubSubConfig says what a PubSub listens to. An ACL user needs the channel and +subscribe +ping +client|setname.
type PubSubConfig struct {
	Options Options
	// Name is the source's name in the settings, Preset the reading of its documents.
	Name, Preset string
	// Channel is the exact name of the channel.
	Channel string
	// Queue is how many documents may wait for Receive; 0 = 4096. They are also bounded to 64 MiB together.
	// When it is full the newest document is dropped, counted and noted.
	Queue int
	// OnNote gets losses, gaps and unreadable documents; equal notes of one second come as one with Count.
	// It is called from one goroutine at a time and may block; nil = none.
	OnNote func(bridge.Note)
	// Probe is how long the connection may be silent before it is asked for a sign of life; 0 = 1 s.
	// Without an answer for four times as long it counts as dead.
	Probe time.Duration
	// Now and Rand are the clock and the source of jitter in [0,1); nil = real.
	Now  func() time.Time
	Rand func() float64
	// Logger gets connection changes; nil = none.
	Logger *slog.Logger
}

// PubSub is a source that listens to a Redis channel. Delivery is at-most-once: what is published while the
// connection is down is gone, and every such gap is noted when the subscription stands again.
type PubSub struct {
	cfg    PubSubConfig
	life   *bridge.SourceLife
	notes  *notes
	health *health
	stats  counters
	queue  chan message
	bytes  atomic.Int64 // in the queue

	// heard and asked are when the connection last gave and was last asked for a sign of life,
	// in nanoseconds since began.
	began        time.Time
	heard, asked atomic.Int64
}

type message struct {
	doc      string
	received time.Time
}

var _ bridge.Source = (*PubSub)(nil)

// NewPubSub checks the settings; Run connects.
func NewPubSub(cfg PubSubConfig) (*PubSub, error) {
	var errs []error
	errs = append(errs, cfg.Options.Validate())
	if cfg.Name == "" {
		errs = append(errs, errors.New("name: required"))
	}
	if cfg.Channel == "" {
		errs = append(errs, errors.New("channel: required"))
	}
	if cfg.Queue < 0 || cfg.Probe < 0 {
		errs = append(errs, errors.New("queue and probe: must not be negative"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("redis pubsub source: %w", err)
	}
	cfg.Options = cfg.Options.filled()
	if cfg.Queue == 0 {
		cfg.Queue = defaultQueue
	}
	if cfg.Probe == 0 {
		cfg.Probe = defaultProbe
	}
	cfg.Now, cfg.Rand, cfg.Logger = seams(cfg.Now, cfg.Rand, cfg.Logger)
	return &PubSub{
		cfg: cfg, life: bridge.NewSourceLife(), notes: newNotes(cfg.OnNote), health: &health{log: cfg.Logger.With("source_name", cfg.Name)},
		queue: make(chan message, cfg.Queue), began: time.Now(),
	}, nil
}

// seams fills in the real clock, random source and logger.
func seams(now func() time.Time, random func() float64, log *slog.Logger) (func() time.Time, func() float64, *slog.Logger) {
	if now == nil {
		now = time.Now
	}
	if random == nil {
		random = rand.Float64
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return now, random, log
}

// Run subscribes, receives and reconnects (after 0.1 s to 5 s) until ctx ends or Close is called, and
// then returns nil. The only error is ErrOpenServer. It may be called once.
func (p *PubSub) Run(ctx context.Context) error {
	ctx, cancel, err := p.life.Begin(ctx)
	if err != nil {
		return err
	}
	defer p.life.End()
	var wg sync.WaitGroup
	wg.Go(func() { p.notes.run(ctx) })
	defer wg.Wait()
	defer cancel()

	back := newBackoff(p.cfg.Rand)
	var lost *outage
	for {
		err := p.session(ctx, &lost, &back)
		if errors.Is(err, ErrOpenServer) {
			return err
		}
		p.health.fall(ctx, err)
		if ctx.Err() == nil && pause(ctx, back.next()) {
			continue
		}
		if lost != nil {
			p.stats.gaps.Add(1)
			p.note(bridge.NoteGap, 1, fmt.Sprintf("subscription was still down at the end: %v", lost.cause))
		}
		return nil
	}
}

// Receive returns the next document. It blocks until one is there, ctx ends, or the source is over: after Run
// has ended it still hands out what is queued, then ErrClosed; after Close it answers ErrClosed at once.
func (p *PubSub) Receive(ctx context.Context) (bridge.Delivery, error) {
	if ctx.Err() != nil {
		return bridge.Delivery{}, context.Cause(ctx)
	}
	if p.life.IsClosed() {
		return bridge.Delivery{}, bridge.ErrClosed
	}
	select {
	case m := <-p.queue:
		return p.deliver(m), nil
	default:
	}
	select {
	case m := <-p.queue:
		return p.deliver(m), nil
	case <-ctx.Done():
		return bridge.Delivery{}, context.Cause(ctx)
	case <-p.life.Closing():
		return bridge.Delivery{}, bridge.ErrClosed
	case <-p.life.Done():
		select {
		case m := <-p.queue:
			return p.deliver(m), nil
		default:
			return bridge.Delivery{}, bridge.ErrClosed
		}
	}
}

// Ready is closed when the subscription first stands: what is published later is received.
func (p *PubSub) Ready() <-chan struct{} { return p.life.Ready() }

// Connected reports whether the subscription stands.
func (p *PubSub) Connected() bool { return p.health.connected() }

// Err returns why the subscription does not stand, or nil; it may wrap ErrCredentials or bridge.ErrNotConnected.
func (p *PubSub) Err() error { return p.health.last() }

// Stats returns the counters.
func (p *PubSub) Stats() Stats {
	s := p.stats.snapshot()
	s.Queued = len(p.queue)
	return s
}

// Close ends Run and waits for it within ctx. What was received and not handed out is lost, counted and noted.
func (p *PubSub) Close(ctx context.Context) error {
	first, err := p.life.Shut(ctx)
	if err != nil || !first {
		return err
	}
	if n := p.discard(); n > 0 {
		p.stats.dropped.Add(n)
		p.note(bridge.NoteLoss, n, "received and not handed out before the source was closed")
	}
	p.notes.flush()
	return nil
}

func (p *PubSub) discard() int64 {
	var n int64
	for {
		select {
		case m := <-p.queue:
			p.bytes.Add(-int64(len(m.doc)))
			n++
		default:
			return n
		}
	}
}

func (p *PubSub) note(what string, count int64, detail string) {
	p.notes.add(bridge.Note{What: what, Source: p.cfg.Name, Count: count, Detail: detail})
}

func (p *PubSub) deliver(m message) bridge.Delivery {
	p.bytes.Add(-int64(len(m.doc)))
	p.stats.delivered.Add(1)
	var settled atomic.Bool
	return bridge.Delivery{
		Alert: bridge.Alert{Source: p.cfg.Name, Preset: p.cfg.Preset, Received: m.received, Raw: []byte(m.doc)},
		Settle: func(_ context.Context, err error) error {
			if settled.Swap(true) {
				return errSettled
			}
			switch {
			case err == nil:
			case errors.Is(err, bridge.ErrBadAlert):
				p.stats.badAlerts.Add(1)
				p.note(bridge.NoteDeadLetter, 1, err.Error())
			default:
				p.stats.dropped.Add(1)
				p.note(bridge.NoteLoss, 1, "not taken, and a channel cannot deliver again: "+err.Error())
			}
			return nil
		},
	}
}

// accept queues one message without ever blocking: a blocked reader would let Redis fill its output buffer
// and cut the connection, which loses far more than the newest message.
func (p *PubSub) accept(m *redis.Message) {
	p.stats.received.Add(1)
	size := int64(len(m.Payload))
	if size > maxDocument {
		p.stats.badAlerts.Add(1)
		p.note(bridge.NoteDeadLetter, 1, "document is larger than 1 MiB")
		return
	}
	if p.bytes.Add(size) <= maxQueued {
		select {
		case p.queue <- message{doc: m.Payload, received: p.cfg.Now().UTC()}:
			return
		default:
		}
	}
	p.bytes.Add(-size)
	p.stats.dropped.Add(1)
	p.note(bridge.NoteLoss, 1, "queue is full: the newest documents are dropped")
}
