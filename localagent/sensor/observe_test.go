package sensor

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestAlertSaysWhoStartedWhat(t *testing.T) {
	t.Parallel()
	o := observe(t, Config{Host: "ws1"})
	o.w.run(1, 0, 1, "/sbin/init")
	o.w.run(10, 1, 5, "/opt/office/WINWORD.EXE")
	if err := o.seed(); err != nil {
		t.Fatal(err)
	}
	o.forked(10, 11)
	o.w.run(11, 10, 9, "/usr/bin/PowerShell.exe", "powershell.exe", "-enc", "AAAA")
	o.executed(11, 9)
	d := o.one(t)
	sum := sha256.Sum256([]byte("/usr/bin/PowerShell.exe"))
	if d.Level != "HIGH" || d.Rule != "office-starts-shell" || d.Host != "ws1" || d.ActionablePID != 11 || d.PID != 11 || d.StartTicks != 9 ||
		d.Exe != "/usr/bin/PowerShell.exe" || d.SHA256 != hex.EncodeToString(sum[:]) || d.PPID != 10 || d.ParentTicks != 5 ||
		d.ParentExe != "/opt/office/WINWORD.EXE" || d.Cmdline != "powershell.exe -enc AAAA" ||
		d.Details != "command line: powershell.exe -enc AAAA" || d.Exited || d.InPlace || len(d.ID) != alertIDLength {
		t.Errorf("alert %+v", d)
	}
	if want := "parent 'WINWORD.EXE' (PID 10) started 'PowerShell.exe' (PID 11)"; d.Description != want {
		t.Errorf("description %q, want %q", d.Description, want)
	}
	if want := []parent{{PID: 10, Exe: "/opt/office/WINWORD.EXE"}, {PID: 1, Exe: "/sbin/init"}}; !slices.Equal(d.Parents, want) {
		t.Errorf("parents %+v, want %+v", d.Parents, want)
	}
}

func TestTrueParentSurvivesReparenting(t *testing.T) {
	t.Parallel()
	o := observe(t, Config{})
	o.w.run(1, 0, 1, "/sbin/init")
	o.w.run(10, 1, 5, "/usr/sbin/nginx")
	if err := o.seed(); err != nil {
		t.Fatal(err)
	}
	o.forked(10, 11) // forks once more and ends, so that the grandchild belongs to init
	o.forked(11, 12)
	o.table.end(11)
	o.w.run(12, 1, 9, "/usr/bin/dash", "sh", "-c", "id")
	o.executed(12, 9)
	d := o.one(t)
	if d.Rule != "web-server-starts-shell" || d.PPID != 11 || d.ParentExe != "/usr/sbin/nginx" || d.Cmdline != "sh -c id" {
		t.Errorf("alert %+v", d)
	}
	if pids := []int{d.Parents[0].PID, d.Parents[1].PID, d.Parents[2].PID}; !slices.Equal(pids, []int{11, 10, 1}) {
		t.Errorf("ancestors %v", pids)
	}
}

func TestParentThatRunsAnotherProgramLaterIsWhatItWasAtTheFork(t *testing.T) {
	t.Parallel()
	o := observe(t, Config{})
	o.w.run(10, 0, 5, "/usr/sbin/nginx")
	_ = o.seed()
	o.forked(10, 11)
	o.w.run(10, 0, 5, "/usr/bin/sleep")
	o.executed(10, 7)
	o.none(t)
	o.w.run(11, 10, 9, "/usr/bin/dash", "sh")
	o.executed(11, 9)
	if d := o.one(t); d.ParentExe != "/usr/sbin/nginx" || d.Parents[0].Exe != "/usr/sbin/nginx" {
		t.Errorf("alert %+v", d)
	}
}

func TestServerThatBecomesAShellIsSeenWithoutAChild(t *testing.T) {
	t.Parallel()
	o := observe(t, Config{})
	o.w.run(1, 0, 1, "/sbin/init")
	o.w.run(10, 1, 5, "/usr/bin/redis-server")
	_ = o.seed()
	o.w.run(10, 1, 5, "/usr/bin/env", "env", "timeout")
	o.executed(10, 6)
	o.w.run(10, 1, 5, "/usr/bin/nice")
	o.executed(10, 7)
	o.none(t)
	o.w.run(10, 1, 5, "/usr/bin/dash", "sh", "-i")
	o.executed(10, 8)
	if d := o.one(t); d.Rule != "database-starts-shell" || !d.InPlace || d.PPID != 1 || d.ActionablePID != 10 {
		t.Errorf("alert %+v", d)
	}
}

