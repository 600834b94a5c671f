package files

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fill makes a file and returns its path.
func fill(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func holdsText(t testing.TB, path, text string) bool {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil && string(b) == text
}

func TestOpenTakesRegularFilesWithoutLinksOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := fill(t, filepath.Join(dir, "real", "f"), "text")
	for to, at := range map[string]string{file: "link", filepath.Join(dir, "real"): "dirlink", filepath.Join(dir, "none"): "dangling"} {
		if err := os.Symlink(to, filepath.Join(dir, at)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, tt := range []struct {
		path      string
		open, pin error
	}{
		{file, nil, nil},
		{dir + "//real/./f", nil, nil},
		{dir + "/link", ErrLink, ErrLink},
		{dir + "/dangling", ErrLink, ErrLink},
		{dir + "/dirlink/f", ErrLink, ErrLink},
		{dir + "/none", fs.ErrNotExist, fs.ErrNotExist},
		{dir + "/fifo", ErrNotRegular, ErrNotRegular},
		{dir + "/socket", ErrNotRegular, ErrNotRegular},
		{dir + "/real", ErrNotRegular, ErrNotRegular},
		{"/", ErrNotRegular, ErrNotRegular},
		{"/dev/null", ErrNotRegular, ErrNotRegular},
		{"/proc/self/exe", ErrLink, ErrLink},
		{"/proc/self/root/etc/passwd", ErrLink, ErrLink},
		{"/proc/self/cwd/open_linux_test.go", ErrLink, ErrLink},
		{"/proc/version", nil, ErrPseudo},
		{"relative", fs.ErrInvalid, fs.ErrNotExist},
		{"", fs.ErrInvalid, fs.ErrInvalid},
		{dir + "/f\x00", fs.ErrInvalid, fs.ErrInvalid},
	} {
		f, err := Open(tt.path)
		if !errors.Is(err, tt.open) || (err == nil) != (f != nil) {
			t.Errorf("open %q: %v, want %v", tt.path, err, tt.open)
		}
		if f != nil {
			_ = f.Close()
		}
		if tt.path == "relative" || tt.path == "" || tt.path[len(tt.path)-1] == 0 {
			if p, err := Pin(tt.path); err == nil {
				_ = p.Close()
				t.Errorf("pin %q was taken", tt.path)
			}
			continue
		}
		p, err := Pin(tt.path)
		if !errors.Is(err, tt.pin) || (err == nil) != (p != nil) {
			t.Errorf("pin %q: %v, want %v", tt.path, err, tt.pin)
		}
		if p != nil {
			if err := errors.Join(p.Still(), p.Close()); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestOpenLeavesTheAccessTimeAndReadsTheFile(t *testing.T) {
	t.Parallel()
	path := fill(t, filepath.Join(t.TempDir(), "f"), "text")
	old := time.Unix(1_000_000_000, 0)
	if err := os.Chtimes(path, old, time.Unix(1_500_000_000, 0)); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, err := io.ReadAll(f); err != nil || string(b) != "text" {
		t.Errorf("read %q, %v", b, err)
	}
	st, err := StatOf(f)
	if err != nil || !st.Accessed.Equal(old) || st.Bytes != 4 || st.Links != 1 || st.Perm != 0o644 || st.Created.IsZero() {
		t.Errorf("got %+v, %v", st, err)
	}
	if key, size, err := KeyOf(f); err != nil || key.ID != st.ID || size != 4 {
		t.Errorf("key %+v of %d bytes, %v", key, size, err)
	}
}

func TestOpenOfALeasedFileIsBusy(t *testing.T) {
	t.Parallel()
	path := fill(t, filepath.Join(t.TempDir(), "f"), "text")
	w, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := unix.FcntlInt(w.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skipf("no leases here: %v", err)
	}
	if f, err := Open(path); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v, %v", f, err)
	}
}

func TestFrozenFileTellsWhetherAnybodyCouldWrite(t *testing.T) {
	t.Parallel()
	path := fill(t, filepath.Join(t.TempDir(), "f"), "text")
	open := func() *os.File {
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	z := Freeze(open())
	if !z.Held() {
		t.Fatal("no lease on a file nobody writes")
	}
	if fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
		_ = unix.Close(fd)
		t.Error("somebody could write")
	}
	if z.Held() {
		t.Error("somebody wanted to write, and it is still held")
	}
	z.Thaw()
	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if z := Freeze(open()); z.Held() {
		t.Error("a lease beside a writer")
	}
}

func FuzzDirent(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x18\x00\x08name\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			name, _, rest := dirent(b)
			if len(rest) >= len(b) || len(name) > len(b) {
				t.Fatalf("%d bytes became %d, name %q", len(b), len(rest), name)
			}
			b = rest
		}
	})
}
