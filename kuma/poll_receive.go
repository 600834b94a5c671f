package kuma

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// Receive returns the next alert with its events, read from KUMA at that moment. It blocks until there is one, ctx ends, or the source is
// over (ErrClosed: what was not handed out comes again after the next start). While KUMA does not answer it waits, as Run does.
func (p *Poll) Receive(ctx context.Context) (bridge.Delivery, error) {
	for {
		switch {
		case ctx.Err() != nil:
			return bridge.Delivery{}, context.Cause(ctx)
		case p.life.IsOver():
			return bridge.Delivery{}, bridge.ErrClosed
		}
		it, wait := p.pick()
		if it != nil {
			if d, ok := p.read(ctx, it); ok {
				return d, nil
			}
			continue
		}
		t := time.NewTimer(wait)
		select {
		case <-p.wake:
		case <-t.C:
		case <-ctx.Done():
		case <-p.life.Closing():
		case <-p.life.Done():
		}
		t.Stop()
	}
}

// pick returns the alert to read next, or how long to wait for one.
func (p *Poll) pick() (*pollItem, time.Duration) {
	if wait := p.pausing(); wait > 0 {
		return nil, wait
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cfg.Now()
	it, soon := p.book.next(now)
	switch {
	case it != nil:
		it.stage = pollReading
		return it, 0
	case soon.IsZero():
		return nil, time.Hour
	default:
		return nil, max(soon.Sub(now), time.Millisecond)
	}
}

// read gets an alert with its events. ok is false when there is nothing to deliver.
func (p *Poll) read(ctx context.Context, it *pollItem) (bridge.Delivery, bool) {
	found, err := p.fetch(ctx, it.id)
	switch {
	case err != nil && (restPassing(err) || errors.Is(err, ErrCredentials)):
		p.giveBack(it)
		if ctx.Err() == nil && !p.life.IsOver() {
			p.failed(ctx, err)
		}
		return bridge.Delivery{}, false
	case err != nil:
		p.lost(ctx, "an alert cannot be read with its events", it.id, err)
	case found == nil:
		p.lost(ctx, "an alert was gone before it could be read", it.id, nil)
	default:
		p.succeeded(ctx)
		return p.deliver(it, *found), true
	}
	p.mu.Lock()
	p.book.settle(it)
	p.mu.Unlock()
	pollSignal(p.dirty)
	return bridge.Delivery{}, false
}

// fetch reads one alert by its id; nil when KUMA has none. It ends with the source.
func (p *Poll) fetch(ctx context.Context, id string) (*Alert, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-p.life.Closing():
			cancel(bridge.ErrClosed)
		case <-ctx.Done():
		}
	})
	defer wg.Wait()
	defer cancel(nil)
	found, err := p.cfg.Client.Alerts(ctx, AlertQuery{IDs: []string{id}, WithEvents: true})
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(found, func(a Alert) bool { return strings.EqualFold(a.ID, id) })
	if i < 0 {
		return nil, nil //nolint:nilnil // nothing found is an answer, not an error
	}
	return &found[i], nil
}

func (p *Poll) giveBack(it *pollItem) {
	p.mu.Lock()
	defer p.mu.Unlock()
	it.stage = pollQueued
}

func (p *Poll) deliver(it *pollItem, a Alert) bridge.Delivery {
	if a.LastSeen.IsZero() {
		a.LastSeen = it.lastSeen
	}
	p.mu.Lock()
	it.stage = pollDelivered
	it.attempts++
	attempt := it.attempts
	it.also = ""
	if key := a.DeliveryID(); key != it.key {
		it.also = key
	}
	p.mu.Unlock()
	return bridge.Delivery{
		Alert: bridge.Alert{
			ID: a.DeliveryID(), Source: p.cfg.Name, Preset: p.cfg.Preset, Tenant: a.TenantID, Case: a.ID,
			Received: p.cfg.Now().UTC(), Raw: a.Document,
		},
		Settle: func(_ context.Context, err error) error { return p.settle(it, attempt, err) },
	}
}

// settle notes how a delivery went. A bad alert is among the dead letters of the bridge by then, so KUMA need not give it again.
func (p *Poll) settle(it *pollItem, attempt int, err error) error {
	if p.life.IsClosed() {
		return bridge.ErrClosed
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if it.stage != pollDelivered || it.attempts != attempt {
		return errPollSettled
	}
	if err != nil && !errors.Is(err, bridge.ErrBadAlert) {
		back := pollBackoff{random: p.cfg.Rand, n: attempt - 1}
		it.stage, it.due = pollQueued, p.cfg.Now().Add(back.next(p.cfg.Retry, max(pollMaxRetry, p.cfg.Retry)))
		pollSignal(p.wake)
		return nil
	}
	it.stage = pollQueued // it leaves the hand, so nobody sees the stage
	it.attempts = -1
	p.book.settle(it)
	pollSignal(p.dirty)
	return nil
}
