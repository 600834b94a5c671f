package kuma

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	feedbackFirstRetry = 5 * time.Second
	feedbackLastRetry  = time.Hour
	feedbackGiveUp     = 24 * time.Hour
	feedbackMinTries   = 5
)

func feedbackFields() []string { return []string{"host", "state", "until", "since", "order"} }

// write tries what is due, oldest first, but what failed often last: it must not keep the rest waiting.
func (f *Feedback) write(ctx context.Context) {
	now := f.cfg.Now()
	if now.Before(f.quiet) {
		return
	}
	var leases []bridge.Lease
	var leasesErr error
	asked := false
	queue := slices.Clone(f.state.Writes)
	slices.SortStableFunc(queue, func(a, b *feedbackWrite) int { return cmp.Compare(a.Tries, b.Tries) })
	for _, w := range queue {
		if w.Due.After(now) {
			continue
		}
		if w.Kind == feedbackRow && f.cfg.Leases != nil && !asked {
			leases, leasesErr = f.cfg.Leases(ctx)
			asked = true
		}
		err := leasesErr
		if w.Kind != feedbackRow || err == nil {
			err = f.do(ctx, w, leases)
		}
		if ctx.Err() != nil {
			return
		}
		f.changed = true
		if err == nil {
			f.written(w)
			f.calm.reset()
			continue
		}
		f.failed(ctx, w, err)
		if f.silent(err) {
			return
		}
	}
}

// do writes one thing.
func (f *Feedback) do(ctx context.Context, w *feedbackWrite, leases []bridge.Lease) error {
	if w.Kind == feedbackClose {
		_, err := f.cfg.Client.CloseAlert(ctx, w.Key, f.cfg.Plan.Close)
		return err
	}
	h := f.state.Hosts[w.Key]
	if h == nil {
		return nil
	}
	l, ok := f.list(h.Tenant)
	if !ok {
		return nil // the settings changed since it became due
	}
	name, _ := bridge.SplitHost(h.Host)
	return f.cfg.Client.ImportActiveList(ctx, ListImport{
		Correlator: l.Correlator, List: l.List, KeyField: "host", Fields: feedbackFields(),
		Rows: [][]string{{name, h.State, feedbackUntil(h, leases), feedbackTime(h.Since), h.Order}},
	})
}

// feedbackUntil is when the isolation ends: with the last of its leases where they are known.
func feedbackUntil(h *feedbackHost, leases []bridge.Lease) string {
	if h.State == feedbackAccepted || h.State == feedbackIsolated {
		var last time.Time
		for _, l := range leases {
			switch {
			case !feedbackOf(l, h):
			case l.Until.IsZero():
				return "permanent"
			case l.Until.After(last):
				last = l.Until
			}
		}
		if !last.IsZero() {
			return feedbackTime(last)
		}
	}
	return feedbackTime(h.Until)
}

func feedbackTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// written forgets what a write was about, unless more is expected of it.
func (f *Feedback) written(w *feedbackWrite) {
	f.state.drop(w.Kind, w.Key)
	switch w.Kind {
	case feedbackClose:
		delete(f.state.Cases, w.Key)
	case feedbackRow:
		if h := f.state.Hosts[w.Key]; h != nil && h.over() {
			delete(f.state.Hosts, w.Key)
		}
	}
}

// failed puts a write off, or gives it up after a day: KUMA will not want it any more, and a person has to know.
func (f *Feedback) failed(ctx context.Context, w *feedbackWrite, err error) {
	w.Tries++
	_, hopeless := errors.AsType[*argumentError](err)
	age := f.cfg.Now().Sub(w.First)
	if hopeless || age >= feedbackGiveUp && w.Tries >= feedbackMinTries {
		f.cfg.Logger.ErrorContext(ctx, "outcome is not written back to kuma", "order", w.Order, "what", w.Kind, "about", restExcerpt([]byte(w.Key), restMaxName),
			"tries", w.Tries, "err", err)
		f.written(w)
		return
	}
	back := pollBackoff{random: f.cfg.Rand, n: w.Tries - 1}
	w.Due = f.cfg.Now().Add(back.next(feedbackFirstRetry, feedbackLastRetry))
	if w.Tries == 1 {
		f.cfg.Logger.WarnContext(ctx, "outcome cannot be written back to kuma yet", "order", w.Order, "what", w.Kind, "err", err)
	}
}

// silent reports whether the error is about KUMA as a whole, which is then left alone for a while.
func (f *Feedback) silent(err error) bool {
	first, last := time.Second, time.Minute
	_, answered := errors.AsType[*APIError](err)
	_, hopeless := errors.AsType[*argumentError](err)
	switch {
	case errors.Is(err, ErrCredentials):
		first, last = time.Minute, 5*time.Minute
	case answered || hopeless:
		return false
	}
	f.quiet = f.cfg.Now().Add(f.calm.next(first, last))
	return true
}
