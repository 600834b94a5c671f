package socket

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/peersocket"
)

// listenAs listens as another user and answers everything with done.
func listenAs(t *testing.T, uid int, path string) {
	t.Helper()
	listening := make(chan net.Listener)
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the user it became
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
			failed <- errno
			return
		}
		l, err := net.Listen("unix", path)
		if err != nil {
			failed <- err
			return
		}
		listening <- l
	}()
	select {
	case err := <-failed:
		t.Fatal(err)
	case l := <-listening:
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Write([]byte(`{"receipt":{"state":"done","ref":"","detail":"believe me"}}` + "\n"))
			}
		}()
	}
}

func TestABridgeBelievesNoForeignAgent(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("this test needs root to be somebody else")
	}
	dir, err := os.MkdirTemp("", "as") //nolint:usetesting // folders of tests have names too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	listenAs(t, 65534, path)
	r, err := NewClient(path).Execute(t.Context(), kill(1))
	if bridge.ClassOf(err) != bridge.Unreachable || !strings.Contains(err.Error(), "user 65534 answers there") {
		t.Errorf("got %+v, %v; want that nobody who may answers", r, err)
	}
}

func TestRootIsHeardWhenOthersTakeAllPlaces(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("this test needs root to be somebody else")
	}
	s, err := NewServer(ServerConfig{Path: "/nowhere", Agent: &fakeAgent{}})
	if err != nil {
		t.Fatal(err)
	}
	for range maxConns - rootConns {
		s.others <- struct{}{} // somebody connects and says nothing
	}
	s.cfg.Users = []string{"65533"}
	if got := asked(t, s, 0); strings.Contains(got, "too many") {
		t.Errorf("root got %q", got)
	}
	if got := asked(t, s, 65533); !strings.Contains(got, "too many") || !strings.Contains(got, bridge.Retry.String()) {
		t.Errorf("another user got %q, want that he tries again", got)
	}
}

// asked returns what the server answers this user's call.
func asked(t *testing.T, s *Server, uid uint32) string {
	t.Helper()
	here, there := net.Pipe()
	defer here.Close()
	go s.serve(t.Context(), &peersocket.Conn{Conn: there, UID: uid})
	_ = here.SetDeadline(time.Now().Add(10 * time.Second))
	go func() { _, _ = here.Write([]byte(`{"version":1,"method":"resolve"}` + "\n")) }()
	b := make([]byte, 4096)
	n, err := here.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}
