package localagent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
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
	// others are the processes that an earlier look of the same order found to run something else; candidates makes it.
	others map[int]bool
}

// view is one file a process can be said to run, by the names it goes by, with a way to open that very file.
type view struct {
	name string
	open func() (*os.File, error)
}

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
	f, err := v.open()
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	d, err := a.digests.Of(ctx, f, c.md5 != "", c.sha256 != "")
	if err != nil {
		return false, err
	}
	return (c.md5 == "" || c.md5 == d.MD5) && (c.sha256 == "" || c.sha256 == d.SHA256), nil
}
