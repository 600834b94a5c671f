package redisbus

import (
	"context"
	"log/slog"
	"sync"
)

// health is whether a source stands, and why not. It logs changes, not repetitions.
type health struct {
	log *slog.Logger
	// mu guards up and err.
	mu  sync.Mutex
	up  bool
	err error
}

func (h *health) connected() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.up
}

func (h *health) last() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

func (h *health) rise(ctx context.Context) {
	h.mu.Lock()
	was := h.up
	h.up, h.err = true, nil
	h.mu.Unlock()
	if !was {
		h.log.InfoContext(ctx, "redis source connected")
	}
}

func (h *health) fall(ctx context.Context, err error) {
	h.mu.Lock()
	was, before := h.up, h.err
	h.up, h.err = false, explain(err)
	h.mu.Unlock()
	if ctx.Err() == nil && (was || before == nil) {
		h.log.WarnContext(ctx, "redis source not connected", "err", clip(err.Error()))
	}
}
