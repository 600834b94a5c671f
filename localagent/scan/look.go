package scan

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// lookTries is how often a file is looked at that changes meanwhile.
const lookTries = 2

// Why files are skipped or fail; constant, because they are counted by.
const (
	reasonTooLarge   = "larger than the limit of one file"
	reasonUnvouched  = "larger than the engine vouches for"
	reasonSilent     = "an archive or document, of which the engine does not say what it left out"
	reasonChanged    = "changed while it was looked at"
	reasonSlow       = "took longer than one file may"
	reasonGone       = "gone or replaced before it was opened"
	reasonLink       = "a link, which is not followed"
	reasonElsewhere  = "on another filesystem, not entered, counted by the folder walked"
	reasonManyNames  = "a start file that names more than is looked up for one account"
	reasonManyStarts = "more start files than are looked at for one account"
	reasonNotRegular = "not a regular file"
	reasonDenied     = "permission denied"
	reasonNotOpened  = "could not be opened"
	reasonHung       = "the system did not answer"
	reasonEngine     = "the engine gave no verdict"
)

// object is one thing to look at.
type object struct {
	scope bridge.ScanType
	kind  Kind
	path  string
	// id is zero when it is not known before the file is open, size -1.
	id   files.ID
	size int64
	open func() (*os.File, error)
}

// outcome is what became of an object.
type outcome struct {
	Verdict
	bytes   int64
	finding Finding
	// twice says that the file was looked at already, under another name.
	twice bool
}

// look settles one object.
func (r *run) look(ctx context.Context, sl *slot, o object) {
	r.busy(sl, o.path, r.s.cfg.PerFile)
	defer r.busy(sl, "", 0)
	out, ok := r.judge(ctx, o)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if sl.lost || r.closed {
		return
	}
	r.settle(o, out)
}

// settle writes an outcome down. The caller holds mu.
func (r *run) settle(o object, out outcome) {
	if out.twice {
		r.res.Found--
		return
	}
	r.settled++
	r.res.Bytes += out.bytes
	switch out.State {
	case Clean:
		r.res.Clean++
	case Infected:
		r.res.Infected++
		if len(r.res.Findings) < maxFindings {
			r.res.Findings = append(r.res.Findings, out.finding)
		}
		r.s.cfg.Logger.Info("infected file found", "path", verdict.Shown(o.path), "signature", out.Signature)
	case Skipped:
		r.skipped.add(out.Reason, o.path)
	case Failed:
		r.failed.add(out.Reason, o.path)
	}
}

// judge opens the object and asks the engine; false means that the scan ended meanwhile.
func (r *run) judge(ctx context.Context, o object) (outcome, bool) {
	f, err := o.open()
	if err != nil {
		return outcome{Verdict: notOpened(err)}, true
	}
	defer func() { _ = f.Close() }()
	before, err := files.StatOf(f)
	switch {
	case err != nil:
		return outcome{Verdict: failure(reasonNotOpened)}, true
	case o.id == files.ID{} && o.kind != KindRegion && !r.first(before.ID):
		return outcome{twice: true}, true
	case before.Bytes == 0:
		return outcome{Verdict: clean()}, true
	case before.Bytes > r.s.cfg.MaxFile:
		return outcome{Verdict: skipped(reasonTooLarge)}, true
	case r.info.MaxFile > 0 && before.Bytes > r.info.MaxFile:
		return outcome{Verdict: skipped(reasonUnvouched)}, true
	case !r.charge(before.Bytes):
		return outcome{}, false
	}
	for try := 1; ; try++ {
		v, ok := r.ask(ctx, o, f, before)
		if !ok {
			return outcome{}, false
		}
		after, err := files.StatOf(f)
		if err == nil && unchanged(before, after) || v.State == Skipped || v.State == Failed {
			return r.outcome(ctx, o, f, after, v), true
		}
		if try == lookTries {
			if v.State == Infected {
				return r.outcome(ctx, o, f, after, v), true
			}
			return outcome{Verdict: skipped(reasonChanged), bytes: after.Bytes}, true
		}
		before = after
	}
}

// ask puts one file to the engine within the time of one file; false means that the scan ended meanwhile.
func (r *run) ask(ctx context.Context, o object, f *os.File, st files.Stat) (Verdict, bool) {
	one, cancel := context.WithTimeout(ctx, r.s.cfg.PerFile)
	defer cancel()
	v, err := r.engine.Scan(one, f, FileInfo{Path: o.path, Size: st.Bytes})
	switch {
	case err == nil && v.State == Clean && r.info.Silent && isContainer(f, st.Bytes):
		return skipped(reasonSilent), true
	case err == nil:
		return v, true
	case ctx.Err() != nil:
		return v, false
	case one.Err() != nil:
		return skipped(reasonSlow), true
	case errors.Is(err, ErrEngineGone):
		r.stop(err)
	}
	r.s.cfg.Logger.Warn("no verdict on a file", "path", verdict.Shown(o.path), "err", err)
	return failure(reasonEngine + ": " + err.Error()), true
}

// outcome makes a finding of an infected file.
func (r *run) outcome(ctx context.Context, o object, f *os.File, st files.Stat, v Verdict) outcome {
	out := outcome{Verdict: v, bytes: st.Bytes}
	if v.State != Infected {
		return out
	}
	out.finding = Finding{
		Scope: o.scope, Kind: o.kind, Path: o.path, Member: v.Member, Signature: v.Signature, Engine: r.info.Name, Stat: st,
		Protected: r.s.cfg.Protected(o.path, f),
	}
	d, err := r.s.digests.Of(ctx, f, true, true)
	if err != nil {
		r.s.cfg.Logger.Warn("infected file not hashed", "path", verdict.Shown(o.path), "err", err)
		return out
	}
	out.finding.MD5, out.finding.SHA256 = d.MD5, d.SHA256
	return out
}

// first reports whether a file is met for the first time.
func (r *run) first(id files.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.seen[id]; ok {
		return false
	}
	r.seen[id] = struct{}{}
	return true
}

// charge takes n bytes off the budget, or ends the scan.
func (r *run) charge(n int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken+n > r.s.cfg.MaxBytes {
		r.stop(errBytes)
		return false
	}
	r.taken += n
	return true
}

func failure(reason string) Verdict { return Verdict{State: Failed, Reason: reason} }

// notOpened says why a file was not opened.
func notOpened(err error) Verdict {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, files.ErrSwapped):
		return skipped(reasonGone)
	case errors.Is(err, files.ErrLink):
		return skipped(reasonLink)
	case errors.Is(err, files.ErrNotRegular):
		return skipped(reasonNotRegular)
	case errors.Is(err, fs.ErrPermission):
		return failure(reasonDenied)
	case errors.Is(err, errNoMedium):
		return skipped(reasonNoMedium)
	default:
		return failure(reasonNotOpened)
	}
}
