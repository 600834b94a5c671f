package bridge

import (
	"context"
	"sync"
)

// hand waits for the orders of one Submit.
type hand struct {
	mu      sync.Mutex // guards the maps
	results map[string]Order
	left    map[string]struct{}
	begun   map[string]struct{} // orders that somebody performs for this hand
	done    chan struct{}
}

func newHand(orders []Order) *hand {
	h := &hand{results: map[string]Order{}, left: map[string]struct{}{}, begun: map[string]struct{}{}, done: make(chan struct{})}
	for _, o := range orders {
		h.results[o.ID] = o
		h.left[o.ID] = struct{}{}
	}
	if len(orders) == 0 {
		close(h.done)
	}
	return h
}

// began says that ended will be called for the order when it has been performed.
func (h *hand) began(o Order) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.begun[o.ID] = struct{}{}
}

// stands takes note of an order this hand does not perform: one that is not to be, or that somebody else has in hand.
func (h *hand) stands(o Order) {
	h.mu.Lock()
	_, begun := h.begun[o.ID]
	h.mu.Unlock()
	if !begun {
		h.ended(o)
	}
}

// ended takes note of how the bridge left an order.
func (h *hand) ended(o Order) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.results[o.ID] = o
	if _, waiting := h.left[o.ID]; !waiting {
		return
	}
	delete(h.left, o.ID)
	if len(h.left) == 0 {
		close(h.done)
	}
}

// finish blocks until every order has ended.
func (h *hand) finish(orders []Order) []Order {
	<-h.done
	return h.stand(orders)
}

// wait blocks until every order has ended, or ctx does; the error is ctx's then.
func (h *hand) wait(ctx context.Context, orders []Order) ([]Order, error) {
	select {
	case <-h.done:
		return h.stand(orders), nil
	case <-ctx.Done():
		return h.stand(orders), context.Cause(ctx)
	}
}

// stand returns how the orders stand.
func (h *hand) stand(orders []Order) []Order {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]Order, len(orders))
	for i, o := range orders {
		out[i] = h.results[o.ID]
	}
	return out
}
