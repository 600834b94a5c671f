package kuma

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// pollMaxStale is how many pages in a row may hold nothing unseen: the first one after the bound moved, and some that things moved out of.
const pollMaxStale = 4

// list returns the alerts from the watermark on, without events, oldest first, as many of the oldest as there is room for and one more.
//
// KUMA lists the newest first and counts pages while alerts grow and move, so a walk by page numbers would miss what moves over a
// border. This one asks for what is not newer than the oldest it has seen, which nothing can move out of unseen: an alert that
// grows in the meantime shows up in the next look.
func (p *Poll) list(ctx context.Context) ([]Alert, error) {
	p.mu.Lock()
	q := AlertQuery{Statuses: p.cfg.Statuses, Tenants: p.cfg.Tenants, From: p.book.from()}
	keep := p.book.max + 1
	p.mu.Unlock()
	var heads []Alert
	seen := map[string]bool{}
	stale := 0 // pages in a row that held nothing unseen
	for {
		page, err := p.cfg.Client.Alerts(ctx, q)
		if err != nil {
			return nil, err
		}
		fresh, oldest := 0, time.Time{}
		for _, a := range page {
			if !restUUID(a.ID) || a.LastSeen.IsZero() {
				p.odd(ctx, a)
				continue
			}
			if oldest.IsZero() || a.LastSeen.Before(oldest) {
				oldest = a.LastSeen
			}
			key := a.DeliveryID()
			if seen[key] {
				continue
			}
			seen[key] = true
			fresh++
			if !p.settled(key) {
				a.Document = nil
				heads = append(heads, a)
			}
		}
		heads = oldestFirst(heads, keep)
		if len(page) < AlertPage {
			return heads, nil
		}
		if fresh > 0 {
			stale = 0
		} else if stale++; stale > pollMaxStale {
			return nil, errors.New("kuma answers the same page of alerts over and over")
		}
		// Milliseconds are what the API compares: what is within the same one must be asked for again.
		to := oldest.Truncate(time.Millisecond).Add(time.Millisecond)
		if q.To.IsZero() || to.Before(q.To) {
			q.To, q.Page = to, 1
		} else {
			q.Page++
		}
	}
}

func oldestFirst(heads []Alert, keep int) []Alert {
	slices.SortFunc(heads, func(a, b Alert) int {
		if c := a.LastSeen.Compare(b.LastSeen); c != 0 {
			return c
		}
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return heads[:min(len(heads), keep)]
}

func (p *Poll) settled(key string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.book.done[pollDigest(key)]
	return ok
}

// take notes what a look found.
func (p *Poll) take(ctx context.Context, heads []Alert) {
	p.mu.Lock()
	full := p.book.take(heads)
	p.mu.Unlock()
	if full {
		p.cfg.Logger.DebugContext(ctx, "more alerts wait in kuma than may be in hand", "source_name", p.cfg.Name)
	}
	pollSignal(p.wake)
	pollSignal(p.dirty)
}

// odd reports once an alert that cannot be named, and so not be read.
func (p *Poll) odd(ctx context.Context, a Alert) {
	sum := sha256.Sum256(a.Document)
	p.mu.Lock()
	known := p.book.odd[sum] || len(p.book.odd) >= pollMaxOdd
	if !known {
		p.book.odd[sum] = true
	}
	p.mu.Unlock()
	if !known {
		p.lost(ctx, "an alert came without a usable id or lastSeen", "", nil)
	}
}

// lost makes a loss known.
func (p *Poll) lost(ctx context.Context, why, alert string, err error) {
	p.cfg.Logger.ErrorContext(ctx, "alert of kuma is lost", "source_name", p.cfg.Name, "alert", alert, "why", why, "err", err)
	detail := why
	if alert != "" {
		detail += ": " + alert
	}
	p.cfg.OnNote(bridge.Note{What: bridge.NoteLoss, Source: p.cfg.Name, Count: 1, Detail: detail})
}
