package scan

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// clamdPlaces is where distributions put clamd's socket: Debian and its kin, then others.
func clamdPlaces() []string {
	return []string{"/var/run/clamav/clamd.ctl", "/run/clamav/clamd.ctl", "/run/clamd.scan/clamd.sock", "/var/run/clamav/clamd.sock"}
}

// Probe says in words which engine a scan would have, and which signatures; an error says why there is none. It changes nothing
// and answers within seconds.
func (s *Scanner) Probe(ctx context.Context) (string, error) {
	_, info, end, err := s.choose(ctx)
	if err != nil {
		return "", err
	}
	defer end()
	text := fmt.Sprintf("%s %s, %s", info.Name, info.Version, info.Signatures)
	if !info.Date.IsZero() {
		text += " of " + info.Date.UTC().Format("2006-01-02")
	}
	return strings.Join(append([]string{text}, info.Notes...), "; "), nil
}

// choose returns the engine of one scan and what ends it.
func (s *Scanner) choose(ctx context.Context) (Engine, EngineInfo, func(), error) {
	nothing := func() {}
	if s.cfg.Engine != nil {
		info, err := s.cfg.Engine.Info(ctx)
		if err != nil {
			return nil, EngineInfo{}, nothing, verdict.Untouched("ask the engine what it is: %w", err)
		}
		return s.cfg.Engine, info, nothing, nil
	}
	if s.cfg.Clamd != "" {
		c, info, err := s.clamd(ctx, s.cfg.Clamd)
		if err != nil {
			// Whoever named a clamd relies on its signatures: the few of the built-in engine would say clean too easily.
			return nil, EngineInfo{}, nothing, verdict.Untouched("clamd at %s: %w", s.cfg.Clamd, err)
		}
		return c, info, c.close, nil
	}
	var notes []string
	for _, place := range clamdPlaces() {
		if st, err := os.Stat(place); err != nil || st.Mode()&fs.ModeSocket == 0 {
			continue
		}
		c, info, err := s.clamd(ctx, place)
		if err == nil {
			return c, info, c.close, nil
		}
		notes = append(notes, fmt.Sprintf("clamd at %s is not used: %v", place, err))
	}
	b, note, err := s.builtin()
	if err != nil {
		return nil, EngineInfo{}, nothing, err
	}
	info, err := b.Info(ctx)
	info.Notes = append(info.Notes, notes...)
	if note != "" {
		info.Notes = append(info.Notes, note)
	}
	return b, info, nothing, err
}

func (s *Scanner) clamd(ctx context.Context, where string) (*clamd, EngineInfo, error) {
	c, err := newClamd(where, s.cfg.ClamdMaxFile, s.cfg.Workers)
	if err != nil {
		return nil, EngineInfo{}, err
	}
	info, err := c.Info(ctx)
	if err != nil {
		c.close()
		return nil, EngineInfo{}, err
	}
	return c, info, nil
}

// builtin returns the built-in engine with the signatures file as it is on the disk. When that has become unreadable, the
// signatures read last stay in use, and note says so.
func (s *Scanner) builtin() (b *builtin, note string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cfg.Signatures == "" {
		if s.loaded == nil {
			s.loaded = newBuiltin(&signatures{}, "", s.loadedFrom.Modified)
		}
		return s.loaded, "", nil
	}
	fresh, st, err := s.load()
	switch {
	case err == nil:
		s.loaded, s.loadedFrom = fresh, st
		return fresh, "", nil
	case s.loaded != nil:
		note = fmt.Sprintf("the signatures read before are used: signatures file %s: %v", verdict.Shown(s.cfg.Signatures), err)
		return s.loaded, note, nil
	default:
		return nil, "", verdict.Hopeless("signatures file %s: %w", verdict.Shown(s.cfg.Signatures), err)
	}
}

// load reads the signatures file unless it is the one that is loaded.
func (s *Scanner) load() (*builtin, files.Stat, error) {
	f, err := os.Open(s.cfg.Signatures)
	if err != nil {
		return nil, files.Stat{}, errors.Unwrap(err)
	}
	defer func() { _ = f.Close() }()
	st, err := files.StatOf(f)
	if err != nil {
		return nil, st, err
	}
	if !st.Perm.IsRegular() {
		return nil, st, files.ErrNotRegular
	}
	if err := checkWriters(st); err != nil {
		return nil, st, err
	}
	if s.loaded != nil && st.ID == s.loadedFrom.ID && unchanged(st, s.loadedFrom) {
		return s.loaded, st, nil
	}
	sigs, err := parseSignatures(f)
	if err != nil {
		return nil, st, err
	}
	return newBuiltin(sigs, s.cfg.Signatures, st.Modified), st, nil
}

// unchanged reports whether the content of a file is the same at both moments, as far as the system tells.
func unchanged(a, b files.Stat) bool {
	return a.Bytes == b.Bytes && a.Modified.Equal(b.Modified) && a.Changed.Equal(b.Changed)
}
