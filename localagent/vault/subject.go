package vault

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// maxHolderNames is how many holders of a file a receipt names.
const maxHolderNames = 8

// subject is what the file tasks have in common: the order, the file, and the digests it must have.
type subject struct {
	order string
	task  bridge.Kind
	path  string
	want  files.Digests
}

// newSubject checks a task: bridge says what holds on every system, files what holds on this one.
func newSubject(order string, t bridge.Task, path, md5, sha256 string) (subject, error) {
	if order == "" {
		return subject{}, verdict.Refuse(bridge.ReasonInvalid, "the order has no id, by which it would be known again")
	}
	if err := t.Validate(); err != nil {
		return subject{}, verdict.Refuse(bridge.ReasonInvalid, "%w", err)
	}
	if err := files.CheckPath(path); err != nil {
		return subject{}, verdict.Refuse(bridge.ReasonInvalid, "%w", err)
	}
	return subject{order, t.Kind(), filepath.Clean(path), files.Digests{MD5: strings.ToLower(md5), SHA256: strings.ToLower(sha256)}}, nil
}

func (s *subject) id() string { return newID(s.order, s.task, s.path) }

// named reports whether the order names a digest.
func named(want files.Digests) bool { return want.MD5 != "" || want.SHA256 != "" }

// differs says in words how the digests are not those of the order, or "". All that are given must match.
func differs(want, has files.Digests) string {
	switch {
	case want.SHA256 != "" && want.SHA256 != has.SHA256:
		return fmt.Sprintf("its SHA-256 is %s, the order means %s", has.SHA256, want.SHA256)
	case want.MD5 != "" && want.MD5 != has.MD5:
		return fmt.Sprintf("its MD5 is %s, the order means %s", has.MD5, want.MD5)
	default:
		return ""
	}
}

// guarded refuses the file when it may not be acted on. Whoever cannot tell refuses, too.
func (v *Vault) guarded(ctx context.Context, p *files.Pinned) error {
	if files.Below(p.Path, v.cfg.Dir) {
		return verdict.Refuse(bridge.ReasonProtectedPath, "%s is protected: it belongs to the quarantine itself", verdict.Shown(p.Path))
	}
	if v.cfg.Protected == nil {
		return nil
	}
	reason, why, err := v.cfg.Protected(ctx, p.File, p.Path)
	if err != nil {
		if stopped := verdict.Stopped(ctx, "look whether the file is protected"); stopped != nil {
			return stopped
		}
		return verdict.Hopeless("protections of %s: %w", verdict.Shown(p.Path), err)
	}
	if reason != bridge.ReasonNone {
		return verdict.Refuse(reason, "%s is protected: %s", verdict.Shown(p.Path), why)
	}
	return nil
}

// unchanged reports whether the content can be what it was when the key was taken.
func unchanged(p *files.Pinned, z *files.Frozen, before files.Key) bool {
	if z.Held() {
		return true
	}
	after, _, err := files.KeyOf(p.File)
	return err == nil && after == before
}

// afterlife tells where the content of a removed file lives on.
func (v *Vault) afterlife(ctx context.Context, p *files.Pinned) string {
	var notes []string
	// Counted afterwards: somebody may have given it another name while it was copied.
	left := p.Stat.Links - min(p.Stat.Links, 1)
	if st, err := p.Look(); err == nil {
		left = st.Links
	}
	if left > 0 {
		notes = append(notes, fmt.Sprintf("the content stays: it has %d other names (hard links)", left))
	}
	holders, err := v.cfg.holders(ctx, p.Stat.ID)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		notes = append(notes, "who holds it open could not be told")
	}
	var names []string
	for _, h := range holders {
		if len(names) == maxHolderNames {
			names = append(names, fmt.Sprintf("%d more", len(holders)-maxHolderNames))
			break
		}
		names = append(names, fmt.Sprintf("pid %d (%s, %s it)", h.PID, verdict.Shown(h.Name), h.How))
	}
	if len(names) > 0 {
		notes = append(notes, "the content lives on until these end: "+strings.Join(names, ", "))
	}
	return noted(notes)
}

// noted makes what follows a receipt of notes.
func noted(notes []string) string {
	if len(notes) == 0 {
		return ""
	}
	return "; " + strings.Join(notes, "; ")
}