func TestNumberGivenToAnotherProcessIsNotActedOn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*observing)
	}{
		{"a later process has it", func(o *observing) { o.w.run(11, 10, 99, "/usr/bin/dash", "sh") }},
		{"nobody has it", func(o *observing) { delete(o.w.processes, 11) }},
		{"it has ended and nobody asked", func(o *observing) { o.w.processes[11].dead, o.w.processes[11].unread = true, true }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := observe(t, Config{})
			o.w.run(10, 0, 5, "/usr/sbin/nginx")
			_ = o.seed()
			o.forked(10, 11)
			o.w.run(11, 10, 9, "/usr/bin/dash", "sh")
			tt.change(o)
			o.executed(11, 9)
			d := o.one(t)
			if !d.Exited || d.ActionablePID != 0 || d.StartTicks != 0 || d.SHA256 != "" || d.Cmdline != "" || d.PID != 11 {
				t.Errorf("alert %+v", d)
			}
		})
	}
}

func TestProgramThatGoesOnToAnotherIsNotGivenItsDigest(t *testing.T) {
	t.Parallel()
	o := observe(t, Config{})
	o.w.run(10, 0, 5, "/usr/sbin/nginx")
	_ = o.seed()
	o.forked(10, 11)
	o.w.run(11, 10, 9, "/usr/bin/dash", "sh")
	o.world = &fickle{fakeWorld: o.w, path: "/usr/bin/id"}
	o.executed(11, 9)
	d := o.one(t)
	if d.Exe != "/usr/bin/dash" || d.SHA256 != "" || d.Cmdline != "" || d.ActionablePID != 11 || d.StartTicks != 9 {
		t.Errorf("alert %+v", d)
	}
}

// fickle runs another program from the second look on.
type fickle struct {
	*fakeWorld
	looks int
	path  string
}

func (f *fickle) image(pid int) (string, bool, error) {
	if f.looks++; f.looks > 1 {
		return f.path, false, nil
	}
	return f.fakeWorld.image(pid)
}

func TestChildTooShortToBeSeen(t *testing.T) {
	t.Parallel()
	rules := []Rule{
		{Name: "strict", Level: LevelHigh, Title: "t", Parents: []string{"nginx"}, Children: []string{"sh"}},
		{Name: "lenient", Level: LevelHigh, Title: "t", Parents: []string{"java"}, Children: []string{"sh"}, IgnoreUnseen: true},
		{Name: "line", Level: LevelHigh, Title: "t", Parents: []string{"perl"}, Children: []string{"sh"}, CommandLine: []string{"x"}},
	}
	for _, tt := range []struct{ parent, want string }{
		{"/usr/sbin/nginx", "strict"}, {"/usr/bin/java", ""}, {"/usr/bin/perl", ""}, {"/usr/bin/make", ""},
	} {
		o := observe(t, Config{Rules: rules})
		o.w.run(10, 0, 5, tt.parent)
		_ = o.seed()
		o.forked(10, 11)
		o.executed(11, 9)
		if tt.want == "" {
			o.none(t)
			continue
		}
		d := o.one(t)
		if d.Rule != tt.want || !d.Exited || d.Exe != "" || d.ActionablePID != 0 || d.ParentExe != tt.parent {
			t.Errorf("%s: alert %+v", tt.parent, d)
		}
	}
}

func TestChildWhosePathCannotBeReadIsAlertedWhileItLives(t *testing.T) {
	t.Parallel()
	rules := []Rule{
		{Name: "lenient", Level: LevelHigh, Title: "t", Parents: []string{"java"}, Children: []string{"sh"}, IgnoreUnseen: true},
		{Name: "line", Level: LevelHigh, Title: "t", Parents: []string{"perl"}, Children: []string{"sh"}, CommandLine: []string{"-c id"}},
	}
	for _, parent := range []string{"/usr/bin/java", "/usr/bin/perl"} {
		o := observe(t, Config{Rules: rules})
		o.w.run(10, 0, 5, parent)
		_ = o.seed()
		o.forked(10, 11)
		o.w.run(11, 10, 9, "/d/d/innocent", "x", "-c", "id")
		o.w.processes[11].long = true
		o.executed(11, 9)
		d := o.one(t)
		if d.Exited || d.ActionablePID != 11 || d.StartTicks != 9 || len(d.SHA256) != 64 || d.Cmdline != "x -c id" || d.Exe != "" ||
			!strings.Contains(d.Description, "a program that calls itself 'innocent' and whose path cannot be read") {
			t.Errorf("%s: alert %+v", parent, d)
		}
	}
}

