package vault

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// each carries out all three tasks with the same path and digests.
func each(t *testing.T, v *Vault, path, md5, sha256 string, check func(task string, r bridge.Receipt, err error)) {
	t.Helper()
	r, err := v.GetFile(t.Context(), "o1", bridge.GetFile{Path: path, MD5: md5, SHA256: sha256})
	check("getFile", r, err)
	r, err = v.QuarantineFile(t.Context(), "o1", bridge.QuarantineFile{Path: path, MD5: md5, SHA256: sha256})
	check("quarantineFile", r, err)
	r, err = v.DeleteFile(t.Context(), "o1", bridge.DeleteFile{Path: path, MD5: md5, SHA256: sha256})
	check("deleteFile", r, err)
}

func TestI5DigestsThatNameNothingAreRefused(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "f"), "")
	v := newVault(t, nil)
	for name, d := range map[string][2]string{
		"MD5 of the empty file":     {md5Of(""), ""},
		"SHA-256 of the empty file": {"", sha256Of("")},
		"in upper case":             {"", strings.ToUpper(sha256Of(""))},
		"short":                     {"d41d8cd9", ""},
		"swapped":                   {sha256Of("a"), md5Of("a")},
		"no hex":                    {strings.Repeat("g", 32), ""},
	} {
		each(t, v, path, d[0], d[1], func(task string, _ bridge.Receipt, err error) {
			if class, reason := classAndReason(t, err); class != bridge.Permanent || reason != bridge.ReasonInvalid {
				t.Errorf("%s, %s: %v", task, name, err)
			}
		})
	}
	if !there(t, path, "") {
		t.Error("the file is gone")
	}
	empty(t, v)
}

func TestI5BothDigestsMustMatch(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "f"), text)
	v := newVault(t, nil)
	for _, d := range [][2]string{{md5Of(text), sha256Of("x")}, {md5Of("x"), sha256Of(text)}, {"", sha256Of("x")}, {md5Of("x"), ""}} {
		each(t, v, path, d[0], d[1], func(task string, _ bridge.Receipt, err error) {
			if class, reason := classAndReason(t, err); class != bridge.Permanent || reason != bridge.ReasonNone {
				t.Errorf("%s of another file: %v", task, err)
			}
		})
	}
	if !there(t, path, text) {
		t.Error("the file is gone")
	}
	empty(t, v)
}

func TestI6PathsThatNameNoCertainPlaceAreRefused(t *testing.T) {
	t.Parallel()
	v := newVault(t, nil)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "f"), text)
	for _, path := range []string{
		"", "f", "./f", "../f", dir + "/../" + filepath.Base(dir) + "/f", dir + "/f/", dir + "/*", dir + "/?", "~/f", "$HOME/f", dir + "/$HOME/f",
		"/%PATH%/\x00f", dir + "/f\n", "/" + strings.Repeat("a/", 2048) + "f", dir + "/" + strings.Repeat("a", 256), "//server/share/f", `\\server\share\f`,
		`\\?\C:\f`, `\\.\C:`, `C:\Users\f`, `c:/f`, `C:f`, `C:\f:stream`, `C:\con`, dir + `\f`, "http://h/f", "/", dir + "/\u202egpj.f", "/\xff",
	} {
		each(t, v, path, "", "", func(task string, _ bridge.Receipt, err error) {
			if class, reason := classAndReason(t, err); class != bridge.Permanent || reason != bridge.ReasonInvalid {
				t.Errorf("%s of %q: %v", task, path, err)
			}
		})
	}
	empty(t, v)
}

func TestI6OnlyRegularFilesOnADiskAreActedOn(t *testing.T) {
	t.Parallel()
	v := newVault(t, nil)
	dir := t.TempDir()
	fifo, link, folder := filepath.Join(dir, "fifo"), filepath.Join(dir, "link"), filepath.Join(dir, "folder")
	target := write(t, filepath.Join(folder, "f"), text)
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for to, at := range map[string]string{target: link, folder: filepath.Join(dir, "dirlink")} {
		if err := os.Symlink(to, at); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]bridge.Reason{
		fifo: bridge.ReasonInvalid, link: bridge.ReasonInvalid, folder: bridge.ReasonInvalid, filepath.Join(dir, "dirlink", "f"): bridge.ReasonInvalid,
		"/dev/null": bridge.ReasonInvalid, "/dev/zero": bridge.ReasonInvalid, "/proc/self/exe": bridge.ReasonInvalid,
		"/proc/self/root/etc/passwd": bridge.ReasonInvalid, "/proc/version": bridge.ReasonProtectedPath, "/sys/kernel/notes": bridge.ReasonProtectedPath,
	} {
		each(t, v, path, "", "", func(task string, _ bridge.Receipt, err error) {
			if class, reason := classAndReason(t, err); class != bridge.Permanent || reason != want {
				t.Errorf("%s of %s: %v %v", task, path, reason, err)
			}
		})
	}
	if !there(t, target, text) {
		t.Error("the file behind the links is gone")
	}
	empty(t, v)
}

func TestAFileThatIsNotThereIsNoCopyButIsDeleted(t *testing.T) {
	t.Parallel()
	v := newVault(t, nil)
	each(t, v, filepath.Join(t.TempDir(), "none", "f"), "", "", func(task string, r bridge.Receipt, err error) {
		if task == "deleteFile" {
			if err != nil || r.State != bridge.StateDone {
				t.Errorf("%s: %+v, %v", task, r, err)
			}
			return
		}
		if class, reason := classAndReason(t, err); class != bridge.Permanent || reason != bridge.ReasonNone {
			t.Errorf("%s: %v", task, err)
		}
	})
	empty(t, v)
}
