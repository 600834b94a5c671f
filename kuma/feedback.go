package kuma

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	feedbackEvery      = 5 * time.Second
	feedbackCloseAfter = time.Minute
	feedbackBatch      = 500
	feedbackLastSave   = 5 * time.Second
)

// FeedbackWriter writes to KUMA; *Client does. Both calls may be repeated.
type FeedbackWriter interface {
	// CloseAlert closes an alert, see Client.CloseAlert.
	CloseAlert(ctx context.Context, id string, reason CloseReason) (closedBefore bool, err error)
	// ImportActiveList writes records to an active list, see Client.ImportActiveList.
	ImportActiveList(ctx context.Context, in ListImport) error
}

var _ FeedbackWriter = (*Client)(nil)

// FeedbackPlan says what is written back. Comments are not offered: the public API up to 3.4 documents none.
type FeedbackPlan struct {
	// Close closes an alert of KUMA with this reason once all orders it led to ended done, or are covered by one that did; never when
	// one failed, was refused, expired, was cancelled, is unknown or only shadow, and not while one is held. "" = never.
	Close CloseReason
	// CloseAfter is how long nothing may have happened to the alert before that, so that what belongs to it can still come; 0 = 1 min.
	CloseAfter time.Duration
	// Lists are the active lists that tell which hosts are isolated; empty = none. The fields are host (the key), state (accepted,
	// isolated, releasing, released, failed or unknown), until (RFC 3339, "permanent", or empty when not known), since, order.
	Lists []FeedbackList
}

// FeedbackList is one active list on one correlator.
type FeedbackList struct {
	// Tenant limits it to alerts of a tenant; "" = those no other list is for, and isolations by hand.
	Tenant string
	// Correlator is the id of the correlator service, List the name or id of the list.
	Correlator, List string
}

// FeedbackConfig says where outcomes come from and what becomes of them.
type FeedbackConfig struct {
	Plan   FeedbackPlan
	Client FeedbackWriter
	// Records returns up to limit audit records with a Seq greater than after, oldest first; required.
	Records func(ctx context.Context, after int64, limit int) ([]bridge.AuditRecord, error)
	// Order returns an order; bridge.ErrNotFound when there is none any more. Required.
	Order func(ctx context.Context, id string) (bridge.Order, error)
	// Alert returns the id of the alert of KUMA an order comes from (bridge.Alert.Case), and its tenant; ok is false when it comes from
	// none. It is not asked for orders entered by hand. Required.
	Alert func(ctx context.Context, order string) (caseID, tenant string, ok bool, err error)
	// Leases returns the leases that hold; nil = the end of an isolation is told by its order alone, and an end the vendor's product made by
	// itself is not noticed.
	Leases func(ctx context.Context) ([]bridge.Lease, error)
	// Load returns what Save was given last, or "" when there is nothing. The text is opaque and under 4 MiB. Both required.
	Load func(context.Context) (string, error)
	Save func(context.Context, string) error
	// Every is the time between two looks into the audit chain, 100 ms to 10 min; 0 = 5 s.
	Every time.Duration
	// Now and Rand are the clock and the source of jitter in [0,1); nil = real.
	Now  func() time.Time
	Rand func() float64
	// Logger gets what cannot be written; nil = none.
	Logger *slog.Logger
}

// Feedback writes what became of orders back to KUMA. It walks the audit chain behind the bridge and never holds it up. Writing is
// at-least-once and harmless when repeated: a closed alert stays closed, a record of a list is replaced by its key. A write that fails is
// tried again with growing pauses, others go on meanwhile; after a day it is given up with an error in the log.
//
// The first start begins at the end of the chain: what happened before is not written.
type Feedback struct {
	cfg     FeedbackConfig
	state   feedbackState // belongs to Run
	pending atomic.Int64
	backoff pollBackoff // of reading and saving
	changed bool
	// quiet is until when KUMA is left alone after it could not be reached or refused the token; calm how that grows.
	quiet time.Time
	calm  pollBackoff
}

