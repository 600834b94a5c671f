package firewall

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

// stranger is a user without rights who has a network namespace of his own, and a table with our name in it. It returns when the
// table stands.
func stranger(t *testing.T, flags, armed string) place {
	t.Helper()
	script := "add table inet " + isolationTable + " { " + flags + " }\n" +
		"add set inet " + isolationTable + " armed { " + armed + "\n"
	cmd := exec.Command("/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
		"/usr/bin/unshare", "-U", "-r", "-n", "/bin/sh", "-c", `(cat; sleep 60) | /usr/sbin/nft -i >/dev/null 2>&1`)
	cmd.Stdin = strings.NewReader(script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Skipf("this test needs setpriv and unshare: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); _ = cmd.Wait() })
	// Each of these programs becomes the next one; what the last one starts comes and goes.
	his := place{path: fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)}
	agenttest.Eventually(t, "the stranger's table stands", func() bool {
		var err error
		his.id, err = nsAt(his.path)
		must(t, err)
		stands := false
		_ = his.inside(func() error {
			out, err := run1("list", "set", "inet", isolationTable, armedSet)
			stands = err == nil && strings.Contains(out, "elements")
			return nil
		})
		return stands
	})
	return his
}

func TestAStrangersTableSaysNothingAboutThisMachine(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET|unix.CLONE_NEWPID|unix.CLONE_NEWNS) {
		return
	}
	dir := t.TempDir()
	w := newWall(t, func(cfg *Config) { cfg.State = dir })
	stranger(t, "", "type nf_proto; flags timeout; elements = { ipv4, ipv6 }; }")
	if st := isolated(t, w); st.On || st.Permanent || len(st.Behind) > 0 {
		t.Errorf("before any order: %+v", st)
	}
	isolate(t, w, Isolation{For: time.Minute}, "isolated until", "1 other network namespaces")
	if st := isolated(t, w); st.Permanent || time.Until(st.Until) > time.Minute {
		t.Errorf("ordered for a minute, and it is %+v", st)
	}
	release(t, w, "released: the network is back")
	if st := isolated(t, w); st.On {
		t.Errorf("after release: %+v", st)
	}
}

func TestAStrangerWhoOwnsHisTableCannotKeepThisMachineIsolated(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET|unix.CLONE_NEWPID|unix.CLONE_NEWNS) {
		return
	}
	var told alarms
	dir := t.TempDir()
	w := newWall(t, func(cfg *Config) { cfg.State = dir; cfg.Tampered = told.add })
	his := stranger(t, "flags owner;", "type nf_proto; flags timeout; elements = { ipv4 timeout 1h, ipv6 timeout 1h }; }")
	start(t, w)
	isolate(t, w, Isolation{For: time.Minute}, "isolated until", "NOT covered: net:["+strconv.FormatUint(his.id.ino, 10))
	begin := time.Now()
	r, err := w.Release(t.Context(), "o2")
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("the release took %s: it waited for the stranger", took)
	}
	if err != nil || !strings.Contains(r.Detail, "released: the network is back; NOT released: net:["+strconv.FormatUint(his.id.ino, 10)) {
		t.Errorf("release = %+v, %v", r, err)
	}
	g := guard{w: w}
	for range 3 {
		if on, err := g.look(t.Context()); on || err != nil {
			t.Errorf("the guard sees %v, %v", on, err)
		}
	}
	if table, err := findTable(isolationTable); err != nil || table.exists || told.has("took") {
		t.Errorf("own table: %+v, %v; alarms: %q", table, err, told.said)
	}
}

