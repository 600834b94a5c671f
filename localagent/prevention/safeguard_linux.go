package prevention

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// maxCleared bounds what safeguard remembers.
const maxCleared = 4096

// safeguard keeps protected files from being denied when it comes to it, whatever the rules say. Its zero value denies nothing.
type safeguard struct {
	// mu guards both.
	mu        sync.Mutex
	protected Protected
	cleared   map[clearance]struct{}
}

// clearance is a file that may be denied by a rule.
type clearance struct {
	id   files.ID
	rule string
}

// refresh asks anew what is protected. While that cannot be told, nothing is denied.
func (s *safeguard) refresh(ctx context.Context, ask func(context.Context) (Protected, error)) error {
	p, err := ask(ctx)
	if err != nil {
		p, err = nil, fmt.Errorf("find out which programs must always run: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.protected, s.cleared = p, nil
	return err
}

// judge says why a file must not be denied by a rule, or "". A rule by path alone is not about the content: a copy of a protected
// program at another place may be denied by its path.
func (s *safeguard) judge(id files.ID, r *Rule, path string) string {
	s.mu.Lock()
	p := s.protected
	s.mu.Unlock()
	if p == nil {
		return "it is not known which programs must always run"
	}
	if reason, why := p.ByID(id); reason != bridge.ReasonNone {
		return why
	}
	if path != "" {
		if reason, why := p.ByPath(path); reason != bridge.ReasonNone {
			return why
		}
	}
	if r.digest() != "" {
		if reason, why := p.ByDigest(r.digest()); reason != bridge.ReasonNone {
			return why
		}
	}
	return ""
}

func (s *safeguard) clear(id files.ID, rule string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cleared == nil || len(s.cleared) >= maxCleared {
		s.cleared = make(map[clearance]struct{})
	}
	s.cleared[clearance{id, rule}] = struct{}{}
}

// wasCleared reports whether the file was denied by the rule since the last refresh.
func (s *safeguard) wasCleared(id files.ID, rule string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.cleared[clearance{id, rule}]
	return ok
}

// breaker opens when more different files are denied within a second than a sound rule would hit, and stays open.
type breaker struct {
	limit int
	// mu guards the rest.
	mu     sync.Mutex
	denied []breakerEntry
	why    string
}

type breakerEntry struct {
	id files.ID
	at time.Time
}

// count adds a denial and reports whether it may be one.
func (b *breaker) count(id files.ID, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.why != "" {
		return false
	}
	kept := b.denied[:0]
	known := false
	for _, e := range b.denied {
		if now.Sub(e.at) < time.Second {
			kept = append(kept, e)
			known = known || e.id == id
		}
	}
	b.denied = kept
	if known {
		return true
	}
	if len(b.denied) >= b.limit {
		b.why = fmt.Sprintf("the breaker opened at %s: more than %d different files were denied within a second",
			now.UTC().Format(time.RFC3339), b.limit)
		return false
	}
	b.denied = append(b.denied, breakerEntry{id, now})
	return true
}

func (b *breaker) closed() bool { return b.reason() == "" }

func (b *breaker) reason() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.why
}

// set opens the breaker for a reason, or closes it with "".
func (b *breaker) set(why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.why, b.denied = why, nil
}
