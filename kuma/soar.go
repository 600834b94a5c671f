package kuma

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	soarAlertTag = "alert_id"
	soarWait     = 25 * time.Second
	soarMaxWait  = 5 * time.Minute
	soarInFlight = 16
	soarMaxTag   = 64
)

// SOARConfig says how pushes of KUMA's integration with R-Vision are taken.
type SOARConfig struct {
	// Name is the source's name in the settings, Preset the reading of its documents: one alert of the API with its events.
	Name, Preset string
	// Client reads the alert that was pushed.
	Client AlertReader
	// Token returns the secret set in KUMA; required. It is called for each request and its result is wiped after use.
	Token func(context.Context) ([]byte, error)
	// AlertTag names the form field with the alert's id, as set in KUMA; "" = alert_id. The other tags set there (address, tenant,
	// level) carry nothing the alert itself does not, and are ignored.
	AlertTag string
	// Wait is how long a push is held until its alert is committed, 1 s to 5 min; 0 = 25 s.
	Wait time.Duration
	// InFlight is how many pushes are held at once; 0 = 16. More are answered 503.
	InFlight int
	// Now is the clock, nil = real. Logger gets refusals (a token is never in them) and connection changes; nil = none.
	Now    func() time.Time
	Logger *slog.Logger
}

// SOAR is the source kuma-soar: an http.Handler that looks to KUMA like R-Vision. A push names an alert; the alert is read with its events
// by REST, delivered, and the push is answered as a success only once the delivery is settled. Nothing is accepted before: when KUMA's
// REST is out, or the bridge does not commit in time, the answer is 503.
//
// not documented: that KUMA pushes again after an answer other than 200, and when it pushes an alert that grows. A kuma-poll source
// beside this one finds what was not pushed again.
//
// R-Vision form: wrLd-ru/kuma_soar_integration service.py; support.kaspersky.com/KUMA/3.4/en-US/224487.
type SOAR struct {
	cfg    SOARConfig
	life   *bridge.SourceLife
	health *pollHealth
	queue  chan *soarPush
	slots  chan struct{}

	// mu guards seen.
	mu   sync.Mutex
	seen map[string]bool // what was logged once
}

// soarPush is a push that waits for its delivery to be settled.
type soarPush struct {
	alert   bridge.Alert
	outcome chan error // of the settlement; has room for it

	mu      sync.Mutex // guards settled
	settled bool
}

var _ bridge.Source = (*SOAR)(nil)

// NewSOAR checks the settings; it opens nothing. The caller serves it on a listener with TLS and limits of its own.
func NewSOAR(cfg SOARConfig) (*SOAR, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if cfg.Name == "" {
		bad("name: required")
	}
	if cfg.Client == nil {
		bad("client: required")
	}
	if cfg.Token == nil {
		bad("token: required: set the same secret in KUMA and here")
	}
	if cfg.AlertTag == "" {
		cfg.AlertTag = soarAlertTag
	}
	if len(cfg.AlertTag) > soarMaxTag || restVisible(cfg.AlertTag) != cfg.AlertTag {
		bad("alert tag: at most %d bytes without control characters", soarMaxTag)
	}
	if soarTokenParameter(cfg.AlertTag) {
		bad("alert tag: %q is where a token may come", cfg.AlertTag)
	}
	if cfg.Wait != 0 && (cfg.Wait < time.Second || cfg.Wait > soarMaxWait) {
		bad("wait: must be between 1s and %s", soarMaxWait)
	}
	if cfg.InFlight < 0 {
		bad("in flight: must not be negative")
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("kuma soar source: %w", err)
	}
	if cfg.Wait == 0 {
		cfg.Wait = soarWait
	}
	if cfg.InFlight == 0 {
		cfg.InFlight = soarInFlight
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Logger = cfg.Logger.With("source_name", cfg.Name)
	s := &SOAR{
		cfg: cfg, life: bridge.NewSourceLife(), health: &pollHealth{log: cfg.Logger, up: true},
		queue: make(chan *soarPush), slots: make(chan struct{}, cfg.InFlight), seen: map[string]bool{},
	}
	s.life.Stood()
	return s, nil
}

// Run blocks until ctx ends or Close is called and returns nil; the work is done by those who push and receive. It may be called once.
func (s *SOAR) Run(ctx context.Context) error {
	ctx, cancel, err := s.life.Begin(ctx)
	if err != nil {
		return err
	}
	defer s.life.End()
	defer cancel()
	<-ctx.Done()
	return nil
}

// Receive returns the next alert. It blocks until one is pushed, ctx ends, or the source is over (ErrClosed).
func (s *SOAR) Receive(ctx context.Context) (bridge.Delivery, error) {
	for {
		switch {
		case ctx.Err() != nil:
			return bridge.Delivery{}, context.Cause(ctx)
		case s.life.IsOver():
			return bridge.Delivery{}, bridge.ErrClosed
		}
		select {
		case push := <-s.queue:
			return bridge.Delivery{Alert: push.alert, Settle: func(_ context.Context, err error) error { return s.settle(push, err) }}, nil
		case <-ctx.Done():
		case <-s.life.Closing():
		case <-s.life.Done():
		}
	}
}

// settle answers the push. Whether somebody still waits for it makes no difference to the bridge: what is committed is.
func (s *SOAR) settle(push *soarPush, err error) error {
	if s.life.IsClosed() {
		return bridge.ErrClosed
	}
	push.mu.Lock()
	defer push.mu.Unlock()
	if push.settled {
		return errPollSettled
	}
	push.settled = true
	push.outcome <- err
	return nil
}

// Ready is closed from the beginning: the source waits for others.
func (s *SOAR) Ready() <-chan struct{} { return s.life.Ready() }

// Connected reports whether the latest alert could be read from KUMA; true before the first.
func (s *SOAR) Connected() bool { return s.health.connected() }

// Err returns why alerts cannot be read, or nil; it may wrap ErrCredentials.
func (s *SOAR) Err() error { return s.health.last() }

// Close ends Run and waits for it within ctx. Pushes that wait are answered 503, and so are those that come later.
func (s *SOAR) Close(ctx context.Context) error {
	_, err := s.life.Shut(ctx)
	return err
}

// pull reads an alert and has it delivered; nil means that it is durable: committed, or put aside as unreadable.
func (s *SOAR) pull(ctx context.Context, id string) error {
	found, err := s.cfg.Client.Alerts(ctx, AlertQuery{IDs: []string{id}, WithEvents: true})
	if err != nil {
		s.health.fall(ctx, err)
		return fmt.Errorf("read the alert: %w", err)
	}
	s.health.rise(ctx)
	if len(found) != 1 || !strings.EqualFold(found[0].ID, id) {
		return fmt.Errorf("kuma shows %d alerts for the id that was pushed, want that one", len(found))
	}
	a := found[0]
	push := &soarPush{
		alert: bridge.Alert{
			ID: a.DeliveryID(), Source: s.cfg.Name, Preset: s.cfg.Preset, Tenant: a.TenantID, Case: id,
			Received: s.cfg.Now().UTC(), Raw: a.Document,
		},
		outcome: make(chan error, 1),
	}
	select {
	case s.queue <- push:
	case <-ctx.Done():
		return fmt.Errorf("hand the alert over: %w", context.Cause(ctx))
	case <-s.life.Closing():
		return bridge.ErrClosed
	}
	select {
	case err := <-push.outcome:
		if errors.Is(err, bridge.ErrBadAlert) {
			return nil
		}
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for the commit: %w", context.Cause(ctx))
	case <-s.life.Closing():
		return bridge.ErrClosed
	}
}