func TestAStrangersSetIsNeverListed(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET|unix.CLONE_NEWPID|unix.CLONE_NEWNS) {
		return
	}
	w := newWall(t)
	var many strings.Builder
	many.WriteString("type ipv4_addr; flags timeout; }\n")
	for i := range 8 {
		fmt.Fprintf(&many, "add element inet %s armed { ", isolationTable)
		for j := range 500 {
			fmt.Fprintf(&many, "10.0.%d.%d, ", i*2+j/256, j%256)
		}
		many.WriteString("}\n")
	}
	his := stranger(t, "", many.String())
	agenttest.Eventually(t, "the set is filled", func() bool {
		return his.inside(func() error {
			_, err := run1("get", "element", "inet", isolationTable, armedSet, "{ 10.0.15.243 }")
			return err
		}) == nil
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	st := isolated(t, w)
	runtime.ReadMemStats(&after)
	if used := (after.TotalAlloc - before.TotalAlloc) >> 10; used > 1000 || st.On {
		t.Errorf("one look took %d KiB and saw %+v", used, st)
	}
}

// pin starts a process in a network namespace of its own and mounts that somewhere, as ip-netns(8) does.
func pin(t *testing.T) (pinned place, cmd *exec.Cmd) {
	t.Helper()
	cmd = exec.Command("/bin/sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	at := filepath.Join(t.TempDir(), "a vpn")
	must(t, os.WriteFile(at, nil, 0o600))
	must(t, unix.Mount("/proc/"+strconv.Itoa(cmd.Process.Pid)+"/ns/net", at, "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	id, err := nsAt(at)
	must(t, err)
	return place{id, pinnedRoot + at}, cmd
}

func end(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
}

// armedAt reports whether an isolation stands in a namespace.
func armedAt(t *testing.T, p place) bool {
	t.Helper()
	var st standing
	must(t, p.inside(func() (err error) {
		st, err = glance()
		return err
	}))
	return st.on
}

func TestPinnedNamespacesWithoutAProcessAreIsolatedAndReleased(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET|unix.CLONE_NEWPID|unix.CLONE_NEWNS) {
		return
	}
	vpn, cmd := pin(t)
	end(t, cmd)
	w := newWall(t)
	isolate(t, w, Isolation{Permanent: true}, "1 other network namespaces")
	if !armedAt(t, vpn) {
		t.Error("not isolated")
	}
	release(t, w, "released: the network is back")
	if armedAt(t, vpn) {
		t.Error("still isolated")
	}
}

func TestAServiceThatRestartsDuringTheReleaseIsReleased(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET|unix.CLONE_NEWPID|unix.CLONE_NEWNS) {
		return
	}
	vpn, cmd := pin(t)
	w := newWall(t)
	isolate(t, w, Isolation{Permanent: true}, "1 other network namespaces")
	end(t, cmd)
	release(t, w, "released: the network is back")
	if armedAt(t, vpn) {
		t.Error("still isolated")
	}
}

// threadEnv makes the test program live with one of its threads in another namespace.
const threadEnv = "FIREWALL_TEST_THREAD"

func TestNamespacesOfThreadsAreIsolated(t *testing.T) {
	if os.Getenv(threadEnv) != "" {
		runtime.LockOSThread()
		if os.Getpid() == unix.Gettid() {
			// The first thread must stay where it is: the next goroutine gets another one.
			go TestNamespacesOfThreadsAreIsolated(t)
			select {}
		}
		must(t, unix.Unshare(unix.CLONE_NEWNET))
		_, _ = fmt.Fprintln(os.Stderr, unix.Gettid())
		select {}
	}
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET|unix.CLONE_NEWPID|unix.CLONE_NEWNS) {
		return
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), threadEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	var tid int
	_, err = fmt.Fscan(out, &tid)
	must(t, err)
	path := fmt.Sprintf("/proc/%d/task/%d/ns/net", cmd.Process.Pid, tid)
	id, err := nsAt(path)
	must(t, err)
	w := newWall(t)
	isolate(t, w, Isolation{For: time.Minute}, "1 other network namespaces")
	if !armedAt(t, place{id, path}) {
		t.Error("not isolated")
	}
	release(t, w, "released")
}

func TestANamespaceThatHidDuringTheReleaseIsFreedWhenItIsFoundAgain(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET|unix.CLONE_NEWPID|unix.CLONE_NEWNS) {
		return
	}
	dir := t.TempDir()
	hid, cmd := pin(t)
	config := func(cfg *Config) { cfg.State = dir }
	w := newWall(t, config)
	isolate(t, w, Isolation{Permanent: true}, "1 other network namespaces")
	// Only a descriptor of ours holds it.
	f, err := os.Open(hid.path)
	must(t, err)
	defer f.Close()
	must(t, unix.Unmount(strings.TrimPrefix(hid.path, pinnedRoot), unix.MNT_DETACH))
	end(t, cmd)
	release(t, newWall(t, config), "released: the network is back")
	held := place{hid.id, fmt.Sprintf("/proc/self/fd/%d", f.Fd())}
	if !armedAt(t, held) {
		t.Fatal("the test does not hide the namespace")
	}
	again := exec.Command("/bin/sleep", "600")
	must(t, enter(f, again.Start))
	t.Cleanup(func() { _ = again.Process.Kill(); _ = again.Wait() })
	// By the record another process knows what was put there by us.
	next := newWall(t, config)
	g := guard{w: next}
	if st := isolated(t, next); st.On {
		t.Errorf("this machine is isolated: %+v", st)
	}
	if on, err := g.look(t.Context()); on || err != nil {
		t.Errorf("look = %v, %v", on, err)
	}
	if armedAt(t, held) {
		t.Error("still isolated")
	}
}

