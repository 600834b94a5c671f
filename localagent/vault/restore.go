package vault

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// Restored says what Restore did.
type Restored struct {
	// Path is where the file is.
	Path string
	// Missing are attributes the filesystem did not take, in words.
	Missing []string
}

// Restore puts the copy back to where it was found, or into the folder to when that is not empty, with mode, owner, extended
// attributes, times and inode flags. It never overwrites: the error wraps files.ErrExists when the name is taken. The folder
// must exist and be reached through no link; it is not made. The item stays in the vault, and remembers. Other errors wrap
// ErrNotFound, ErrDamaged (nothing was put back), files.ErrLink, fs.ErrNotExist or files.ErrReadOnly.
func (v *Vault) Restore(ctx context.Context, id, to string) (Restored, error) {
	it, blob, done, err := v.openItem(ctx, id, true)
	if err != nil {
		return Restored{}, err
	}
	defer done()
	folder, name := filepath.Dir(it.Path), filepath.Base(it.Path)
	if to != "" {
		if err := files.CheckPath(to); err != nil {
			return Restored{}, fmt.Errorf("restore %s: %w", id, err)
		}
		folder = filepath.Clean(to)
	}
	if files.Below(folder, v.cfg.Dir) {
		return Restored{}, fmt.Errorf("restore %s: %q belongs to the quarantine itself", id, folder)
	}
	d, err := files.NewDraft(folder)
	if err != nil {
		return Restored{}, fmt.Errorf("restore %s: %w", id, err)
	}
	defer func() { _ = d.Close() }()
	if err := copyOut(ctx, d.File, blob, &it); err != nil {
		return Restored{}, fmt.Errorf("restore %s: %w", id, err)
	}
	missing, err := files.Apply(d.File, &it.Attributes)
	if err != nil {
		return Restored{}, fmt.Errorf("restore %s: %w", id, err)
	}
	v.cfg.crash("draft")
	if err := d.Commit(name); err != nil {
		return Restored{}, fmt.Errorf("restore %s: %w", id, err)
	}
	v.cfg.crash("named")
	r := Restored{filepath.Join(folder, name), missing}
	if err := files.SetFlags(d.File, it.Attributes.Flags); err != nil {
		r.Missing = append(r.Missing, fmt.Sprintf("inode flags: %v", err))
	}
	it.Restored, it.RestoredTo = v.cfg.Now().UTC(), r.Path
	if err := v.rewrite(&it); err != nil {
		return r, fmt.Errorf("%s was restored, which the quarantine could not note: %w", id, err)
	}
	return r, nil
}

// openItem returns an item, the reader of its content, and what lets it go. Until then nobody can drop it.
func (v *Vault) openItem(ctx context.Context, id string, exclusive bool) (Item, *blobReader, func(), error) {
	fail := func(err error) (Item, *blobReader, func(), error) { return Item{}, nil, nil, err }
	if err := checkID(id); err != nil {
		return fail(err)
	}
	key, err := v.ready(ctx)
	if err != nil {
		return fail(err)
	}
	l, err := v.lock(ctx, id, exclusive)
	if err != nil {
		return fail(fmt.Errorf("%s: %w", id, err))
	}
	it, err := v.item(key, id)
	if err != nil {
		l.release()
		return fail(fmt.Errorf("%s: %w", id, err))
	}
	f, r, err := v.openContent(key, &it)
	if err != nil {
		l.release()
		return fail(fmt.Errorf("%s: %w", id, err))
	}
	return it, r, func() {
		_ = f.Close()
		l.release()
	}, nil
}

func (v *Vault) openContent(key []byte, it *Item) (*os.File, *blobReader, error) {
	f, err := os.Open(filepath.Join(v.itemDir(it.ID), blobName))
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("the blob is missing: %w", ErrDamaged)
	}
	if err != nil {
		return nil, nil, err
	}
	fi, err := f.Stat()
	if err == nil && fi.Size() != sealedLen(it.Size) {
		err = fmt.Errorf("the blob has %d bytes, want %d: %w", fi.Size(), sealedLen(it.Size), ErrDamaged)
	}
	var r *blobReader
	if err == nil {
		r, err = openBlob(f, fi.Size(), key, it.ID)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, r, nil
}

// copyOut writes the content and compares it with the digest in the description.
func copyOut(ctx context.Context, to io.Writer, blob *blobReader, it *Item) error {
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(to, h), &untilDone{ctx, blob})
	if err != nil {
		return err
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != it.SHA256 || n != it.Size {
		return fmt.Errorf("the content has %d bytes and SHA-256 %s, want %d and %s: %w", n, sum, it.Size, it.SHA256, ErrDamaged)
	}
	return nil
}

// untilDone is a reader that ends with ctx.
type untilDone struct {
	ctx context.Context //nolint:containedctx // lives as long as one copy
	r   io.Reader
}

// Read reads unless ctx has ended.
func (u *untilDone) Read(p []byte) (int, error) {
	if cause := context.Cause(u.ctx); cause != nil {
		return 0, cause
	}
	return u.r.Read(p)
}

// rewrite replaces the description of an item.
func (v *Vault) rewrite(it *Item) error {
	v.mu.Lock()
	key := v.key
	v.mu.Unlock()
	doc, err := encodeMeta(key, it)
	if err != nil {
		return err
	}
	return files.WriteDurable(filepath.Join(v.itemDir(it.ID), metaName), doc, 0o600)
}

// Verify reads the whole copy and answers nil when it can be restored, else an error that wraps ErrNotFound or ErrDamaged.
func (v *Vault) Verify(ctx context.Context, id string) error {
	it, blob, done, err := v.openItem(ctx, id, false)
	if err != nil {
		return err
	}
	defer done()
	return copyOut(ctx, io.Discard, blob, &it)
}

// shownName is the base name of the file for an archive.
func (it *Item) shownName() string { return bridge.BaseName(it.Path) }
