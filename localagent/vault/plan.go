package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// target is one file of a plan: pinned, judged, and hashed when the order names a digest.
type target struct {
	p      *files.Pinned
	z      *files.Frozen
	key    files.Key // when it was hashed
	hashed bool
}

// deletionPlan is what one deleteFile is about: nothing else is removed.
type deletionPlan struct {
	targets []*target
	// kept are protected files that would have been meant, each with the entry that protects it; reason is the first one's.
	kept   []string
	reason bridge.Reason
	// failed are files that have the name and could not be judged: the order is not done while there are any.
	failed []error
	search bool
	root   string
	base   string
	stats  files.WalkStats
}

func (pl *deletionPlan) close() {
	for _, t := range pl.targets {
		t.z.Thaw()
		_ = t.p.Close()
	}
}

// planDeletion fixes what is removed. It removes nothing.
func (v *Vault) planDeletion(ctx context.Context, s *subject, search bool) (_ *deletionPlan, err error) {
	pl := &deletionPlan{search: search, root: filepath.Dir(s.path), base: filepath.Base(s.path)}
	defer func() {
		if err != nil {
			pl.close()
		}
	}()
	if search {
		err = v.planSearch(ctx, s, pl)
	} else {
		err = v.planPath(ctx, s, pl)
	}
	if err != nil {
		return nil, err
	}
	if len(pl.targets)+len(pl.failed) == 0 && len(pl.kept) > 0 {
		return nil, verdict.Refuse(pl.reason, "protected: %s", verdict.List(pl.kept))
	}
	return pl, nil
}

func (v *Vault) planPath(ctx context.Context, s *subject, pl *deletionPlan) error {
	p, err := files.Pin(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fileVerdict(ctx, s.path, err)
	}
	t := &target{p: p, z: files.Freeze(p.File)}
	pl.targets = append(pl.targets, t)
	if err := v.guarded(ctx, p); err != nil {
		return err
	}
	if err := p.Writable(); err != nil {
		return fileVerdict(ctx, s.path, err)
	}
	how, err := t.compare(ctx, s.want)
	if err != nil {
		return err
	}
	if how != "" {
		return verdict.Hopeless("%s is another file: %s", verdict.Shown(s.path), how)
	}
	return nil
}

// compare says how the file is not what the order means, or "".
func (t *target) compare(ctx context.Context, want files.Digests) (string, error) {
	if !named(want) {
		return "", nil
	}
	key, size, err := files.KeyOf(t.p.File)
	if err != nil {
		return "", fileVerdict(ctx, t.p.Path, err)
	}
	has, _, err := digestOf(ctx, t.p.File, size)
	if errors.Is(err, errGrown) || err == nil && !unchanged(t.p, t.z, key) {
		return "", verdict.Untouched("%s changed while it was read: it is as it was", verdict.Shown(t.p.Path))
	}
	if err != nil {
		return "", fileVerdict(ctx, t.p.Path, err)
	}
	t.key, t.hashed = key, true
	return differs(want, has), nil
}

// planSearch looks below the folder of the path for files of its name.
func (v *Vault) planSearch(ctx context.Context, s *subject, pl *deletionPlan) error {
	if filepath.Dir(pl.root) == pl.root && !named(s.want) {
		return verdict.Refuse(bridge.ReasonInvalid, "a search of the whole disk %s needs md5hash or sha256hash: "+
			"a name alone hits too much", pl.root)
	}
	found := 0
	cfg := files.WalkConfig{Recursive: true, SkipDir: func(path string) bool { return path == v.cfg.Dir }}
	stats, err := files.Walk(ctx, pl.root, cfg, func(e files.Entry) error {
		if !files.SameName(e.Info.Name(), pl.base) {
			return nil
		}
		hit, err := v.consider(ctx, s, pl, e, found < v.cfg.MaxTargets)
		if hit {
			found++
		}
		return err
	})
	pl.stats = stats
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		if _, ok := errors.AsType[*verdict.Error](err); ok {
			return err
		}
		return fileVerdict(ctx, pl.root, err)
	case stats.Truncated:
		return verdict.Hopeless("%s holds more than one search looks at (%d files seen): name a smaller folder; nothing was deleted",
			verdict.Shown(pl.root), stats.Files)
	case found > v.cfg.MaxTargets:
		names := make([]string, len(pl.targets))
		for i, t := range pl.targets {
			names[i] = verdict.Shown(t.p.Path)
		}
		return verdict.Refuse(bridge.ReasonInvalid, "%d files match, one order may delete %d (max_targets): nothing was deleted; %s",
			found, v.cfg.MaxTargets, verdict.List(names))
	}
	slices.SortFunc(pl.targets, func(a, b *target) int { return strings.Compare(a.p.Path, b.p.Path) })
	return nil
}