// NewFeedback checks the settings; it does no I/O.
func NewFeedback(cfg FeedbackConfig) (*Feedback, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if cfg.Client == nil || cfg.Records == nil || cfg.Order == nil || cfg.Alert == nil || cfg.Load == nil || cfg.Save == nil {
		bad("client, records, order, alert, load and save: required")
	}
	if cfg.Plan.Close == "" && len(cfg.Plan.Lists) == 0 {
		bad("plan: asks for nothing")
	}
	if cfg.Plan.Close != "" {
		reason, err := ParseCloseReason(string(cfg.Plan.Close))
		if err != nil {
			bad("plan.close: %w", err)
		}
		cfg.Plan.Close = reason
	}
	if cfg.Plan.CloseAfter < 0 {
		bad("plan.close_after: must not be negative")
	}
	tenants := map[string]bool{}
	for i, l := range cfg.Plan.Lists {
		probe := ListImport{Correlator: l.Correlator, List: l.List, KeyField: "host", Fields: feedbackFields(), Rows: [][]string{{"h", "", "", "", ""}}}
		if err := probe.check(); err != nil {
			bad("plan.lists[%d]: %w", i, err)
		}
		if tenants[l.Tenant] {
			bad("plan.lists[%d]: tenant %q has a list already", i, l.Tenant)
		}
		tenants[l.Tenant] = true
	}
	if cfg.Every != 0 && (cfg.Every < 100*time.Millisecond || cfg.Every > 10*time.Minute) {
		bad("every: must be between 100ms and 10m")
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("kuma feedback: %w", err)
	}
	if cfg.Every == 0 {
		cfg.Every = feedbackEvery
	}
	if cfg.Plan.CloseAfter == 0 {
		cfg.Plan.CloseAfter = feedbackCloseAfter
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Float64
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Feedback{cfg: cfg, backoff: pollBackoff{random: cfg.Rand}, calm: pollBackoff{random: cfg.Rand}}, nil
}

// Run follows the audit chain until ctx ends and then returns nil. It may be called once.
func (f *Feedback) Run(ctx context.Context) error {
	for {
		err := f.recall(ctx)
		if err == nil {
			break
		}
		if !f.wait(ctx, "feedback cannot begin yet", err) {
			return nil
		}
	}
	defer f.saveLast(ctx)
	for {
		more, err := f.read(ctx)
		if err == nil {
			f.write(ctx)
			err = f.save(ctx)
		}
		f.pending.Store(int64(len(f.state.Writes)))
		pause := f.cfg.Every
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			if !f.wait(ctx, "feedback is held up", err) {
				return nil
			}
			continue
		case more:
			pause = 0
		}
		f.backoff.reset()
		if !pollWait(ctx, pause) {
			return nil
		}
	}
}

// Pending returns how many writes wait, for the metrics. It may be called at any time.
func (f *Feedback) Pending() int { return int(f.pending.Load()) }

// wait pauses after an error of the store and reports whether ctx is still alive.
func (f *Feedback) wait(ctx context.Context, msg string, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	f.cfg.Logger.WarnContext(ctx, msg, "err", err) //nolint:sloglint // the message is a constant at each caller
	return pollWait(ctx, f.backoff.next(time.Second, time.Minute))
}

func (f *Feedback) recall(ctx context.Context) error {
	text, err := f.cfg.Load(ctx)
	if err != nil {
		return fmt.Errorf("load the watermark: %w", err)
	}
	f.state, err = restoreFeedback(text, f.cfg.Now())
	if err != nil {
		// Beginning at the end of the chain loses writes that were due; never beginning would lose all that follow too.
		f.cfg.Logger.ErrorContext(ctx, "watermark of the feedback cannot be read, writes that were due are lost", "err", err)
	}
	return nil
}

func (f *Feedback) save(ctx context.Context) error {
	if !f.changed {
		return nil
	}
	text, err := f.state.text()
	if err == nil {
		err = f.cfg.Save(ctx, text)
	}
	if err != nil {
		return fmt.Errorf("save the watermark: %w", err)
	}
	f.changed = false
	return nil
}

func (f *Feedback) saveLast(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), feedbackLastSave)
	defer cancel()
	if err := f.save(ctx); err != nil {
		f.cfg.Logger.WarnContext(ctx, "feedback writes some outcomes once more after the next start", "err", err)
	}
}
