package firewall

import (
	"errors"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

// container is a process with a network namespace of its own and an interface to the test's.
type container struct {
	place
	cmd *exec.Cmd
}

// mustDial is dial with the patience a fresh link needs: it may lose the first packets.
func (c container) mustDial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := c.dial(addr)
	for try := 0; err != nil && try < 5; try++ {
		conn, err = c.dial(addr)
	}
	must(t, err)
	must(t, talk(conn))
	return conn
}

// dial connects from inside the container.
func (c container) dial(addr string) (conn net.Conn, err error) {
	// Only what was opened before the thread ends stays in the namespace; a plain dial of one address stays on the thread.
	_ = c.inside(func() error {
		d := net.Dialer{Timeout: time.Second}
		conn, err = d.Dial("tcp", addr)
		return nil
	})
	return conn, err
}

func runContainer(t *testing.T, name, near, address string) container {
	t.Helper()
	cmd := exec.Command("/bin/sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	fd, err := unix.Open("/proc/"+strconv.Itoa(cmd.Process.Pid)+"/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	plug(t, name, "eth0", fd)
	up(t, name, near+"/24")
	id, err := nsOf(strconv.Itoa(cmd.Process.Pid))
	must(t, err)
	c := container{place{id, "/proc/" + strconv.Itoa(cmd.Process.Pid) + "/ns/net"}, cmd}
	must(t, c.inside(func() error {
		up(t, "eth0", address+"/24")
		return addRoute("0.0.0.0", near)
	}))
	return c
}

func TestOtherNamespacesOfTheMachineAreIsolatedToo(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET|unix.CLONE_NEWPID|unix.CLONE_NEWNS) {
		return
	}
	_ = cable(t)
	first := runContainer(t, "c0", "192.168.7.1", "192.168.7.2")
	l, err := net.Listen("tcp", "0.0.0.0:0")
	must(t, err)
	defer l.Close()
	go echo(l)
	_ = first.mustDial(t, "192.168.7.1:"+portOf(l))

	var told alarms
	dir := t.TempDir()
	config := func(cfg *Config) { cfg.Tampered = told.add; cfg.State = dir }
	alone := newWall(t, config, func(cfg *Config) { cfg.HostOnly = true })
	isolate(t, alone, Isolation{For: time.Hour})
	if err := first.inside(func() error { _, err := run1("list", "table", "inet", isolationTable); return err }); err == nil {
		t.Error("a container was isolated although the settings leave them alone")
	}
	release(t, alone, "released")
	flow := first.mustDial(t, "192.168.7.1:"+portOf(l))

	w := newWall(t, config)
	stop := start(t, w)
	isolate(t, w, Isolation{For: time.Hour}, "1 other network namespaces")
	if err := talk(flow); !errors.Is(err, syscall.ECONNABORTED) {
		t.Errorf("the container's connection: %v, want ECONNABORTED", err)
	}
	if _, err := first.dial("192.0.2.7:80"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connecting from the container: %v, want ECONNREFUSED", err)
	}
	// A container's root may not flush what the agent owns.
	must(t, first.inside(func() error { _, err := run1("flush", "ruleset"); return err }))
	if _, err := first.dial("192.0.2.7:80"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after a flush in the container: %v, want ECONNREFUSED", err)
	}

	second := runContainer(t, "c1", "192.168.8.1", "192.168.8.2")
	agenttest.Eventually(t, "a container that came later is isolated", func() bool {
		_, err := second.dial("192.0.2.7:80")
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	if st := isolated(t, w); st.Namespaces != 2 || len(st.Uncovered) != 0 {
		t.Errorf("state = %+v, want two namespaces", st)
	}
	// The agent must not keep the namespace of a container that ended alive.
	must(t, second.cmd.Process.Kill())
	_ = second.cmd.Wait()
	agenttest.Eventually(t, "the ended container is let go", func() bool { return w.platform.owner(second.id) == nil })
	agenttest.Eventually(t, "its namespace is gone", func() bool {
		_, err := net.InterfaceByName("c1")
		return err != nil
	})
	stop()
	release(t, w, "released")
	_ = first.mustDial(t, "192.168.7.1:"+portOf(l))
	if err := first.inside(func() error {
		out, err := run1("list", "ruleset")
		if err == nil && out != "" {
			err = errors.New(out)
		}
		return err
	}); err != nil {
		t.Errorf("left behind in the container: %v", err)
	}
}

func TestOtherNamespacesAreArmedAgainWhenSomebodyFreesThem(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET|unix.CLONE_NEWPID|unix.CLONE_NEWNS) {
		return
	}
	_ = cable(t)
	c := runContainer(t, "c0", "192.168.7.1", "192.168.7.2")
	var told alarms
	w := newWall(t, func(cfg *Config) { cfg.Tampered = told.add })
	w.platform.unownable = true
	start(t, w)
	isolate(t, w, Isolation{For: time.Hour})
	must(t, c.inside(func() error { _, err := run1("flush", "ruleset"); return err }))
	agenttest.Eventually(t, "the container is isolated again and somebody told", func() bool {
		_, err := c.dial("192.0.2.7:80")
		return errors.Is(err, syscall.ECONNREFUSED) && told.has("network namespace")
	})
}

// run1 is nft on the calling thread's namespace.
func run1(args ...string) (string, error) {
	out, err := exec.Command(nft, args...).CombinedOutput()
	if err != nil {
		return "", errors.New(strings.TrimSpace(string(out)))
	}
	return string(out), nil
}
