package peersocket

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// place is a path short enough for a socket.
func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ps") //nolint:usetesting // its folders have names too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "sock")
}

func TestListenerKnowsWhoConnectsAndGoesWithItsSocket(t *testing.T) {
	t.Parallel()
	path := place(t)
	l, err := Listen(t.Context(), path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Perm() != mode {
		t.Errorf("socket %v, %v, want mode %o", info.Mode(), err, mode)
	}
	client, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if c, ok := conn.(*Conn); !ok || int(c.UID) != os.Geteuid() {
		t.Errorf("connection %T, want a *Conn of user %d", conn, os.Geteuid())
	}
	if _, err := Listen(t.Context(), path, "", nil); !errors.Is(err, ErrInUse) {
		t.Errorf("a second listener: %v, want ErrInUse", err)
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestListenLeavesWhatIsNoSocket(t *testing.T) {
	t.Parallel()
	path := place(t)
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(t.Context(), path, "", nil); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("error %v, want that it is no socket", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "mine" {
		t.Errorf("the file holds %q, %v", b, err)
	}
}

func TestCloseLeavesTheSocketOfAnother(t *testing.T) {
	t.Parallel()
	path := place(t)
	first, err := Listen(t.Context(), path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second, err := Listen(t.Context(), path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the other socket is gone: %v", err)
	}
}

func TestListenNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	path := place(t)
	for name, c := range map[string]struct{ path, group, want string }{
		"no such group": {path, "no such group", "no such group"},
		"no folder":     {filepath.Join(path, "x"), "", "no such file"},
		"too long":      {filepath.Join(filepath.Dir(path), strings.Repeat("a", 10)+"/"+strings.Repeat("b", 100)), "", "too long"},
	} {
		if c.want == "too long" {
			if err := os.Mkdir(filepath.Dir(c.path), 0o700); err != nil {
				t.Fatal(err)
			}
			c.path = filepath.Join(filepath.Dir(c.path), strings.Repeat("c", 90), "s")
			if err := os.Mkdir(filepath.Dir(c.path), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Listen(t.Context(), c.path, c.group, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
