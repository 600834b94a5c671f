package vault

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// capNetRaw is security.capability with CAP_NET_RAW permitted and effective: version 2, little endian (linux/capability.h).
const capNetRaw = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// acl gives user 1234 rw on top of rw-r----- (linux/posix_acl_xattr.h: version 2; tag, permissions, id).
const acl = "\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x06\x00\xd2\x04\x00\x00" +
	"\x04\x00\x04\x00\xff\xff\xff\xff" + "\x10\x00\x06\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff"

func TestRestoreGivesEverythingBack(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	v := newVault(t, nil)
	path := write(t, filepath.Join(t.TempDir(), "bad"), text)
	xattrs := map[string]string{
		"user.note": "hello", "user.bin\xff": "\x00\x01", "user.empty": "", "trusted.x": "y", "security.capability": capNetRaw, "system.posix_acl_access": acl,
	}
	if err := errors.Join(os.Chown(path, 1234, 2345), unix.Chmod(path, 0o6750)); err != nil {
		t.Fatal(err)
	}
	for name, value := range xattrs {
		if err := unix.Setxattr(path, name, []byte(value), 0); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	times := []unix.Timespec{{Sec: 1_000_000_000, Nsec: 123_456_789}, {Sec: 1_500_000_000, Nsec: 987_654_321}}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, times, 0); err != nil {
		t.Fatal(err)
	}
	flagged(t, path, 0x40)
	var before, after unix.Stat_t
	if err := unix.Stat(path, &before); err != nil {
		t.Fatal(err)
	}
	if r, err := order(t.Context(), v, "quarantine", path); err != nil || strings.Contains(r.Detail, ";") {
		t.Fatalf("got %+v, %v", r, err)
	}
	id := only(t, v).ID
	r, err := v.Restore(t.Context(), id, "")
	if err != nil || r.Path != path || len(r.Missing) > 0 || !there(t, path, text) {
		t.Fatalf("got %+v, %v", r, err)
	}
	if err := unix.Stat(path, &after); err != nil {
		t.Fatal(err)
	}
	if before.Mode != after.Mode || before.Uid != after.Uid || before.Gid != after.Gid || before.Mtim != after.Mtim || flagsOf(t, path)&0x40 == 0 {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
	// Reading it for the comparison above moved nothing: the time is compared in the stat after the restore.
	if after.Atim != before.Atim && after.Atim.Sec < time.Now().Unix()-60 {
		t.Errorf("access time %v, want %v", after.Atim, before.Atim)
	}
	buf := make([]byte, 1024)
	for name, want := range xattrs {
		n, err := unix.Getxattr(path, name, buf)
		if err != nil || string(buf[:n]) != want {
			t.Errorf("%s is %q, %v; want %q", name, buf[:max(n, 0)], err, want)
		}
	}
	if it := only(t, v); it.RestoredTo != path || it.Restored.IsZero() {
		t.Errorf("the item does not remember: %+v", it)
	}
}

func TestRestoreTakesNothingFromTheFolder(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	v := newVault(t, nil)
	dir := t.TempDir()
	path := write(t, filepath.Join(dir, "bad"), text)
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := order(t.Context(), v, "quarantine", path); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(dir, "system.posix_acl_default", []byte(acl), 0); err != nil {
		t.Skipf("no access lists here: %v", err)
	}
	flagged(t, dir, 0x40) // no dump, which new files inherit
	if r, err := v.Restore(t.Context(), only(t, v).ID, ""); err != nil || len(r.Missing) > 0 {
		t.Fatalf("got %+v, %v", r, err)
	}
	if n, err := unix.Getxattr(path, "system.posix_acl_access", make([]byte, 256)); !errors.Is(err, unix.ENODATA) {
		t.Errorf("the file has an access list of %d bytes, %v", n, err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o640 || flagsOf(t, path)&0x40 != 0 {
		t.Errorf("mode %v, flags %#x, %v", fi.Mode(), flagsOf(t, path), err)
	}
}

func TestFileWithThousandsOfAttributesIsTakenAllTheSame(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	v := newVault(t, func(c *Config) { c.Dir = memory(t) })
	path := write(t, filepath.Join(filepath.Dir(v.cfg.Dir), "bad"), text)
	for i := range 6300 {
		if err := unix.Setxattr(path, fmt.Sprintf("user.%04d", i), bytes.Repeat([]byte{'x'}, 72), 0); err != nil {
			t.Skipf("not so many attributes here: %v", err)
		}
	}
	if r, err := order(t.Context(), v, "quarantine", path); err != nil {
		t.Fatalf("got %+v, %v", r, err)
	}
	if it := only(t, v); len(it.Attributes.Xattrs) != 6300 {
		t.Errorf("%d attributes are kept", len(it.Attributes.Xattrs))
	}
}

func TestRestoreNeverOverwrites(t *testing.T) {
	t.Parallel()
	v := newVault(t, nil)
	dir := t.TempDir()
	path := write(t, filepath.Join(dir, "bad"), text)
	if _, err := order(t.Context(), v, "quarantine", path); err != nil {
		t.Fatal(err)
	}
	id := only(t, v).ID
	for name, put := range map[string]func() error{
		"file":          func() error { return os.WriteFile(path, []byte("mine"), 0o600) },
		"folder":        func() error { return os.Mkdir(path, 0o700) },
		"link":          func() error { return os.Symlink("/etc/passwd", path) },
		"dangling link": func() error { return os.Symlink(filepath.Join(dir, "none"), path) },
	} {
		if err := put(); err != nil {
			t.Fatal(err)
		}
		before, _ := os.Lstat(path)
		if r, err := v.Restore(t.Context(), id, ""); !errors.Is(err, files.ErrExists) {
			t.Errorf("over a %s: %+v, %v", name, r, err)
		}
		if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
			t.Errorf("the %s is another", name)
		}
		_ = os.Remove(path)
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("left are %v", entries)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]error{link: files.ErrLink, filepath.Join(dir, "none"): fs.ErrNotExist} {
		if r, err := v.Restore(t.Context(), id, to); !errors.Is(err, want) {
			t.Errorf("to %s: %+v, %v", to, r, err)
		}
	}
	if _, err := v.Restore(t.Context(), id, "relative"); err == nil {
		t.Error("a relative folder was taken")
	}
	for _, to := range []string{v.cfg.Dir, v.stageDir()} {
		if r, err := v.Restore(t.Context(), id, to); err == nil {
			t.Errorf("into the quarantine: %+v", r)
		}
	}
	other := t.TempDir()
	if r, err := v.Restore(t.Context(), id, other); err != nil || r.Path != filepath.Join(other, "bad") || !there(t, r.Path, text) {
		t.Errorf("to another folder: %+v, %v", r, err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("it was restored to its place, too")
	}
}

func TestRestoreSaysWhatTheFilesystemDidNotTake(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	v := newVault(t, nil)
	path := write(t, filepath.Join(t.TempDir(), "bad"), text)
	if err := unix.Setxattr(path, "user.note", []byte("hello"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := order(t.Context(), v, "quarantine", path); err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	// ramfs has no extended attributes, no O_TMPFILE, and no inode flags.
	if err := unix.Mount("ramfs", to, "ramfs", 0, ""); err != nil {
		t.Skipf("no ramfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(to, unix.MNT_DETACH) })
	r, err := v.Restore(t.Context(), only(t, v).ID, to)
	if err != nil || len(r.Missing) != 1 || !strings.Contains(r.Missing[0], "user.note") || !there(t, r.Path, text) {
		t.Errorf("got %+v, %v", r, err)
	}
	if entries, _ := os.ReadDir(to); len(entries) != 1 {
		t.Errorf("left are %v", entries)
	}
	if _, err := v.Restore(t.Context(), only(t, v).ID, to); !errors.Is(err, files.ErrExists) {
		t.Errorf("again: %v", err)
	}
}

func TestExportInEachForm(t *testing.T) {
	t.Parallel()
	v := newVault(t, nil)
	path := write(t, filepath.Join(t.TempDir(), "bad.sh"), text)
	if _, err := order(t.Context(), v, "get", path); err != nil {
		t.Fatal(err)
	}
	id := only(t, v).ID
	var b bytes.Buffer
	if err := v.Export(t.Context(), id, FormZIP, "", &b); err != nil {
		t.Fatal(err)
	}
	z, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil || len(z.File) != 1 || z.File[0].Name != "bad.sh" {
		t.Fatalf("got %+v, %v", z, err)
	}
	if r, err := z.File[0].Open(); err != nil {
		t.Error(err)
	} else if got, err := io.ReadAll(r); err != nil || string(got) != text {
		t.Errorf("the archive holds %q, %v", got, err)
	}
	who, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	b.Reset()
	if err := v.Export(t.Context(), id, FormAge, who.Recipient().String(), &b); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), text) {
		t.Error("the age file is not encrypted")
	}
	if r, err := age.Decrypt(&b, who); err != nil {
		t.Error(err)
	} else if got, err := io.ReadAll(r); err != nil || string(got) != text {
		t.Errorf("the age file holds %q, %v", got, err)
	}
	for _, bad := range []struct {
		form Form
		to   string
	}{{FormAge, ""}, {FormPlain, "age1x"}, {FormAge, "age1x"}, {"tar", ""}} {
		b.Reset()
		if err := v.Export(t.Context(), id, bad.form, bad.to, &b); err == nil || b.Len() > 0 {
			t.Errorf("%+v: %v, %d bytes", bad, err, b.Len())
		}
	}
	if err := v.Export(t.Context(), "../../etc", FormPlain, "", &b); !errors.Is(err, ErrNotFound) {
		t.Errorf("a path for an id: %v", err)
	}
}

func TestPruneDropsWhatIsOlderThanItsRetention(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	v := newVault(t, func(c *Config) {
		c.Retention = 24 * time.Hour
		c.Now = func() time.Time { return now }
	})
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		path := write(t, filepath.Join(dir, name), name)
		if _, err := v.QuarantineFile(t.Context(), "o"+name, bridge.QuarantineFile{Path: path}); err != nil {
			t.Fatal(err)
		}
		now = now.Add(10 * time.Hour)
	}
	held, err := v.lock(t.Context(), newID("oa", bridge.KindQuarantineFile, filepath.Join(dir, "a")), false)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if dropped, err := v.Prune(t.Context()); err != nil || len(dropped) != 0 {
			t.Errorf("while somebody reads it: %v, %v", dropped, err)
		}
		now = now.Add(time.Hour)
	}
	held.release()
	dropped, err := v.Prune(t.Context())
	if err != nil || len(dropped) != 1 || filepath.Base(dropped[0].Path) != "a" {
		t.Errorf("got %v, %v", dropped, err)
	}
	items, err := v.List(t.Context())
	if err != nil || len(items) != 2 || filepath.Base(items[0].Path) != "b" {
		t.Errorf("left are %v, %v", items, err)
	}
	if err := v.Drop(t.Context(), dropped[0].ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("drop what is gone: %v", err)
	}
}

func TestPruneDropsNothingWhileTheClockIsWrong(t *testing.T) {
	t.Parallel()
	right := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	now := right
	v := newVault(t, func(c *Config) {
		c.Retention = 24 * time.Hour
		c.Now = func() time.Time { return now }
	})
	if _, err := order(t.Context(), v, "quarantine", write(t, filepath.Join(t.TempDir(), "bad"), text)); err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Time{right.AddDate(20, 0, 0), right.Add(time.Minute), right.Add(time.Hour), right.AddDate(20, 0, 0)} {
		now = at
		if dropped, err := v.Prune(t.Context()); err != nil || len(dropped) != 0 {
			t.Errorf("at %v: %v, %v", at, dropped, err)
		}
	}
	only(t, v)
}

func TestContentThatIsNotTheOneDescribedIsNotGivenOut(t *testing.T) {
	t.Parallel()
	v := newVault(t, nil)
	if _, err := order(t.Context(), v, "quarantine", write(t, filepath.Join(t.TempDir(), "bad"), text)); err != nil {
		t.Fatal(err)
	}
	it := only(t, v)
	it.SHA256 = sha256Of("other")
	if err := v.rewrite(&it); err != nil {
		t.Fatal(err)
	}
	if err := v.Verify(t.Context(), it.ID); !errors.Is(err, ErrDamaged) {
		t.Errorf("verified: %v", err)
	}
	if r, err := v.Restore(t.Context(), it.ID, ""); !errors.Is(err, ErrDamaged) {
		t.Errorf("restored: %+v, %v", r, err)
	}
}