func TestAnIsolationSomebodyElseMadeInAContainerIsLeftToHim(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET|unix.CLONE_NEWPID|unix.CLONE_NEWNS) {
		return
	}
	theirs, _ := pin(t)
	inner := newWall(t)
	must(t, theirs.inside(func() error { return inner.armIn(theirs.id, nil, time.Hour) }))
	g := guard{w: newWall(t)}
	if on, err := g.look(t.Context()); on || err != nil {
		t.Errorf("look = %v, %v", on, err)
	}
	if !armedAt(t, theirs) {
		t.Error("the agent of the host took the isolation of a container's own agent away")
	}
}

func TestFlowsOfANamespaceThatComesLaterAreCut(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET|unix.CLONE_NEWPID|unix.CLONE_NEWNS) {
		return
	}
	_ = cable(t)
	w := newWall(t)
	isolate(t, w, Isolation{For: time.Hour})
	c := runContainer(t, "c0", "192.168.7.1", "192.168.7.2")

	// A cable of its own from the container to the far end: it does not come by this machine.
	side, fd := newFar(t)
	theirs := mustListen(t, &side, "0.0.0.0")
	must(t, c.inside(func() error {
		plug(t, "side0", "side1", fd)
		up(t, "side0", "192.168.9.2/24")
		return nil
	}))
	side.do(func() { up(t, "side1", "192.168.9.1/24") })

	flow := c.mustDial(t, "192.168.9.1:"+portOf(theirs))
	must(t, w.cover(t.Context(), w.armed, time.Hour))
	if err := talk(flow); !errors.Is(err, syscall.ECONNABORTED) {
		t.Errorf("the container's connection: %v, want ECONNABORTED", err)
	}
}

func TestPinsAreReadFromTheListOfMounts(t *testing.T) {
	t.Parallel()
	got, err := parsePinned(strings.NewReader(`24 1 0:4 net:[4026532211] /run/netns/a\040b rw shared:1 - nsfs nsfs rw
25 1 0:4 mnt:[4026532212] /run/snapd/ns/x rw - nsfs nsfs rw
26 1 8:1 / / rw,relatime shared:1 master:2 - ext4 /dev/sda1 rw
27 1 0:4 net:[1] - nsfs
`))
	if err != nil || len(got) != 1 || got[0] != "/proc/1/root/run/netns/a b" {
		t.Errorf("pins = %q, %v", got, err)
	}
}
