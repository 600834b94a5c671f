package prevention

import (
	"context"
	"fmt"
	"sync"

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
// program at another place may be denied by its path. The path is what the kernel calls the file where it was executed, and in a mount
// namespace of his own anybody calls his file as he likes: it counts only when holds says that here, too, it is this file.
func (s *safeguard) judge(id files.ID, r *Rule, path string, holds func(string, files.ID) bool) string {
	s.mu.Lock()
	p := s.protected
	s.mu.Unlock()
	if p == nil {
		return "it is not known which programs must always run"
	}
	if reason, why := p.ByID(id); reason != bridge.ReasonNone {
		return why
	}
	if path != "" && holds(path, id) {
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