// consider adds a file to the plan when it is what the order means, and reports whether it is. A file that cannot be judged is
// kept in mind and ends nothing: else whoever holds one file of the name would keep the others alive.
func (v *Vault) consider(ctx context.Context, s *subject, pl *deletionPlan, e files.Entry, keep bool) (bool, error) {
	p, err := e.Pin()
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			pl.fail(v, pinVerdict(ctx, e.Path, err))
		}
		return false, nil
	}
	t := &target{p: p, z: files.Freeze(p.File)}
	how, err := t.compare(ctx, s.want)
	if err == nil && how == "" {
		err = v.guarded(ctx, p)
	}
	if err == nil && how == "" && keep {
		pl.targets = append(pl.targets, t)
		return true, nil
	}
	t.z.Thaw()
	closed := p.Close()
	switch e := verdict.Of(err); {
	case err == nil:
		return how == "", closed
	case context.Cause(ctx) != nil:
		return false, errors.Join(err, closed)
	case e.Class == bridge.Permanent && e.Reason != bridge.ReasonNone:
		if pl.reason == bridge.ReasonNone {
			pl.reason = e.Reason
		}
		pl.kept = append(pl.kept, e.Error())
	default:
		pl.fail(v, err)
	}
	return false, closed
}

// fail keeps in mind what could not be judged, as many as could have been removed.
func (pl *deletionPlan) fail(v *Vault, err error) {
	if len(pl.failed) < v.cfg.MaxTargets {
		pl.failed = append(pl.failed, err)
	}
}

// pinVerdict is fileVerdict for a file the walk has just seen: what is no such file any more was swapped.
func pinVerdict(ctx context.Context, path string, err error) error {
	if errors.Is(err, files.ErrLink) || errors.Is(err, files.ErrNotRegular) {
		err = files.ErrSwapped
	}
	return fileVerdict(ctx, path, err)
}

// unseen says what the search could not look at, or nil.
func (pl *deletionPlan) unseen() error {
	if pl.stats.Denied > 0 {
		return verdict.Hopeless("%d folders below %s could not be looked at", pl.stats.Denied, verdict.Shown(pl.root))
	}
	return nil
}

// notes says what a plan left alone.
func (pl *deletionPlan) notes() string {
	var notes []string
	if len(pl.kept) > 0 {
		notes = append(notes, "protected and left alone: "+verdict.List(pl.kept))
	}
	if n := len(pl.failed) + pl.stats.Denied; n > 0 {
		notes = append(notes, fmt.Sprintf("%d files or folders could not be looked at", n))
	}
	if pl.stats.OtherDevices > 0 {
		notes = append(notes, fmt.Sprintf("%d folders of other filesystems were not searched", pl.stats.OtherDevices))
	}
	return noted(notes)
}

func (pl *deletionPlan) dryRun(s *subject) bridge.Receipt {
	if len(pl.targets) == 0 {
		return verdict.DryRun("nothing to delete: " + pl.nothing(s) + pl.notes())
	}
	names := make([]string, len(pl.targets))
	for i, t := range pl.targets {
		names[i] = verdict.Shown(t.p.Path)
	}
	return verdict.DryRun("would have deleted " + verdict.List(names) + pl.notes())
}

// pendingIDs lists what is pending.
func (v *Vault) pendingIDs() ([]string, error) {
	entries, err := os.ReadDir(v.pendingDir())
	if err != nil {
		return nil, ignoreMissing(err)
	}
	var ids []string
	for _, e := range entries {
		if checkID(e.Name()) == nil {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}