func TestPathThatCannotBeReadIsNoGapOfPollingAndTheBaseline(t *testing.T) {
	t.Parallel()
	o := observe(t, Config{Rules: []Rule{}, Baseline: Baseline{Enabled: true, Learn: 1, Observations: 1, Score: 0.5}})
	o.w.run(10, 0, 5, "/usr/sbin/cron")
	_ = o.seed()
	for pid := 100; pid < 110; pid++ {
		o.child(10, pid, "/usr/bin/dash")
	}
	o.s.known.ran(1)
	o.w.run(11, 10, 9, "/usr/sbin/cron")
	_ = o.rescan()
	o.none(t)
	o.w.run(11, 10, 9, "/d/d/x")
	o.w.processes[11].long = true
	for range 2 {
		_ = o.rescan()
	}
	if d := o.one(t); d.Rule != RuleBaseline || d.ActionablePID != 11 {
		t.Errorf("alert %+v", d)
	}
}

func TestNameAProcessGivesItselfClearsNobody(t *testing.T) {
	t.Parallel()
	o := observe(t, Config{})
	o.w.run(10, 0, 5, "/usr/sbin/nginx")
	_ = o.seed()
	o.forked(10, 11)
	o.w.run(11, 10, 9, "/usr/bin/dash")
	o.w.processes[11].name, o.w.processes[11].unread, o.w.processes[11].dead = "innocent", true, true
	o.executed(11, 9)
	if d := o.one(t); !d.Exited || d.Description != "parent 'nginx' (PID 10) started a program that called itself 'innocent' and ended "+
		"before it could be read (PID 11)" {
		t.Errorf("alert %+v", d)
	}
}

func TestOwnDescendantsMakeNoAlert(t *testing.T) {
	t.Parallel()
	o := observe(t, Config{Self: 10})
	o.w.run(10, 0, 5, "/usr/sbin/nginx")
	o.w.run(20, 0, 5, "/usr/sbin/nginx")
	_ = o.seed()
	o.forked(10, 11)
	o.forked(11, 12)
	o.table.end(11)
	o.w.run(12, 1, 9, "/usr/bin/dash", "sh")
	o.executed(12, 9)
	o.none(t)
	o.forked(20, 21)
	o.w.run(21, 20, 9, "/usr/bin/dash", "sh")
	o.executed(21, 9)
	o.one(t)
}

func TestDescendantsOfAnotherAgentMakeNoAlert(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(agent *fakeProcess)
		alerts int
	}{
		"root runs the same file":         {func(*fakeProcess) {}, 0},
		"somebody else does, or not that": {func(agent *fakeProcess) { agent.uid = 1000 }, 1},
		"a file of another path":          {func(agent *fakeProcess) { agent.path = "/tmp/edr-bridge" }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := observe(t, Config{Self: 99})
			o.w.run(10, 1, 5, "/usr/bin/edr-bridge")
			tt.change(o.w.processes[10])
			_ = o.seed()
			o.child(10, 11, "/usr/sbin/nginx")
			o.child(11, 12, "/usr/bin/dash", "sh")
			if n := len(o.alerts()); n != tt.alerts {
				t.Errorf("%d alerts, want %d", n, tt.alerts)
			}
		})
	}
}

func TestIgnoredProcessMakesNoAlert(t *testing.T) {
	t.Parallel()
	o := observe(t, Config{Ignore: func(pid int) bool { return pid == 11 }})
	o.w.run(10, 0, 5, "/usr/sbin/nginx")
	_ = o.seed()
	for _, pid := range []int{11, 12} {
		o.forked(10, pid)
		o.w.run(pid, 10, 9, "/usr/bin/bash", "bash", strconv.Itoa(pid))
		o.executed(pid, 9)
	}
	if d := o.one(t); d.PID != 12 {
		t.Errorf("alert %+v", d)
	}
}

