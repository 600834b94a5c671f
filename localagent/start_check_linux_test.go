package localagent

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kballard/go-shellquote"
	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

func TestStartRefusesWhatSomebodyElseCouldReplace(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	l := newLauncher(t)
	good := script(t, "exit")
	dir := t.TempDir()
	place := func(sub string, change func(file, folder string) error) string {
		t.Helper()
		folder := filepath.Join(dir, sub)
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		file := agenttest.CopyProgram(t, good, filepath.Join(folder, "p"))
		if err := change(file, folder); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for name, c := range map[string]struct {
		path  string
		class bridge.Class
		text  string
	}{
		"writable file":   {place("a", func(f, _ string) error { return os.Chmod(f, 0o757) }), bridge.Permanent, "anybody can write"},
		"writable folder": {place("b", func(_, d string) error { return os.Chmod(d, 0o777) }), bridge.Permanent, "anybody can write"},
		"foreign file":    {place("c", func(f, _ string) error { return os.Chown(f, 12345, 0) }), bridge.Permanent, "user 12345 owns"},
		"foreign folder":  {place("d", func(_, d string) error { return os.Chown(d, 12345, 0) }), bridge.Permanent, "user 12345 owns"},
		"sticky folder":   {place("e", func(_, d string) error { return os.Chmod(d, 0o777|os.ModeSticky) }), bridge.Permanent, ""},
		"group's file":    {place("i", func(f, _ string) error { return shared(f, 12345, 0o775) }), bridge.Permanent, "group 12345 can write"},
		"group's folder":  {place("j", func(_, d string) error { return shared(d, 12345, 0o775) }), bridge.Permanent, "group 12345 can write"},
		"access list":     {place("l", func(f, _ string) error { return listed(f) }), bridge.Permanent, "access list"},
		"sticky group":    {place("m", func(_, d string) error { return shared(d, 12345, 0o775|os.ModeSticky) }), bridge.Permanent, ""},
		"root's group":    {place("n", func(f, d string) error { return errors.Join(shared(f, 0, 0o775), shared(d, 0, 0o775)) }), bridge.Permanent, ""},
		"not executable":  {place("f", func(f, _ string) error { return os.Chmod(f, 0o644) }), bridge.Permanent, "may not be executed"},
		"a link":          {place("g", func(f, d string) error { return errors.Join(os.Remove(f), os.Symlink(good, f)) }), bridge.Permanent, "link"},
		"a folder":        {dir, bridge.Permanent, "not a regular file"},
		"a pipe":          {place("h", func(f, _ string) error { return errors.Join(os.Remove(f), unix.Mkfifo(f, 0o755)) }), bridge.Permanent, "not a regular file"},
		"nothing":         {filepath.Join(dir, "none"), bridge.Permanent, "no such file"},
		"relative":        {"bin/sh", bridge.Permanent, "not absolute"},
		"with a NUL":      {"/bin/\x00sh", bridge.Permanent, "NUL"},
		"upwards":         {dir + "/../x", bridge.Permanent, `".."`},
		"windows path":    {`C:\Windows\System32\cmd.exe`, bridge.Permanent, ""},
		"hostile text":    {"/tmp/\u202ex", bridge.Permanent, "invisible"},
	} {
		_, err := l.Start(t.Context(), order(nil).ID, bridge.StartProcess{ExecutablePath: c.path}, 0)
		if c.text == "" && c.path != `C:\Windows\System32\cmd.exe` {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		t.Run(name, func(t *testing.T) { refused(t, err, c.class, c.text) })
	}
}

// shared gives the file to a group.
func shared(name string, gid int, mode os.FileMode) error {
	return errors.Join(os.Chown(name, 0, gid), os.Chmod(name, mode))
}

// listed lets a single user write to the file: the bits of the group are those of the mask then (acl(5)).
func listed(name string) error {
	list := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{1, 7, ^uint32(0)}, {2, 7, 12345}, {4, 5, ^uint32(0)}, {0x10, 7, ^uint32(0)}, {0x20, 5, ^uint32(0)}} {
		list = binary.LittleEndian.AppendUint16(list, e.tag)
		list = binary.LittleEndian.AppendUint16(list, e.perm)
		list = binary.LittleEndian.AppendUint32(list, e.id)
	}
	return unix.Setxattr(name, "system.posix_acl_access", list, 0)
}

func TestStartRefusesAGroupThatCouldReplaceAFolderFarAbove(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	top := t.TempDir()
	near := filepath.Join(top, "a", "b")
	if err := os.MkdirAll(near, 0o755); err != nil {
		t.Fatal(err)
	}
	file := agenttest.CopyProgram(t, script(t, "exit"), filepath.Join(near, "p"))
	if err := shared(filepath.Join(top, "a"), 12345, 0o775); err != nil {
		t.Fatal(err)
	}
	_, err := newLauncher(t).Start(t.Context(), order(nil).ID, bridge.StartProcess{ExecutablePath: file}, 0)
	refused(t, err, bridge.Permanent, "group 12345 can write")
}

func TestStartRefusesWhatItCannotCarryOut(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	name := script(t, "exit")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	start := func(ctx context.Context, id string, task bridge.StartProcess, limit time.Duration) error {
		_, err := l.Start(ctx, id, task, limit)
		return err
	}
	task := bridge.StartProcess{ExecutablePath: name}
	for what, c := range map[string]struct {
		err   error
		class bridge.Class
		text  string
	}{
		"open quote":        {start(t.Context(), "a", bridge.StartProcess{ExecutablePath: name, Arguments: `"open`}, 0), bridge.Permanent, "cannot be split"},
		"open escape":       {start(t.Context(), "b", bridge.StartProcess{ExecutablePath: name, Arguments: `x\`}, 0), bridge.Permanent, "cannot be split"},
		"too many words":    {start(t.Context(), "c", bridge.StartProcess{ExecutablePath: name, Arguments: strings.Repeat("x ", maxArguments+1)}, 0), bridge.Permanent, "words"},
		"no folder":         {start(t.Context(), "d", bridge.StartProcess{ExecutablePath: name, WorkingFolder: name}, 0), bridge.Permanent, "no folder"},
		"limit too long":    {start(t.Context(), "e", task, 25*time.Hour), bridge.Permanent, "time limit"},
		"negative limit":    {start(t.Context(), "f", task, -1), bridge.Permanent, "time limit"},
		"id that is a path": {start(t.Context(), "../x", task, 0), bridge.Permanent, "order id"},
		"no id":             {start(t.Context(), "", task, 0), bridge.Permanent, "order id"},
		"ended ctx":         {start(ctx, "g", task, 0), bridge.Retry, "not begun"},
	} {
		t.Run(what, func(t *testing.T) { refused(t, c.err, c.class, c.text) })
	}
	if entries, err := os.ReadDir(l.cfg.Dir); err == nil && len(entries) != 0 {
		t.Errorf("refused orders left %v", entries)
	}
	_, err := newLauncher(t, func(c *LauncherConfig) { c.User = "no-such-user" }).Start(t.Context(), "h", task, 0)
	refused(t, err, bridge.Permanent, "no such user")
	_, err = NewLauncher(LauncherConfig{Dir: "x", TimeLimit: -1, CgroupParent: "y"})
	for _, want := range []string{"dir:", "time_limit:", "cgroup_parent:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not mention %s", err, want)
		}
	}
}

func TestWhatTheKernelDoesNotRunIsToldAndNotTriedAgain(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("echo no first line\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	lost := filepath.Join(dir, "lost")
	if err := os.WriteFile(lost, []byte("#!/no/such/interpreter\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{text: "exec format error", lost: "interpreter"} {
		id := order(nil).ID
		_, err := l.Start(t.Context(), id, bridge.StartProcess{ExecutablePath: name}, 0)
		refused(t, err, bridge.Permanent, want)
		_, err = l.Found(id)
		refused(t, err, bridge.Permanent, "was not started")
	}
}

func TestAFileSystemWithoutExecutionIsToldAsSuch(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOEXEC, "mode=755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	name := agenttest.Program(t, "true", "true")
	_, err := newLauncher(t).Start(t.Context(), "o1", bridge.StartProcess{ExecutablePath: agenttest.CopyProgram(t, name, filepath.Join(dir, "p"))}, 0)
	refused(t, err, bridge.Permanent, "does not allow it")
}

func TestProgramsRunAsTheConfiguredUser(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	l := newLauncher(t, func(c *LauncherConfig) { c.User = "nobody" })
	as, err := credential("nobody")
	if err != nil {
		t.Skip("this test needs the user nobody")
	}
	r := started(t, l, bridge.StartProcess{ExecutablePath: "/usr/bin/id", Arguments: "-u"}, 0)
	if e := exits(t, r); e.Code != 0 || strings.TrimSpace(content(t, e.Stdout)) != itoa(int(as.Uid)) {
		t.Errorf("exit = %+v, %q", e, content(t, e.Stdout))
	}
	if len(as.Groups) == 0 || slices.Contains(as.Groups, 0) {
		t.Errorf("supplementary groups = %v", as.Groups)
	}
}

func TestADryRunStartsNothing(t *testing.T) {
	t.Parallel()
	l := newLauncher(t, func(c *LauncherConfig) { c.DryRun = true })
	mark := filepath.Join(t.TempDir(), "mark")
	r, err := l.Start(t.Context(), "o1", bridge.StartProcess{ExecutablePath: script(t, `: > "$1"`), Arguments: mark}, 0)
	if err != nil || !r.Shadow || r.PID != 0 || r.SHA256 == "" {
		t.Fatalf("run = %+v, %v", r, err)
	}
	exits(t, r)
	if _, err := os.Stat(mark); err == nil {
		t.Error("a dry run started the program")
	}
	if _, err := l.Found("o1"); !errors.Is(err, ErrNotStarted) {
		t.Errorf("found = %v", err)
	}
}

func TestAProgramHasAControlGroupOfItsOwn(t *testing.T) {
	root, ok := insideGroup(t)
	if !ok {
		return
	}
	parent := subgroup(t, root, "programs")
	l := newLauncher(t, func(c *LauncherConfig) { c.CgroupParent = parent })
	sleep := agenttest.Program(t, "sleep", "daemon")
	// What begins a session of its own is still in the group.
	task := bridge.StartProcess{ExecutablePath: script(t, `cat /proc/self/cgroup; (setsid "$1" 3600 &); while :; do sleep 0.05; done`), Arguments: sleep}
	r := started(t, l, task, 500*time.Millisecond)
	e := exits(t, r)
	if !e.TimedOut || len(e.Survivors) != 0 || !strings.Contains(content(t, e.Stdout), "/programs/"+groupPrefix+r.OrderID) || len(r.Notes) != 0 {
		t.Errorf("run = %+v, exit = %+v, %q", r, e, content(t, e.Stdout))
	}
	agenttest.Eventually(t, "the daemon is dead", func() bool { return len(running(t, sleep)) == 0 })
	task.ExecutablePath = script(t, `(setsid "$1" 3600 &); exit`)
	if e := exits(t, started(t, l, task, 0)); len(e.Survivors) != 1 {
		t.Errorf("survivors = %v", e.Survivors)
	}
	quick := started(t, l, bridge.StartProcess{ExecutablePath: script(t, "exit")}, 0)
	exits(t, quick)
	if _, err := os.Stat(quick.note.Group); err == nil {
		t.Error("the empty control group is left")
	}
	other := newLauncher(t, func(c *LauncherConfig) { c.CgroupParent = t.TempDir() })
	if r := started(t, other, bridge.StartProcess{ExecutablePath: script(t, "exit")}, 0); len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "version 2") {
		t.Errorf("notes = %v", r.Notes)
	}
}

func FuzzSplitArguments(f *testing.F) {
	for _, s := range []string{`a b`, `"a b" c\ d 'e'`, `\`, `"`, "a\tb\nc", `$(x) ;|&`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		words, err := splitArguments(s)
		if err != nil {
			return
		}
		again, err := splitArguments(shellquote.Join(words...))
		if err != nil || !slices.Equal(words, again) {
			t.Errorf("%q: %q, then %q, %v", s, words, again, err)
		}
	})
}

func TestTheInterpreterOfAScriptIsJudgedLikeAProgram(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	l := newLauncher(t)
	dir := t.TempDir()
	shell := func(name string, change func(file string) error) string {
		file := agenttest.CopyProgram(t, mustLook(t, "dash"), filepath.Join(dir, name))
		if err := change(file); err != nil {
			t.Fatal(err)
		}
		return file
	}
	link := filepath.Join(dir, "link")
	open := shell("open", func(f string) error { return os.Chmod(f, 0o777) })
	foreignLink := filepath.Join(dir, "foreign")
	good := shell("good", func(string) error { return nil })
	if err := errors.Join(os.Symlink(open, link), os.Symlink(good, foreignLink), os.Lchown(foreignLink, 12345, 12345)); err != nil {
		t.Fatal(err)
	}
	for interpreter, text := range map[string]string{
		open: "anybody can write", link + " -e": "anybody can write", foreignLink: "user 12345 owns",
		shell("owned", func(f string) error { return os.Chown(f, 12345, 0) }): "user 12345 owns",
		good: "", "/bin/sh": "", " \t" + good + "\t-e": "",
	} {
		file := agenttest.WriteProgram(t, filepath.Join(t.TempDir(), "script"), []byte("#!"+interpreter+"\nexit\n"))
		_, err := l.Start(t.Context(), order(nil).ID, bridge.StartProcess{ExecutablePath: file}, 0)
		if text == "" {
			if err != nil {
				t.Errorf("%q: %v", interpreter, err)
			}
			continue
		}
		t.Run(filepath.Base(interpreter), func(t *testing.T) { refused(t, err, bridge.Permanent, text) })
	}
}
