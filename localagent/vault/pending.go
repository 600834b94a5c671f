package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	pendingVersion = 1
	// maxPending bounds a pending file: a path, the paths of three stages, and the rest.
	maxPending = 64 << 10
)

// pending says what is about to be taken away. It is durable before the file is moved, and goes when the file is gone or back.
type pending struct {
	Version int         `json:"version"`
	ID      string      `json:"id"`
	Order   string      `json:"order"`
	Task    bridge.Kind `json:"task"`
	Path    string      `json:"path"`
	// Inode and Size tell the file from another; SHA256 is empty when nobody read it.
	Inode  uint64 `json:"inode"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256,omitempty"`
	// Stage is where the file may stand, empty on Windows; Flags are the inode flags it had.
	Stage string `json:"stage"`
	Flags uint32 `json:"flags,omitempty"`
}

// outcome is what became of a file whose taking was interrupted.
type outcome int

const (
	stillThere outcome = iota // at its place: nothing was taken, or another file was put back
	goneForGood
)

func (v *Vault) pendingPath(id string) string { return filepath.Join(v.pendingDir(), id) }

func (v *Vault) writePending(r *removal, stage *files.Stage) error {
	flags, err := files.Flags(r.p.File)
	if err != nil {
		return fmt.Errorf("inode flags: %w", err)
	}
	rec := pending{
		Version: pendingVersion, ID: r.id, Order: r.s.order, Task: r.s.task, Path: r.p.Path,
		Inode: r.p.Stat.Ino, Size: r.p.Stat.Bytes, SHA256: r.want.SHA256, Flags: flags, Stage: stage.Path(),
	}
	doc, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("intent: %w", err)
	}
	return files.WriteDurable(v.pendingPath(r.id), doc, 0o600)
}

// readPending returns nil when nothing is pending.
func (v *Vault) readPending(id string) (*pending, error) {
	doc, err := files.ReadOwn(v.pendingPath(id), maxPending)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // nothing pending is the usual case
	}
	if err != nil {
		return nil, err
	}
	rec, err := decodePending(doc, id)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", v.pendingPath(id), err)
	}
	return rec, nil
}

func decodePending(doc []byte, id string) (*pending, error) {
	if err := bridge.CheckJSON(doc); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	var rec pending
	if err := strict(doc, &rec); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if rec.Version != pendingVersion || rec.ID != id {
		return nil, ErrDamaged
	}
	if !filepath.IsAbs(rec.Path) || rec.Stage != "" && !filepath.IsAbs(rec.Stage) {
		return nil, ErrDamaged
	}
	return &rec, nil
}

func (v *Vault) dropPending(id string) error {
	if err := os.Remove(v.pendingPath(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return files.SyncDir(v.pendingDir())
}

// resume ends what was interrupted: a staged file that is the one that was meant is removed, another one is put back.
func (v *Vault) resume(ctx context.Context, rec *pending) (outcome, error) {
	if rec.Stage != "" {
		out, found, err := v.resumeStaged(ctx, rec)
		if rec.Stage != v.stageDir() {
			files.DropStage(rec.Stage)
		}
		if found || err != nil {
			return out, err
		}
	}
	p, err := files.Pin(rec.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return goneForGood, nil
	}
	if err != nil {
		return stillThere, err
	}
	defer func() { _ = p.Close() }()
	if p.Stat.Ino != rec.Inode {
		return goneForGood, nil
	}
	return stillThere, nil
}

func (v *Vault) resumeStaged(ctx context.Context, rec *pending) (out outcome, found bool, err error) {
	p, err := files.Pin(filepath.Join(rec.Stage, rec.ID))
	if errors.Is(err, fs.ErrNotExist) {
		return stillThere, false, nil
	}
	if err != nil {
		return stillThere, false, err
	}
	out, err = v.settle(ctx, rec, p)
	return out, true, errors.Join(err, p.Close())
}

// settle decides about a file found in a stage.
func (v *Vault) settle(ctx context.Context, rec *pending, p *files.Pinned) (outcome, error) {
	meant := p.Stat.Ino == rec.Inode && p.Stat.Bytes == rec.Size
	if meant && rec.SHA256 != "" {
		has, _, err := digestOf(ctx, p.File, p.Stat.Bytes)
		if err != nil && !errors.Is(err, errGrown) {
			return stillThere, err
		}
		meant = has.SHA256 == rec.SHA256
	}
	if meant {
		return goneForGood, p.Remove()
	}
	if err := p.MoveTo(rec.Path, rec.Flags); err != nil {
		return stillThere, fmt.Errorf("another file than the one that was meant stands in %q: %w", p.Path, err)
	}
	return stillThere, nil
}

// Recover ends what an earlier run left half done: staged files are removed when their order had come that far, else put back,
// and what was written for copies that never were is removed. Call it before the first order. It returns what it did, in words,
// and errors of single items, which stay as they are and are tried again by the next call.
func (v *Vault) Recover(ctx context.Context) ([]string, error) {
	if _, err := v.ready(ctx); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(v.pendingDir())
	if err != nil {
		return nil, fmt.Errorf("recover the quarantine: %w", err)
	}
	var did []string
	var errs []error
	for _, e := range entries {
		if cause := context.Cause(ctx); cause != nil {
			return did, fmt.Errorf("recover the quarantine: %w", cause)
		}
		if checkID(e.Name()) != nil {
			continue
		}
		text, err := v.recoverItem(ctx, e.Name())
		if err != nil {
			errs = append(errs, fmt.Errorf("recover %s: %w", e.Name(), err))
		}
		if text != "" {
			did = append(did, text)
		}
	}
	return did, errors.Join(append(errs, v.sweep())...)
}

func (v *Vault) recoverItem(ctx context.Context, id string) (string, error) {
	l, err := v.tryLock(id, true)
	if errors.Is(err, errHeld) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer l.release()
	rec, err := v.readPending(id)
	if err != nil || rec == nil {
		return "", err
	}
	out, err := v.resume(ctx, rec)
	if err != nil {
		return "", err
	}
	if out == goneForGood {
		return fmt.Sprintf("order %s: ended the removal of %s", verdict.Shown(rec.Order), verdict.Shown(rec.Path)), v.dropPending(id)
	}
	if err := v.removeItem(id); err != nil {
		return "", err
	}
	return fmt.Sprintf("order %s: %s is at its place", verdict.Shown(rec.Order), verdict.Shown(rec.Path)), v.dropPending(id)
}

// sweep removes what was written for copies that never were, unless somebody writes it at this moment.
func (v *Vault) sweep() error {
	entries, err := os.ReadDir(v.cfg.Dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		id, ok := strings.CutPrefix(e.Name(), tempPrefix)
		if !ok || checkID(id) != nil {
			continue
		}
		l, err := v.tryLock(id, true)
		if errors.Is(err, errHeld) {
			continue
		}
		if err == nil {
			err = os.RemoveAll(v.tempDir(id))
			l.release()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