func TestProcessWhoseBirthWasNotSeenHasTheParentOfTheSystem(t *testing.T) {
	t.Parallel()
	o := observe(t, Config{})
	o.w.run(1, 0, 1, "/sbin/init")
	o.w.run(10, 1, 5, "/usr/sbin/nginx")
	o.w.run(11, 10, 9, "/usr/bin/dash", "sh")
	o.executed(11, 9)
	if d := o.one(t); d.PPID != 10 || d.ParentExe != "/usr/sbin/nginx" || len(d.Parents) != 2 {
		t.Errorf("alert %+v", d)
	}
}

func TestListOfProcessesFindsWhatEventsDidNotTell(t *testing.T) {
	t.Parallel()
	o := observe(t, Config{Dedupe: -1})
	o.w.run(1, 0, 1, "/sbin/init")
	o.w.run(10, 1, 5, "/usr/sbin/nginx")
	o.w.run(11, 10, 6, "/usr/sbin/nginx") // a worker
	_ = o.seed()
	rescan := func() {
		t.Helper()
		if err := o.rescan(); err != nil {
			t.Fatal(err)
		}
	}
	rescan()
	o.none(t)
	o.w.run(12, 11, 9, "/usr/bin/dash", "sh") // born and begun meanwhile
	rescan()
	if d := o.one(t); d.PID != 12 || d.PPID != 11 {
		t.Errorf("alert %+v", d)
	}
	o.w.run(11, 10, 6, "/usr/bin/bash", "bash") // runs another program
	rescan()
	if d := o.one(t); d.PID != 11 || d.PPID != 10 || d.InPlace {
		t.Errorf("alert %+v", d)
	}
	o.w.run(12, 10, 20, "/usr/bin/perl", "perl", "x.pl") // another process with that number
	rescan()
	if d := o.one(t); d.PID != 12 || d.StartTicks != 20 || d.Exe != "/usr/bin/perl" {
		t.Errorf("alert %+v", d)
	}
	rescan()
	o.none(t)
	delete(o.w.processes, 12)
	rescan()
	if o.table.known[12] != nil {
		t.Error("a process that is gone is still in the table")
	}
}

func TestUserOfAlertIsTheOneAfterTheChange(t *testing.T) {
	t.Parallel()
	o := observe(t, Config{})
	o.w.run(10, 0, 5, "/usr/sbin/nginx")
	_ = o.seed()
	o.forked(10, 11)
	o.changedUser(11, 33)
	o.executed(11, 9) // gone: only the event told its user
	if d := o.one(t); d.UID == nil || *d.UID != 33 {
		t.Errorf("alert %+v", d)
	}
}

func TestTableStaysBounded(t *testing.T) {
	t.Parallel()
	tb := newTable(0)
	tb.fork(nil, 1)
	for pid := 2; pid < 3*maxEnded; pid++ { // every process forks one and ends
		tb.fork(tb.known[pid-1], pid)
		tb.end(pid - 1)
	}
	if n := len(tb.known); n > maxEnded+1 {
		t.Errorf("%d processes known, want at most %d", n, maxEnded+1)
	}
	last := tb.known[3*maxEnded-1]
	if n := len(last.ancestors(1 << 20)); n > maxAncestors || n < maxAncestors/2 {
		t.Errorf("%d ancestors kept, want %d at most and not far less", n, maxAncestors)
	}
	for pid := range maxProcesses + 100 {
		tb.fork(nil, 100_000+pid)
	}
	if n := len(tb.known); n > maxProcesses {
		t.Errorf("%d processes known, want at most %d", n, maxProcesses)
	}
}

func TestProcessWhoseFirstThreadHasEndedKeepsItsChildren(t *testing.T) {
	t.Parallel()
	o := observe(t, Config{})
	o.w.run(10, 0, 5, "/usr/sbin/nginx")
	_ = o.seed()
	o.w.processes[10].unread = true
	o.table.end(10)
	o.forked(10, 11)
	o.w.run(11, 10, 9, "/usr/bin/dash", "sh")
	o.executed(11, 9)
	if d := o.one(t); d.ParentExe != "/usr/sbin/nginx" {
		t.Errorf("alert %+v", d)
	}
}
