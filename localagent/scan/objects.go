package scan

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// reasonNoMedium is why a drive without a medium is skipped.
const reasonNoMedium = "no medium in the drive"

var (
	// errNoMedium says that a drive is empty.
	errNoMedium = errors.New("no medium in the drive")
	// errNothing says that this machine has nothing of a scope.
	errNothing = errors.New("nothing of the kind on this machine")
)

// finder finds the objects of the scopes for one run. It is used by one goroutine.
type finder struct {
	r  *run
	sl *slot
	// scope and found are those of the object that is being walked.
	scope bridge.ScanType
	found int64
}

// walk finds what there is to look at, one scan object after the other.
func (r *run) walk(ctx context.Context, sl *slot, objects []bridge.ScanObject) {
	for i, o := range objects {
		if !o.Enabled {
			continue
		}
		f := &finder{r: r, sl: sl, scope: o.Type}
		err := f.objectsOf(ctx, o)
		r.mu.Lock()
		if sl.lost || r.closed {
			r.mu.Unlock()
			return
		}
		res := &r.res.Objects[i]
		res.Found = f.found
		res.State, res.Detail = objectState(ctx, err)
		r.mu.Unlock()
		if ctx.Err() != nil {
			break
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !sl.lost {
		close(r.walked)
	}
}

func objectState(ctx context.Context, err error) (ObjectState, string) {
	switch {
	case ctx.Err() != nil:
		return ObjectNotReached, causeWords(context.Cause(ctx))
	case err == nil:
		return ObjectScanned, ""
	case errors.Is(err, errNothing):
		return ObjectNothing, ""
	case errors.Is(err, errors.ErrUnsupported):
		return ObjectUnsupported, err.Error()
	default:
		return ObjectFailed, err.Error()
	}
}

// objectsOf puts the objects of one scope into the queue.
func (f *finder) objectsOf(ctx context.Context, o bridge.ScanObject) error {
	switch o.Type {
	case bridge.ScanSystemMemory:
		return f.objectsOfMemory(ctx)
	case bridge.ScanStartupAndProcesses:
		return f.objectsOfStartup(ctx)
	case bridge.ScanDiskBootSectors:
		return f.objectsOfBootSectors(ctx)
	case bridge.ScanSystemBackupStorage:
		return f.objectsOfBackups(ctx)
	case bridge.ScanEmail:
		return f.objectsOfEmail(ctx)
	case bridge.ScanFolder:
		return f.folder(ctx, o.Path, o.Recursive)
	case bridge.ScanAllRemovableDrives, bridge.ScanAllNetworkDrives, bridge.ScanAllFixedDrives:
		return f.objectsOfDrives(ctx, o.Type)
	default:
		return fmt.Errorf("scan type %s: %w", o.Type, errors.ErrUnsupported)
	}
}

// folder offers the files of a folder, or the file when root is one. It stays on one filesystem and follows no links.
func (f *finder) folder(ctx context.Context, root string, recursive bool) error {
	f.r.busy(f.sl, root, f.r.s.cfg.PerFile)
	defer f.r.busy(f.sl, "", 0)
	if f.r.s.cfg.Exclude(root) {
		return fmt.Errorf("%s is excluded from scans", verdict.Shown(root))
	}
	cfg := files.WalkConfig{Recursive: recursive, MaxEntries: walkEntries, SkipDir: func(path string) bool {
		f.r.busy(f.sl, path, f.r.s.cfg.PerFile)
		return f.r.s.cfg.Exclude(path)
	}}
	stats, err := files.Walk(ctx, root, cfg, func(e files.Entry) error {
		st := e.Stat()
		err := f.offer(ctx, object{kind: KindFile, path: e.Path, id: st.ID, size: st.Bytes, open: e.Open})
		f.r.busy(f.sl, e.Path, f.r.s.cfg.PerFile)
		return err
	})
	f.r.mu.Lock()
	defer f.r.mu.Unlock()
	if stats.Denied > 0 {
		f.r.failed.addMany("folders and files that could not be listed, counted by the folder walked", root, int64(stats.Denied))
		f.r.res.Found += int64(stats.Denied)
		f.r.settled += int64(stats.Denied)
	}
	if n := int64(stats.OtherDevices); n > 0 && !isDrives(f.scope) {
		f.r.skipped.addMany(reasonElsewhere, root, n)
		f.r.res.Found += n
		f.r.settled += n
	}
	if stats.Truncated && f.r.res.Truncated == "" {
		f.r.res.Truncated = "the walk of " + verdict.Shown(root) + " met too many entries or too deep folders"
	}
	return bare(err)
}

// isDrives reports whether the scope is made of mounts: what is mounted below one of them is a drive of its own, or not asked for.
func isDrives(t bridge.ScanType) bool {
	return t == bridge.ScanAllRemovableDrives || t == bridge.ScanAllNetworkDrives || t == bridge.ScanAllFixedDrives
}

// walkEntries bounds one walk, folders, links and all.
const walkEntries = 20_000_000

// bare takes the path out of an error of the system: it comes from outside, and whoever tells the error tells the path as well.
func bare(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("%s: %w", pe.Op, pe.Err)
	}
	return err
}

// offer puts an object into the queue, once.
func (f *finder) offer(ctx context.Context, o object) error {
	r := f.r
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if r.s.cfg.Exclude(o.path) {
		return nil
	}
	o.scope = f.scope
	if o.id != (files.ID{}) && !r.first(o.id) {
		return nil
	}
	r.mu.Lock()
	if r.res.Found >= int64(r.s.cfg.MaxFiles) {
		r.mu.Unlock()
		r.stop(errFiles)
		return errFiles
	}
	r.res.Found++
	f.found++
	tooLarge := o.size > r.s.cfg.MaxFile
	if tooLarge {
		r.settle(o, outcome{Verdict: skipped(reasonTooLarge)})
	}
	r.mu.Unlock()
	if tooLarge {
		return nil
	}
	r.busy(f.sl, "", 0)
	select {
	case r.queue <- o:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
