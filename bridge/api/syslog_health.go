package api

import (
	"context"
	"log/slog"
	"sync"
)

// syslogHealth is whether the port is open, and why not. It logs changes, not repetitions.
type syslogHealth struct {
	log *slog.Logger

	mu   sync.Mutex // guards open and err
	open bool
	err  error
}

func (h *syslogHealth) up() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.open
}

func (h *syslogHealth) last() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

func (h *syslogHealth) rise(ctx context.Context, addr string) {
	h.mu.Lock()
	h.open, h.err = true, nil
	h.mu.Unlock()
	h.log.InfoContext(ctx, "syslog port is open", "address", addr)
}

// fall is called with nil when the port is closed because the source ends.
func (h *syslogHealth) fall(ctx context.Context, err error) {
	h.mu.Lock()
	told := h.err != nil && err != nil && h.err.Error() == err.Error()
	h.open, h.err = false, err
	h.mu.Unlock()
	if err != nil && !told {
		h.log.WarnContext(ctx, "syslog port is not open, trying again", "err", err)
	}
}
