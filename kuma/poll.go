package kuma

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	pollEvery      = 15 * time.Second
	pollOverlap    = 2 * time.Minute
	pollSince      = 15 * time.Minute
	pollRetry      = time.Second
	pollMaxRetry   = time.Minute
	pollMaxPending = 1024
	pollSavePause  = time.Second // between two saves of the watermark
)

// AlertReader gives alerts by REST; *Client does.
type AlertReader interface {
	// Alerts returns one page of alerts, see Client.Alerts. Errors that wrap ErrCredentials ask for longer pauses.
	Alerts(ctx context.Context, q AlertQuery) ([]Alert, error)
}

var _ AlertReader = (*Client)(nil)

// PollConfig says which alerts a Poll reads.
type PollConfig struct {
	// Name is the source's name in the settings, Preset the reading of its documents: one alert of the API with its events.
	Name, Preset string
	Client       AlertReader
	// Every is the time between two looks for alerts, 1 s to 1 h; 0 = 15 s.
	Every time.Duration
	// Overlap is how far behind the watermark every look begins, for alerts that show up late; up to 1 h, 0 = 2 min.
	Overlap time.Duration
	// Since is how far back the very first look goes, when there is no watermark; 0 = 15 min.
	Since time.Duration
	// Statuses are those of alerts to take; nil = new. Tenants limits them to tenants (UUIDs); nil = all the token may see.
	Statuses, Tenants []string
	// Retry is the pause before an alert settled with an error is delivered again; it doubles up to a minute. 0 = 1 s.
	Retry time.Duration
	// MaxPending is how many alerts may be known and not yet settled; 0 = 1024. The rest waits in KUMA.
	MaxPending int
	// Load returns what Save was given last, or "" when there is nothing. The text is opaque and under 256 KiB. Both nil = only
	// this process remembers.
	Load func(context.Context) (string, error)
	Save func(context.Context, string) error
	// OnNote gets alerts that are known to be lost; it may block; nil = none.
	OnNote func(bridge.Note)
	// Now and Rand are the clock and the source of jitter in [0,1); nil = real.
	Now  func() time.Time
	Rand func() float64
	// Logger gets connection changes and losses; nil = none.
	Logger *slog.Logger
}

// Poll is the source kuma-poll: it looks for alerts by REST and delivers each with its events, the document as received, oldest LastSeen
// first. Delivery is at-least-once: the watermark on LastSeen moves only over alerts that are settled, and is kept durably. An alert
// that grows comes again under another Alert.ID (its id and LastSeen); its events are told apart by their own ids.
//
// Looks list alerts without events, and each alert is then read by its id with them: a page of 250 alerts may hold 4 GB of events.
type Poll struct {
	cfg    PollConfig
	life   *bridge.SourceLife
	health *pollHealth
	wake   chan struct{} // something may be ready for Receive
	dirty  chan struct{} // the watermark changed

	// mu guards the book and pause.
	mu   sync.Mutex
	book pollBook
	// pause is when KUMA may be asked again after a failure, backoff how it grows.
	pause   time.Time
	backoff pollBackoff
}

var _ bridge.Source = (*Poll)(nil)

// NewPoll checks the settings; Run connects.
func NewPoll(cfg PollConfig) (*Poll, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if cfg.Name == "" {
		bad("name: required")
	}
	if cfg.Client == nil {
		bad("client: required")
	}
	if cfg.Every != 0 && (cfg.Every < time.Second || cfg.Every > time.Hour) {
		bad("every: must be between 1s and 1h")
	}
	if cfg.Overlap < 0 || cfg.Overlap > time.Hour {
		bad("overlap: must be between 0 and 1h")
	}
	if cfg.Since < 0 || cfg.Retry < 0 || cfg.MaxPending < 0 {
		bad("since, retry and max pending: must not be negative")
	}
	if (cfg.Load == nil) != (cfg.Save == nil) {
		bad("load and save: give both or neither")
	}
	if _, err := (AlertQuery{Statuses: cfg.Statuses, Tenants: cfg.Tenants}).encode(); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("kuma poll source: %w", err)
	}
	cfg = cfg.filled()
	p := &Poll{
		cfg: cfg, life: bridge.NewSourceLife(), health: &pollHealth{log: cfg.Logger.With("source_name", cfg.Name)},
		wake: make(chan struct{}, 1), dirty: make(chan struct{}, 1), backoff: pollBackoff{random: cfg.Rand},
	}
	p.book.init(cfg.Overlap, cfg.MaxPending)
	return p, nil
}

