package vault

import (
	"context"
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

// GetFile puts a sealed copy of the file into the vault; the original stays as it is, its access time too where the system
// allows that. The same order again answers from the vault. It blocks for about 2 ms a MiB; at the end of ctx nothing is left
// behind. Undo: Drop. Errors are *verdict.Error.
func (v *Vault) GetFile(ctx context.Context, order string, t bridge.GetFile) (bridge.Receipt, error) {
	s, err := newSubject(order, t, t.Path, t.MD5, t.SHA256)
	if err != nil {
		return bridge.Receipt{}, err
	}
	return v.copyFile(ctx, &s)
}

// QuarantineFile puts a sealed copy of the file into the vault, makes it durable, reads it back, and only then takes the
// original away. The same order again answers from the vault, and ends what was interrupted. It blocks for about 2 ms a MiB;
// until the file is taken the end of ctx leaves everything as it was. Undo: Restore. Errors are *verdict.Error: Unknown means
// that the file may be out of its place, and the text says where it is.
func (v *Vault) QuarantineFile(ctx context.Context, order string, t bridge.QuarantineFile) (bridge.Receipt, error) {
	s, err := newSubject(order, t, t.Path, t.MD5, t.SHA256)
	if err != nil {
		return bridge.Receipt{}, err
	}
	return v.copyFile(ctx, &s)
}

// QuarantineFound is QuarantineFile for a file that the agent has found itself: it takes every name a disk can hold, also one that no
// alert may bring (control characters, backslashes, bytes that are no UTF-8), as long as the path is absolute and clean. The digest is
// required: it tells that the file is the one that was found.
func (v *Vault) QuarantineFound(ctx context.Context, order, path, sha256 string) (bridge.Receipt, error) {
	s := subject{order, bridge.KindQuarantineFile, path, files.Digests{SHA256: strings.ToLower(sha256)}}
	if order == "" || s.want.SHA256 == "" {
		return bridge.Receipt{}, verdict.Refuse(bridge.ReasonInvalid, "%s: order and digest of a found file are required", verdict.Shown(path))
	}
	if err := files.CheckFound(path); err != nil {
		return bridge.Receipt{}, verdict.Refuse(bridge.ReasonInvalid, "%w", err)
	}
	return v.copyFile(ctx, &s)
}

func (v *Vault) copyFile(ctx context.Context, s *subject) (bridge.Receipt, error) {
	if err := verdict.Stopped(ctx, "not begun"); err != nil {
		return bridge.Receipt{}, err
	}
	if v.cfg.DryRun {
		return v.dryCopy(ctx, s)
	}
	key, err := v.ready(ctx)
	if err != nil {
		return bridge.Receipt{}, verdict.Hopeless("%w", err)
	}
	id := s.id()
	l, err := v.lock(ctx, id, true)
	if err != nil {
		return bridge.Receipt{}, verdict.Untouched("quarantine: %w", err)
	}
	defer l.release()
	if r, done, err := v.again(ctx, key, id, s); done || err != nil {
		return r, err
	}
	p, err := v.open(ctx, s)
	if err != nil {
		return bridge.Receipt{}, err
	}
	defer func() { _ = p.Close() }()
	z := files.Freeze(p.File)
	defer z.Thaw()
	it, note, err := v.seal(ctx, key, id, s, p, z)
	if err != nil {
		return bridge.Receipt{}, errors.Join(err, ignoreMissing(os.RemoveAll(v.tempDir(id))))
	}
	if s.task == bridge.KindGetFile {
		if err := v.commit(id); err != nil {
			return bridge.Receipt{}, errors.Join(fileVerdict(ctx, s.path, err), v.removeItem(id))
		}
		return verdict.Done(it.receipt("copied", "as") + note), nil
	}
	return v.takeAway(ctx, s, &it, note, p, z)
}

// receipt says what became of the file.
func (it *Item) receipt(did, as string) string {
	return fmt.Sprintf("%s %s %s %s (%d bytes, SHA-256 %s)", did, verdict.Shown(it.Path), as, it.ID, it.Size, it.SHA256)
}

// again answers an order that came before, and ends what it left half done.
func (v *Vault) again(ctx context.Context, key []byte, id string, s *subject) (bridge.Receipt, bool, error) {
	it, err := v.item(key, id)
	has := err == nil
	if err != nil && !errors.Is(err, ErrNotFound) {
		return bridge.Receipt{}, false, verdict.Hopeless("the copy this order made before, %s: %w", id, err)
	}
	rec, err := v.readPending(id)
	if err != nil {
		return bridge.Receipt{}, false, verdict.Undecided("what this order left half done: %w", err)
	}
	if rec == nil {
		if !has {
			return bridge.Receipt{}, false, nil
		}
		did := "already copied"
		if it.Task == bridge.KindQuarantineFile {
			did = "already quarantined"
		}
		return verdict.Done(it.receipt(did, "as") + v.stands(&it)), true, nil
	}
	out, err := v.resume(ctx, rec)
	if err != nil {
		return bridge.Receipt{}, false, verdict.Undecided("end what was interrupted with %s: %w", verdict.Shown(s.path), err)
	}
	switch {
	case out == goesAtRestart && has:
		return bridge.Receipt{State: bridge.StateAccepted, Detail: it.receipt("copied", "as") + "; at restart: " +
			(&files.RestartError{At: string(rec.AtRestart)}).Error()}, true, nil
	case out == goneForGood && has:
		if err := v.dropPending(id); err != nil {
			return bridge.Receipt{}, false, verdict.Undecided("%s; then: %w", it.receipt("quarantined", "as"), err)
		}
		return verdict.Done(it.receipt("quarantined, after an interruption,", "as") + v.stands(&it)), true, nil
	}
	// Nothing was taken: the copy is made again, because the file may have changed since.
	if err := v.forget(id); err != nil {
		return bridge.Receipt{}, false, verdict.Untouched("clear what was interrupted: %w", err)
	}
	return bridge.Receipt{}, false, nil
}

// stands says that something has the name again from which a file was taken away.
func (v *Vault) stands(it *Item) string {
	if there, err := exists(it.Path); it.Task != bridge.KindQuarantineFile || err != nil || !there {
		return ""
	}
	return "; something stands at that path again, which this order leaves alone"
}

// open pins the file and asks everything that can be asked before it is read.
func (v *Vault) open(ctx context.Context, s *subject) (*files.Pinned, error) {
	p, err := files.Pin(s.path)
	if err != nil {
		return nil, fileVerdict(ctx, s.path, err)
	}
	err = v.guarded(ctx, p)
	if err == nil && p.Stat.Bytes > v.cfg.MaxFile {
		err = verdict.Hopeless("%s has %d bytes, at most %d are copied (max_file)", verdict.Shown(p.Path), p.Stat.Bytes, v.cfg.MaxFile)
	}
	if err == nil && s.task != bridge.KindGetFile {
		err = fileVerdict(ctx, s.path, p.Writable())
	}
	if err != nil {
		_ = p.Close()
		return nil, err
	}
	return p, nil
}

func (v *Vault) dryCopy(ctx context.Context, s *subject) (bridge.Receipt, error) {
	p, err := v.open(ctx, s)
	if err != nil {
		return bridge.Receipt{}, err
	}
	defer func() { _ = p.Close() }()
	has, size, err := digestOf(ctx, p.File, v.cfg.MaxFile)
	if err != nil {
		return bridge.Receipt{}, fileVerdict(ctx, s.path, err)
	}
	if how := differs(s.want, has); how != "" {
		return bridge.Receipt{}, verdict.Hopeless("%s is another file: %s", verdict.Shown(s.path), how)
	}
	did := "copied"
	if s.task == bridge.KindQuarantineFile {
		did = "quarantined"
	}
	return verdict.DryRun(fmt.Sprintf("would have %s %s (%d bytes, SHA-256 %s)", did, verdict.Shown(p.Path), size, has.SHA256)), nil
}

// seal writes copy and description into a folder of their own, durable and verified; commit gives it its name.
func (v *Vault) seal(ctx context.Context, key []byte, id string, s *subject, p *files.Pinned, z *files.Frozen) (Item, string, error) {
	release, err := v.room(ctx, p.Stat.Bytes)
	if err != nil {
		return Item{}, "", err
	}
	defer release()
	before, _, err := files.KeyOf(p.File)
	if err != nil {
		return Item{}, "", fileVerdict(ctx, s.path, err)
	}
	attributes, lost, err := files.AttributesOf(p.File)
	if err != nil {
		return Item{}, "", fileVerdict(ctx, s.path, err)
	}
	temp := v.tempDir(id)
	if err := errors.Join(os.RemoveAll(temp), os.Mkdir(temp, 0o700)); err != nil {
		return Item{}, "", fileVerdict(ctx, s.path, err)
	}
	digests, size, err := makeBlob(ctx, source{p.File, p.Stat.Bytes, v.cfg.MaxFile}, filepath.Join(temp, blobName), key, id)
	if err != nil {
		return Item{}, "", fileVerdict(ctx, s.path, err)
	}
	v.cfg.crash("blob")
	if how := differs(s.want, digests); how != "" {
		return Item{}, "", verdict.Hopeless("%s is another file: %s", verdict.Shown(s.path), how)
	}
	note := noted(lost)
	if !unchanged(p, z, before) {
		if s.task != bridge.KindGetFile {
			return Item{}, "", verdict.Untouched("%s changed while it was read: it is as it was", verdict.Shown(s.path))
		}
		note += "; it changed while it was read, so the copy may be of no single moment"
	}
	it := Item{
		ID: id, Order: s.order, Task: s.task, Path: p.Path, MD5: digests.MD5, SHA256: digests.SHA256, Size: size,
		Links: p.Stat.Links, Sealed: v.cfg.Now().UTC(), Attributes: attributes, Lost: lost,
	}
	doc, err := encodeMeta(key, &it)
	if err != nil {
		return Item{}, "", verdict.Hopeless("%s is as it was: %w", verdict.Shown(s.path), err)
	}
	if err := errors.Join(files.WriteDurable(filepath.Join(temp, metaName), doc, 0o600), files.SyncDir(temp)); err != nil {
		return Item{}, "", fileVerdict(ctx, s.path, err)
	}
	v.cfg.crash("meta")
	return it, note, nil
}

// commit gives the finished copy its name, for good.
func (v *Vault) commit(id string) error {
	if err := os.Rename(v.tempDir(id), v.itemDir(id)); err != nil {
		return err
	}
	v.cfg.crash("rename")
	return files.SyncDir(v.cfg.Dir)
}

// removeItem removes an item; it is out of sight before its parts go.
func (v *Vault) removeItem(id string) error {
	if there, err := exists(v.itemDir(id)); err != nil || !there {
		return err
	}
	if err := os.RemoveAll(v.tempDir(id)); err != nil {
		return err
	}
	if err := os.Rename(v.itemDir(id), v.tempDir(id)); err != nil {
		return ignoreMissing(err)
	}
	return errors.Join(files.SyncDir(v.cfg.Dir), os.RemoveAll(v.tempDir(id)))
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
