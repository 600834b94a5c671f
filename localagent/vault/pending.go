package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unicode/utf8"

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
	Path    rawPath     `json:"path"`
	// Inode and Size tell the file from another; the digests are empty when nobody read it.
	Inode  uint64 `json:"inode"`
	Size   int64  `json:"size"`
	MD5    string `json:"md5,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
	// Stage is where the file may stand, empty on Windows; Flags are the inode flags it had.
	Stage rawPath `json:"stage"`
	Flags uint32  `json:"flags,omitempty"`
	// Folder is the inode number of the folder the file was found in, FolderFlags what is taken away from it for a moment.
	Folder      uint64 `json:"folder,omitempty"`
	FolderFlags uint32 `json:"folder_flags,omitempty"`
	// Taken says that the file stood in the stage and was what is meant: without it nothing was removed.
	Taken bool `json:"taken,omitempty"`
	// AtRestart is where the file is until the machine starts again. Windows only.
	AtRestart rawPath `json:"at_restart,omitempty"`
}

// rawPath is a path in JSON: a string, or base64 in an object when the path is not UTF-8, which strings of JSON have to be.
type rawPath string

// MarshalJSON writes the path so that its bytes come back.
func (p rawPath) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(p)) {
		return json.Marshal(string(p))
	}
	return json.Marshal(rawBytes{[]byte(p)})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (p *rawPath) UnmarshalJSON(doc []byte) error {
	if !bytes.HasPrefix(doc, []byte("{")) {
		return json.Unmarshal(doc, (*string)(p))
	}
	var raw rawBytes
	err := strict(doc, &raw)
	*p = rawPath(raw.Raw)
	return err
}

type rawBytes struct {
	Raw []byte `json:"raw"`
}

// outcome is what became of a file whose taking was interrupted.
type outcome int

const (
	stillThere outcome = iota // at its place: nothing was taken, or another file was put back
	goneForGood
	goesAtRestart
)

func (v *Vault) pendingPath(id string) string { return filepath.Join(v.pendingDir(), id) }

// newPending is the intent to take the file into the stage.
func newPending(r *removal, stage *files.Stage) (*pending, error) {
	flags, err := files.Flags(r.p.File)
	if err != nil {
		return nil, fmt.Errorf("inode flags: %w", err)
	}
	folder, folderFlags, err := r.p.FolderFlags()
	if err != nil {
		return nil, fmt.Errorf("inode flags of the folder: %w", err)
	}
	return &pending{
		Version: pendingVersion, ID: r.id, Order: r.s.order, Task: r.s.task, Path: rawPath(r.p.Path),
		Inode: r.p.Stat.Ino, Size: r.size, MD5: r.want.MD5, SHA256: r.want.SHA256,
		Flags: flags, Folder: folder, FolderFlags: folderFlags, Stage: rawPath(stage.Path()),
	}, nil
}

func (v *Vault) writePending(rec *pending) error {
	doc, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("intent: %w", err)
	}
	return files.WriteDurable(v.pendingPath(rec.ID), doc, 0o600)
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
	if !filepath.IsAbs(string(rec.Path)) || rec.Stage != "" && !filepath.IsAbs(string(rec.Stage)) {
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
	if rec.FolderFlags != 0 {
		if err := files.SetFolderFlags(filepath.Dir(string(rec.Path)), rec.Folder, rec.FolderFlags); err != nil {
			v.log.Warn("the inode flags of a folder could not be given back", "order", rec.Order, "path", verdict.Shown(string(rec.Path)), "err", err)
		}
	}
	if rec.AtRestart != "" {
		if there, err := exists(string(rec.AtRestart)); err != nil || there {
			return goesAtRestart, err
		}
		return goneForGood, nil
	}
	if rec.Stage != "" {
		out, found, err := v.resumeStaged(ctx, rec)
		if stage := string(rec.Stage); stage != v.stageDir() {
			files.DropStage(stage)
		}
		if found || err != nil {
			return out, err
		}
	}
	return rec.resumePlace(ctx)
}

// resumePlace looks at the path of a file that is in no stage. Another file there does not show that the one that was meant was taken:
// somebody may have swapped them before. Neither does another inode number: some filesystems give new ones with each mount, and
// then the content tells.
func (rec *pending) resumePlace(ctx context.Context) (outcome, error) {
	other := stillThere
	if rec.Taken {
		other = goneForGood
	}
	p, err := files.Pin(string(rec.Path))
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return goneForGood, nil
	case errors.Is(err, files.ErrLink), errors.Is(err, files.ErrNotRegular):
		return other, nil
	case err != nil:
		return stillThere, err
	}
	defer func() { _ = p.Close() }()
	if p.Stat.Ino == rec.Inode {
		return stillThere, files.SetFlags(p.File, rec.Flags)
	}
	if same, err := rec.sameContent(ctx, p); err != nil || same {
		return stillThere, err
	}
	return other, nil
}

// sameContent reports whether the file has the digests of the one that was meant; without digests it has not.
func (rec *pending) sameContent(ctx context.Context, p *files.Pinned) (bool, error) {
	want := files.Digests{MD5: rec.MD5, SHA256: rec.SHA256}
	if !named(want) || p.Stat.Bytes != rec.Size {
		return false, nil
	}
	has, _, err := digestOf(ctx, p.File, rec.Size)
	if errors.Is(err, errGrown) {
		return false, nil
	}
	return err == nil && differs(want, has) == "", err
}

func (v *Vault) resumeStaged(ctx context.Context, rec *pending) (out outcome, found bool, err error) {
	at := filepath.Join(string(rec.Stage), rec.ID)
	p, err := files.Pin(at)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return stillThere, false, nil
	case errors.Is(err, files.ErrLink), errors.Is(err, files.ErrNotRegular):
		// Something stood at the name when it was taken that nobody means.
		return stillThere, true, files.MoveOut(at, string(rec.Path))
	case err != nil:
		return stillThere, false, err
	}
	out, err = v.settle(ctx, rec, p)
	return out, true, errors.Join(err, p.Close())
}

// settle decides about a file found in a stage.
func (v *Vault) settle(ctx context.Context, rec *pending, p *files.Pinned) (outcome, error) {
	flags := uint32(0)
	if p.Stat.Ino == rec.Inode {
		flags = rec.Flags
		meant := p.Stat.Bytes == rec.Size
		if meant && named(files.Digests{MD5: rec.MD5, SHA256: rec.SHA256}) {
			var err error
			if meant, err = rec.sameContent(ctx, p); err != nil {
				return stillThere, err
			}
		}
		if meant {
			return goneForGood, p.Remove()
		}
	}
	if err := p.MoveTo(string(rec.Path), flags); err != nil {
		return stillThere, fmt.Errorf("another file than the one that was meant stands in %q: %w", p.Path, err)
	}
	return stillThere, nil
}

// Recover ends what an earlier run left half done: staged files are removed when their order had come that far, else put back,
// and what was written for copies that never were is removed. Call it before the first order. It returns what it did, in words,
// and errors of single items, which stay as they are and are tried again by the next call. In a dry run it does nothing.
func (v *Vault) Recover(ctx context.Context) ([]string, error) {
	if v.cfg.DryRun {
		return nil, nil
	}
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
	name := verdict.Shown(string(rec.Path))
	switch out {
	case goesAtRestart:
		return "", nil
	case goneForGood:
		return fmt.Sprintf("order %s: ended the removal of %s", verdict.Shown(rec.Order), name), v.dropPending(id)
	case stillThere:
	}
	if err := v.removeItem(id); err != nil {
		return "", err
	}
	return fmt.Sprintf("order %s: nothing was taken away at %s", verdict.Shown(rec.Order), name), v.dropPending(id)
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
