package localagent

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

// serving runs image with a listening socket of its own, which nobody else holds, and returns where it listens.
func serving(t *testing.T, image, network, address string) (v *victim, at string) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Skipf("listen on %s: %v", address, err)
	}
	at = l.Addr().String()
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	f, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(image, "3600")
	cmd.ExtraFiles = []*os.File{f}
	v = start(t, cmd)
	_, _ = f.Close(), l.Close()
	return v, at
}

func TestWhatServesTheBridgeIsRefusedAndItsTwinIsNot(t *testing.T) {
	t.Parallel()
	image := agenttest.Program(t, "sleep", "redis-server")
	file := filepath.Join(t.TempDir(), "redis.sock")
	linked := filepath.Join(t.TempDir(), "link.sock")
	if err := os.Symlink(file, linked); err != nil {
		t.Fatal(err)
	}
	local, at := serving(t, image, "tcp", "127.0.0.1:0")
	_, port, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	any, anyAt := serving(t, image, "tcp", ":0")
	_, anyPort, err := net.SplitHostPort(anyAt)
	if err != nil {
		t.Fatal(err)
	}
	unixed, _ := serving(t, image, "unix", file)
	other, _ := serving(t, image, "tcp", "127.0.0.1:0")
	squatter, _ := serving(t, image, "tcp", "127.9.9.9:"+port)
	otherUnix, _ := serving(t, image, "unix", filepath.Join(t.TempDir(), "redis.sock"))
	for name, c := range map[string]struct {
		server string
		v      *victim
	}{
		"address":               {at, local},
		"localhost":             {"localhost:" + port, local},
		"own name":              {testHost + ":" + port, local},
		"listens everywhere":    {"127.0.0.1:" + anyPort, any},
		"no host":               {":" + anyPort, any},
		"socket file":           {file, unixed},
		"socket file as in URL": {"unix://" + file, unixed},
		"over a link":           {linked, unixed},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAgent(t, func(cfg *Config) { cfg.Servers = []string{"redis.example:6379", "/there/is/none.sock", c.server} })
			_, err := a.Execute(t.Context(), about(t, a, c.v))
			wantError(t, err, bridge.Permanent, bridge.ReasonProtectedProcess, "server of the bridge")
			if c.v.dead() {
				t.Error("the server was ended")
			}
		})
	}
	a := newAgent(t, func(cfg *Config) { cfg.Servers = []string{at, file} })
	for _, v := range []*victim{other, squatter, otherUnix, sleeper(t, image)} {
		done(t, a, about(t, a, v), "ended pid ")
	}
	// The path is that of all of them: the servers are left alone.
	done(t, a, order(bridge.TerminateProcess{Path: image}), "protected and left alone: pid ")
	if local.dead() || unixed.dead() || !any.dead() {
		t.Errorf("ended: address %v, socket file %v, what listens for nobody %v", local.dead(), unixed.dead(), any.dead())
	}
	elsewhere := newAgent(t, func(cfg *Config) { cfg.Servers = []string{"redis.example:" + port, "192.0.2.1:" + port} })
	done(t, elsewhere, about(t, elsewhere, local), "ended pid ")
}

func TestWhoGotTheSocketFromItsParentIsNoServer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	cmd := exec.Command(agenttest.Program(t, "sleep", "sleep"), "3600")
	cmd.ExtraFiles = []*os.File{f}
	worker := start(t, cmd)
	a := newAgent(t, func(cfg *Config) { cfg.Servers = []string{l.Addr().String()} })
	done(t, a, about(t, a, worker), "ended pid ")
}

func TestTheClosestListenerIsTheServer(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"0100007F:18EB":                         "127.0.0.1:6379",
		"00000000000000000000000001000000:0050": "[::1]:80",
		"0000000000000000FFFF00000100007F:0050": "127.0.0.1:80",
	} {
		if got, err := parseListener(text); err != nil || got.String() != want {
			t.Errorf("%s: %s, %v; want %s", text, got, err, want)
		}
	}
	addr := netip.MustParseAddr("127.0.0.1")
	rank := 0
	for _, closer := range []string{"::1", "::", "0.0.0.0", "127.0.0.1"} {
		s := tcpSocket{addr: netip.MustParseAddr(closer)}
		if got := s.answers(addr); got != rank {
			t.Errorf("%s: %d, want %d", closer, got, rank)
		}
		rank++
	}
}

func TestServersThatNameNoPlaceAreRefused(t *testing.T) {
	t.Parallel()
	for _, server := range []string{"redis", "redis:http", "redis:70000", "relative.sock", ""} {
		if _, err := New(Config{Self: bridge.Identity{Names: []string{testHost}}, State: t.TempDir(), Servers: []string{server}}); err == nil {
			t.Errorf("%q is taken", server)
		}
	}
}

func TestASocketFileOfTheSameNumberElsewhereIsNoServer(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	image := agenttest.Program(t, "sleep", "server")
	var files []string
	var served []*victim
	for range 2 { // the first file of a file system in memory has the same number everywhere
		dir := t.TempDir()
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
		file := filepath.Join(dir, "redis.sock")
		v, _ := serving(t, image, "unix", file)
		files, served = append(files, file), append(served, v)
	}
	a := newAgent(t, func(cfg *Config) { cfg.Servers = files[:1] })
	done(t, a, about(t, a, served[1]), "ended pid ")
	_, err := a.Execute(t.Context(), about(t, a, served[0]))
	wantError(t, err, bridge.Permanent, bridge.ReasonProtectedProcess, "server of the bridge")
}
