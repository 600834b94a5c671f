package localagent

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

// subjectOf reads start time and image of a process the agent would not resolve.
func subjectOf(t *testing.T, pid int) bridge.Process {
	t.Helper()
	p, err := open(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if err := p.readStat(); err != nil {
		t.Fatal(err)
	}
	return bridge.Process{PID: pid, Start: p.start, Path: "/any"}
}

func TestProtectedProcessesAreRefusedWithTheEntry(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	twin := exec.Command(self)
	twin.Env = append(os.Environ(), helperEnv+"=sleep")
	same := start(t, twin)
	image := agenttest.Program(t, "sleep", "listed")
	listed := sleeper(t, image)
	a := newAgent(t, func(c *Config) {
		c.Protected = func(name string) (bridge.Reason, string) {
			if name == image {
				return bridge.ReasonProtectedProcess, "protect.processes entry 1"
			}
			return bridge.ReasonNone, ""
		}
	})
	for name, c := range map[string]struct {
		subject bridge.Process
		text    string
	}{
		"process 1":      {bridge.Process{PID: 1, Start: 1, Path: "/sbin/init"}, "process 1"},
		"the agent":      {subjectOf(t, os.Getpid()), "it is this agent"},
		"its parent":     {subjectOf(t, os.Getppid()), "ancestor"},
		"its program":    {subjectOf(t, same.pid), "own program"},
		"a listed image": {subjectOf(t, listed.pid), "entry 1"},
	} {
		o := order(bridge.TerminateProcess{})
		o.Subject = c.subject
		_, err := a.Execute(t.Context(), o)
		t.Run(name, func(t *testing.T) { wantError(t, err, bridge.Permanent, bridge.ReasonProtectedProcess, c.text) })
	}
	_, err = a.Execute(t.Context(), order(bridge.TerminateProcess{Path: image}))
	wantError(t, err, bridge.Permanent, bridge.ReasonProtectedProcess, "entry 1")
	for _, v := range []*victim{same, listed} {
		if v.dead() {
			t.Errorf("the protected process %d was ended", v.pid)
		}
	}
}

func TestKernelThreadsAreProtected(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	b, err := os.ReadFile("/proc/2/comm")
	if err != nil || strings.TrimSpace(string(b)) != "kthreadd" {
		t.Skip("no kernel threads in this pid namespace")
	}
	a := newAgent(t)
	o := order(bridge.TerminateProcess{})
	o.Subject = subjectOf(t, 2)
	_, err = a.Execute(t.Context(), o)
	wantError(t, err, bridge.Permanent, bridge.ReasonProtectedProcess, "kernel thread")
	_, err = a.ResolveProcess(t.Context(), bridge.Process{PID: 2}, true)
	wantError(t, err, bridge.Permanent, bridge.ReasonProtectedProcess, "no image")
}

func TestAFamousNameAloneProtectsNobody(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	for _, name := range []string{"systemd", "sshd", "klnagent", "kthreadd", "systemd (deleted)", "x) S 1 1 (y"} {
		v := sleeper(t, agenttest.Program(t, "sleep", name))
		done(t, a, about(t, a, v), "ended pid ")
	}
}

// listener is in the table, and nothing lives in that folder of a minimal system.
const listener = "/usr/local/sbin/sshd"

func TestTheSSHListenerIsProtectedAndItsSessionsAreNot(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	if err := unix.Mount("tmpfs", filepath.Dir(listener), "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	agenttest.CopyProgram(t, mustLook(t, "dash"), listener)
	script := `"$0" -c "while :; do read x < /dev/zero; done" & while :; do read x < /dev/zero; done`
	v := start(t, exec.Command(listener, "-c", script, listener))
	var session string
	agenttest.Eventually(t, "the session runs", func() bool {
		b, _ := os.ReadFile("/proc/" + itoa(v.pid) + "/task/" + itoa(v.pid) + "/children")
		session = strings.TrimSpace(string(b))
		return session != ""
	})
	a := newAgent(t)
	done(t, a, order(bridge.TerminateProcess{Path: listener}), "protected and left alone: pid "+itoa(v.pid))
	if v.dead() {
		t.Fatal("the listener was ended")
	}
	if b, err := os.ReadFile("/proc/" + session + "/stat"); err == nil && !strings.Contains(string(b), ") Z ") {
		t.Errorf("the session lives: %s", b)
	}
	_, err := a.Execute(t.Context(), order(bridge.TerminateProcess{Path: listener}))
	wantError(t, err, bridge.Permanent, bridge.ReasonProtectedProcess, "ssh listener")

	// An update replaces the file: what runs is still the listener.
	if err := os.Remove(listener); err != nil {
		t.Fatal(err)
	}
	agenttest.CopyProgram(t, mustLook(t, "dash"), listener)
	_, err = newAgent(t).Execute(t.Context(), order(bridge.TerminateProcess{Path: listener}))
	wantError(t, err, bridge.Permanent, bridge.ReasonProtectedProcess, "ssh listener")

	// A link gives the protected file another name, not another identity.
	other := filepath.Join(filepath.Dir(listener), "innocent")
	if err := os.Link(listener, other); err != nil {
		t.Fatal(err)
	}
	linked := start(t, exec.Command(other, "-c", "while :; do read x < /dev/zero; done"))
	_, err = newAgent(t).Execute(t.Context(), order(bridge.TerminateProcess{Path: other}))
	wantError(t, err, bridge.Permanent, bridge.ReasonProtectedProcess, "ssh listener")
	if linked.dead() || v.dead() {
		t.Error("a protected process was ended")
	}
}

func TestAProtectedPathInAnotherMountNamespaceProtectsNobody(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	if _, err := os.Stat(listener); err == nil {
		t.Skip(listener + " exists on this machine")
	}
	dash := agenttest.Program(t, "dash", "fake")
	script := `mount -t tmpfs none /usr/local/sbin && cp "$0" ` + listener + ` && exec ` + listener + ` -c "while :; do read x < /dev/zero; done"`
	cmd := exec.Command(dash, "-c", script, dash)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	v := start(t, cmd)
	agenttest.Eventually(t, "the impostor runs", func() bool {
		l, _ := os.Readlink("/proc/" + itoa(v.pid) + "/exe")
		return l == listener
	})
	a := newAgent(t)
	done(t, a, about(t, a, v), "ended pid ")
	if !v.dead() {
		t.Error("the impostor lives")
	}
}

// lists is a never-touch list of paths and of one file name as the user writes it.
func lists(t *testing.T, patterns ...string) func(*Config) {
	t.Helper()
	var c bridge.ProtectConfig
	for _, p := range patterns {
		c.Processes = append(c.Processes, bridge.ProtectEntry{Pattern: p})
	}
	p, err := bridge.NewProtect(c)
	if err != nil {
		t.Fatal(err)
	}
	return func(c *Config) { c.Protected = p.CheckProcess }
}

// openFolder returns a folder of the test that every user can enter.
func openFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// as makes cmd run as the user with that number.
func as(uid uint32, cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return cmd
}

// claims waits until the command line of v ends with text.
func claims(t *testing.T, v *victim, text string) {
	t.Helper()
	agenttest.Eventually(t, "the command line ends with "+text, func() bool {
		b, _ := os.ReadFile("/proc/" + itoa(v.pid) + "/cmdline")
		return strings.HasSuffix(strings.TrimRight(string(b), "\x00 "), text)
	})
}

func wantListed(t *testing.T, a *Agent, v *victim, yes bool) {
	t.Helper()
	o := about(t, a, v)
	if !yes {
		done(t, a, o, "ended pid ")
		return
	}
	_, err := a.Execute(t.Context(), o)
	wantError(t, err, bridge.Permanent, bridge.ReasonProtectedProcess, " matches ")
	if v.dead() {
		t.Error("the protected process was ended")
	}
}

const nobody = 65534

func TestAListedScriptIsProtectedWhoeverClaimsItIsNot(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := openFolder(t)
	write := func(name string, mode os.FileMode, owner int) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte("while :; do read x < /dev/zero; done\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Chown(name, owner, owner), os.Chmod(name, mode)); err != nil {
			t.Fatal(err)
		}
		return name
	}
	roots, nobodys, open := write("roots", 0o644, 0), write("nobodys", 0o644, nobody), write("open", 0o666, 0)
	fake, foreign := agenttest.CopyProgram(t, self, filepath.Join(dir, "perl")), agenttest.CopyProgram(t, self, filepath.Join(dir, "perl5"))
	if err := os.Chown(foreign, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	named := func(image, script string) *exec.Cmd {
		return &exec.Cmd{Path: image, Args: []string{"perl", "-F", script}, Env: append(os.Environ(), helperEnv+"=sleep")}
	}
	dash := mustLook(t, "dash")
	loaded := as(nobody, exec.Command(mustLook(t, "bash"), roots))
	loaded.Env = append(os.Environ(), "BASH_ENV="+nobodys)
	paths, names := newAgent(t, lists(t, dir+"/roots", dir+"/nobodys", dir+"/open")), newAgent(t, lists(t, "roots"))
	for name, c := range map[string]struct {
		a     *Agent
		cmd   *exec.Cmd
		claim string
		want  bool
	}{
		"root runs the script":                         {paths, exec.Command(dash, roots), roots, true},
		"the owner runs the script":                    {paths, as(nobody, exec.Command(dash, nobodys)), nobodys, true},
		"a script anybody can write":                   {paths, exec.Command(dash, open), open, false},
		"a program called perl":                        {paths, as(nobody, named(fake, roots)), roots, false},
		"a program of somebody, run by root":           {paths, named(foreign, roots), roots, false},
		"bash that is made to run another script":      {paths, loaded, roots, false},
		"a file name holds for everybody who takes it": {names, as(nobody, exec.Command(dash, roots)), roots, true},
	} {
		t.Run(name, func(t *testing.T) {
			v := start(t, c.cmd)
			claims(t, v, c.claim)
			wantListed(t, c.a, v, c.want)
		})
	}
}

// elsewhere runs a shell in a mount namespace of its own, where a file system in memory hides dir and holds a copy of src as
// dir/name, and returns the path at which others reach that copy.
func elsewhere(t *testing.T, dir, src, name string) string {
	t.Helper()
	script := `mount -t tmpfs none "$1" && cp "$0" "$1/$2" && : > "$1/ready" && while :; do read x < /dev/zero; done`
	copied := agenttest.CopyProgram(t, src, filepath.Join(t.TempDir(), name))
	cmd := exec.Command(mustLook(t, "dash"), "-c", script, copied, dir, name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Unshareflags: unix.CLONE_NEWNS}
	v := start(t, cmd)
	inside := "/proc/" + itoa(v.pid) + "/root" + dir
	agenttest.Eventually(t, "the other namespace is ready", func() bool { _, err := os.Stat(inside + "/ready"); return err == nil })
	return filepath.Join(inside, name)
}

func wantImage(t *testing.T, v *victim, image string) {
	t.Helper()
	agenttest.Eventually(t, "it runs as "+image, func() bool {
		l, _ := os.Readlink("/proc/" + itoa(v.pid) + "/exe")
		return l == image
	})
}

func TestAListedImageIsProtectedAndNotWhatOnlyHasItsPathElsewhere(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	image := agenttest.Program(t, "sleep", "keep")
	dir := filepath.Dir(image)
	a := newAgent(t, lists(t, image))
	called := newAgent(t, lists(t, "keep"))

	same := exec.Command(image, "3600")
	same.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Unshareflags: unix.CLONE_NEWNS}
	inOwn := start(t, same)
	wantImage(t, inOwn, image)
	wantListed(t, a, inOwn, true)

	// The process itself is in the agent's namespace: only its image lies on a mount of another.
	other := elsewhere(t, dir, mustLook(t, "sleep"), "keep")
	impostor := sleeper(t, other)
	wantImage(t, impostor, image)
	wantListed(t, called, impostor, true)
	wantListed(t, a, impostor, false)

	// A file in memory may be called anything.
	fd, err := unix.MemfdCreate("/.."+image, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "memfd")
	defer f.Close()
	program, err := os.ReadFile(mustLook(t, "sleep"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(program); err != nil {
		t.Fatal(err)
	}
	inMemory := start(t, exec.Command("/proc/"+itoa(os.Getpid())+"/fd/"+itoa(fd), "3600"))
	wantImage(t, inMemory, "/memfd:/.."+image+deletedMark)
	wantListed(t, a, inMemory, false)

	// An update replaces the file: what runs is still what is listed.
	plain := sleeper(t, image)
	if err := os.Remove(image); err != nil {
		t.Fatal(err)
	}
	wantImage(t, plain, image+deletedMark)
	wantListed(t, a, plain, true)
}

func TestTheTableIsNotFooledByAnImageOnAMountOfAnotherNamespace(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	if _, err := os.Stat(listener); err == nil {
		t.Skip(listener + " exists on this machine")
	}
	v := sleeper(t, elsewhere(t, filepath.Dir(listener), mustLook(t, "sleep"), filepath.Base(listener)))
	wantImage(t, v, listener)
	// The listener is told from its sessions by the image of the parent, which is this test.
	wantListed(t, newAgent(t), v, false)
}

func TestWhoBorrowsAnImageOfTheTableIsNotProtected(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	const bus = "/usr/bin/dbus-daemon"
	if _, err := os.Stat(bus); err == nil {
		if err := unix.Mount(agenttest.Program(t, "sleep", "bus"), bus, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
	} else {
		t.Skip(bus + " is needed")
	}
	passwd := filepath.Join(t.TempDir(), "passwd")
	write := "root:x:0:0::/:/bin/sh\nmessagebus:x:991:991::/:/bin/sh\nsystemd-resolve:x:992:992::/:/bin/sh\n"
	if err := os.WriteFile(passwd, []byte(write), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(passwd, "/etc/passwd", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		uid  uint32
		want bool
	}{"root": {0, true}, "its own account": {991, true}, "another service": {992, false}, "a user": {1000, false}} {
		t.Run(name, func(t *testing.T) {
			v := start(t, as(c.uid, exec.Command(bus, "3600")))
			a := newAgent(t)
			o := order(bridge.TerminateProcess{})
			p, err := a.ResolveProcess(t.Context(), bridge.Process{PID: v.pid}, false)
			if err != nil {
				t.Fatal(err)
			}
			o.Subject = p
			if !c.want {
				done(t, a, o, "ended pid ")
				return
			}
			_, err = a.Execute(t.Context(), o)
			wantError(t, err, bridge.Permanent, bridge.ReasonProtectedProcess, "message bus")
		})
	}
}
