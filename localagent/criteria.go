package localagent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// The digests of the empty file: they match whatever is empty, never one program.
const (
	emptyMD5    = "d41d8cd98f00b204e9800998ecf8427e"
	emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// criteria is what an image must fulfil; everything that is given must hold for one and the same file.
type criteria struct {
	// paths are the spellings of the path asked for; empty when only digests are.
	paths       []string
	exact       bool
	md5, sha256 string
}

// view is one file a process can be said to run, by the names it goes by, with a way to open that very file. far reports whether a program
// of somebody or another machine serves it, and may never answer; nil = it does not.
type view struct {
	name string
	open func() (*os.File, error)
	far  func() bool
}

const (
	// patience is how long the agent waits for a far file, maxSilent how many that do not answer it waits for at most: each costs a thread.
	patience  = 3 * time.Second
	maxSilent = 8
)

// silence holds the names of the files nobody has answered for yet: they are not asked for again meanwhile. Its zero value is ready.
type silence struct {
	// mu guards names.
	mu    sync.Mutex
	names map[string]bool
}

// of reports whether to ask for the file is of no use.
func (s *silence) of(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.names[name] || len(s.names) >= maxSilent
}

// until keeps the name until its answer comes.
func (s *silence) until(name string, answer func()) {
	s.mu.Lock()
	if s.names == nil {
		s.names = make(map[string]bool)
	}
	s.names[name] = true
	s.mu.Unlock()
	answer()
	s.mu.Lock()
	delete(s.names, name)
	s.mu.Unlock()
}

// errSilent says that the content of a file could not be had in time.
var errSilent = errors.New("whoever serves the file does not answer")

func newCriteria(t bridge.TerminateProcess) (criteria, error) {
	c := criteria{exact: t.CaseSensitive, md5: strings.ToLower(t.MD5), sha256: strings.ToLower(t.SHA256)}
	if t.Path != "" {
		c.paths = spellings(t.Path)
	}
	if c.empty() {
		return c, nil
	}
	if err := t.Validate(); err != nil {
		return c, verdict.Refuse(bridge.ReasonInvalid, "%w", err)
	}
	if c.md5 == emptyMD5 || c.sha256 == emptySHA256 {
		return c, verdict.Refuse(bridge.ReasonInvalid, "the digest is that of the empty file: it names no program")
	}
	return c, nil
}

func (c *criteria) empty() bool { return len(c.paths) == 0 && !c.hashed() }

func (c *criteria) hashed() bool { return c.md5 != "" || c.sha256 != "" }

// names reports whether name is the path asked for; without a path every name is.
func (c *criteria) names(name string) bool {
	if len(c.paths) == 0 {
		return true
	}
	for _, p := range c.paths {
		if name == p || !c.exact && strings.EqualFold(name, p) {
			return true
		}
	}
	return false
}

// matches returns the name of the file of p that fulfils all criteria, or "" when none does.
func (a *Agent) matches(ctx context.Context, p *pinned, c *criteria) (string, error) {
	for v := range p.views() {
		if !c.names(v.name) {
			continue
		}
		if !c.hashed() {
			return v.name, nil
		}
		ok, err := a.hashMatches(ctx, v, c)
		if err != nil {
			return "", fmt.Errorf("digest of %s: %w", verdict.Shown(v.name), err)
		}
		if ok {
			return v.name, nil
		}
	}
	return "", nil
}

func (a *Agent) hashMatches(ctx context.Context, v view, c *criteria) (bool, error) {
	d, err := a.digestsOf(ctx, v, c.md5 != "", c.sha256 != "")
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return (c.md5 == "" || c.md5 == d.MD5) && (c.sha256 == "" || c.sha256 == d.SHA256), nil
}

// digestsOf opens and hashes a view. A far one that is not hashed in time is errSilent, and what waits for it is left behind.
func (a *Agent) digestsOf(ctx context.Context, v view, wantMD5, wantSHA256 bool) (files.Digests, error) {
	read := func() (files.Digests, error) {
		f, err := v.open()
		if err != nil {
			return files.Digests{}, err
		}
		defer func() { _ = f.Close() }()
		return a.digests.Of(ctx, f, wantMD5, wantSHA256)
	}
	if v.far == nil || !v.far() {
		return read()
	}
	if a.silent.of(v.name) {
		return files.Digests{}, errSilent
	}
	type answer struct {
		files.Digests
		err error
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answers := make(chan answer, 1)
	go func() {
		d, err := read()
		answers <- answer{d, err}
	}()
	select {
	case got := <-answers:
		if got.err != nil && ctx.Err() != nil {
			return files.Digests{}, errSilent
		}
		return got.Digests, got.err
	case <-ctx.Done():
		go a.silent.until(v.name, func() { <-answers })
		return files.Digests{}, errSilent
	}
}