func (c PollConfig) filled() PollConfig {
	orDefault := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	orDefault(&c.Every, pollEvery)
	orDefault(&c.Overlap, pollOverlap)
	orDefault(&c.Since, pollSince)
	orDefault(&c.Retry, pollRetry)
	if c.MaxPending == 0 {
		c.MaxPending = pollMaxPending
	}
	if c.Statuses == nil {
		c.Statuses = []string{"new"}
	}
	if c.Load == nil {
		c.Load = func(context.Context) (string, error) { return "", nil }
		c.Save = func(context.Context, string) error { return nil }
	}
	if c.OnNote == nil {
		c.OnNote = func(bridge.Note) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Float64
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Run looks for alerts and keeps the watermark until ctx ends or Close is called, and then returns nil. After failures it pauses for 1 s to
// 60 s, after refused credentials for 1 to 5 min. It may be called once.
func (p *Poll) Run(ctx context.Context) error {
	ctx, cancel, err := p.life.Begin(ctx)
	if err != nil {
		return err
	}
	defer p.life.End()
	defer cancel()
	if !p.recall(ctx) {
		return nil
	}
	var wg sync.WaitGroup
	wg.Go(func() { p.keep(ctx) })
	defer wg.Wait()
	for {
		pause := p.cfg.Every
		if wait := p.pausing(); wait > 0 {
			pause = wait
		} else if heads, err := p.list(ctx); err != nil {
			pause = p.failed(ctx, err)
		} else {
			p.take(ctx, heads)
			p.succeeded(ctx)
			p.life.Stood()
		}
		if !pollWait(ctx, pause) {
			return nil
		}
	}
}

// recall loads the watermark; it reports false when ctx ended before it could.
func (p *Poll) recall(ctx context.Context) bool {
	for {
		text, err := p.cfg.Load(ctx)
		if err == nil {
			p.mu.Lock()
			err = p.book.restore(text, p.cfg.Now().Add(-p.cfg.Since))
			p.mu.Unlock()
			if err != nil {
				// Looking from the usual point on delivers some alerts once more, which the store notices; stopping would lose all.
				p.cfg.Logger.WarnContext(ctx, "watermark cannot be read, looking back as at a first start", "source_name", p.cfg.Name, "err", err)
			}
			return true
		}
		if !pollWait(ctx, p.failed(ctx, fmt.Errorf("load the watermark: %w", err))) {
			return false
		}
	}
}

// keep saves the watermark behind the settlements until ctx ends; Close saves once more.
func (p *Poll) keep(ctx context.Context) {
	back := pollBackoff{random: p.cfg.Rand}
	for {
		select {
		case <-p.dirty:
		case <-ctx.Done():
			return
		}
		pause := pollSavePause
		if err := p.save(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			p.cfg.Logger.WarnContext(ctx, "watermark not saved yet", "source_name", p.cfg.Name, "err", err)
			pollSignal(p.dirty)
			pause = back.next(time.Second, time.Minute)
		} else {
			back.reset()
		}
		if !pollWait(ctx, pause) {
			return
		}
	}
}

func (p *Poll) save(ctx context.Context) error {
	p.mu.Lock()
	text, changed := p.book.text()
	p.mu.Unlock()
	if !changed {
		return nil
	}
	if err := p.cfg.Save(ctx, text); err != nil {
		return fmt.Errorf("save the watermark: %w", err)
	}
	p.mu.Lock()
	p.book.saved = text
	p.mu.Unlock()
	return nil
}

// Ready is closed after the first look that succeeded.
func (p *Poll) Ready() <-chan struct{} { return p.life.Ready() }

// Connected reports whether the latest request to KUMA succeeded.
func (p *Poll) Connected() bool { return p.health.connected() }

// Err returns why KUMA cannot be read, or nil; it may wrap ErrCredentials.
func (p *Poll) Err() error { return p.health.last() }

// Close ends Run, waits for it and saves the watermark, all within ctx. Alerts that are not settled come again after the next
// start; a later Settle answers bridge.ErrClosed.
func (p *Poll) Close(ctx context.Context) error {
	first, err := p.life.Shut(ctx)
	if err != nil || !first {
		return err
	}
	return p.save(ctx)
}

func (p *Poll) failed(ctx context.Context, err error) time.Duration {
	p.health.fall(ctx, err)
	first, last := time.Second, time.Minute
	if errors.Is(err, ErrCredentials) {
		first, last = time.Minute, 5*time.Minute
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.backoff.next(first, last)
	p.pause = p.cfg.Now().Add(d)
	return d
}

func (p *Poll) succeeded(ctx context.Context) {
	p.health.rise(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.backoff.reset()
	p.pause = time.Time{}
}

// pausing returns how long KUMA is to be left alone.
func (p *Poll) pausing() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pause.IsZero() {
		return 0
	}
	return max(p.pause.Sub(p.cfg.Now()), 0)
}
