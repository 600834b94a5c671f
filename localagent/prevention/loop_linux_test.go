package prevention

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// bench is a listener whose kernel is a pipe: what it answers can be read there.
type bench struct {
	*listener

	t     *testing.T
	out   int
	queue int
}

// newBench has room for queue files to be hashed and for queue matches to be judged, and nobody who does it.
func newBench(t *testing.T, queue int, rules ...bridge.PreventExecution) *bench {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(p[0]); _ = unix.Close(p[1]) })
	cfg, err := Config{State: t.TempDir(), Mode: Block, Protected: unprotected}.checked()
	if err != nil {
		t.Fatal(err)
	}
	g := &group{fd: p[1], asks: true}
	l := &listener{
		cfg: cfg, self: 1_000_001, agent: 1_000_002, exec: g, file: &group{fd: p[1], asks: true}, wake: -1, breaker: breaker{limit: 10},
		hashing: make(chan *flight, queue), judging: make(chan judgement, queue), telling: make(chan telling, queue),
		reports: make(chan Denial, 16), end: make(chan error, 1),
	}
	l.marks = &marks{g: l.file, known: make(map[made][]string)}
	var all []Rule
	for _, task := range rules {
		r, err := newRule("o1", task, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	l.rules.Store(newRuleset(all))
	if err := l.safe.refresh(t.Context(), unprotected); err != nil {
		t.Fatal(err)
	}
	return &bench{l, t, p[0], queue}
}

// asks is the kernel's question about a file with this content, by a process of this number.
func (b *bench) asks(content string, pid int) event {
	b.t.Helper()
	path := filepath.Join(b.t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o700); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Chmod(path, 0o777); err != nil { // not one the kernel is told to ignore
		b.t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	return event{mask: unix.FAN_OPEN_EXEC_PERM, fd: fd, pid: pid, pidfd: -1}
}

// answered returns what was written about the descriptor: 0 nothing, else FAN_ALLOW or FAN_DENY.
func (b *bench) answered(fd int) uint32 {
	b.t.Helper()
	var r [8]byte
	n, err := unix.Read(b.out, r[:])
	if errors.Is(err, unix.EAGAIN) {
		return 0
	}
	if err != nil || n != 8 || int(binary.NativeEndian.Uint32(r[:])) != fd {
		b.t.Fatalf("the answer is %v of %d bytes, %v", r, n, err)
	}
	return binary.NativeEndian.Uint32(r[4:])
}

func (b *bench) reported(o Outcome) Denial {
	b.t.Helper()
	select {
	case d := <-b.reports:
		if d.Outcome != o {
			b.t.Errorf("reported %+v, want %s", d, o)
		}
		return d
	default:
		b.t.Errorf("nothing was reported, want %s", o)
		return Denial{}
	}
}

// evilMD5 is the digest of "evil".
const evilMD5 = "4034a346ccee15292d823416f7510a2f"

func TestProcessOneTheAgentAndTheListenerAreNeverAsked(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0, bridge.PreventExecution{Hash: evilMD5})
	for _, pid := range []int{1, b.self, b.agent} {
		e := b.asks("evil", pid)
		b.handle(b.exec, e)
		if got := b.answered(e.fd); got != unix.FAN_ALLOW {
			t.Errorf("pid %d was answered %d", pid, got)
		}
	}
	if len(b.waiting)+len(b.reports) > 0 {
		t.Errorf("%d wait, %d are reported", len(b.waiting), len(b.reports))
	}
}

func TestWhenEverybodyIsBusyAFileNobodyKnowsGoesOnAndIsReported(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0, bridge.PreventExecution{Hash: evilMD5})
	e := b.asks("evil", 7)
	b.handle(b.exec, e)
	if got := b.answered(e.fd); got != unix.FAN_ALLOW {
		t.Errorf("answered %d", got)
	}
	if d := b.reported(Undecided); d.Why == "" || d.Caller.PID != 7 {
		t.Errorf("the report is %+v", d)
	}
	if b.counters.busy.Load() != 1 {
		t.Errorf("busy is %d", b.counters.busy.Load())
	}
}

func TestWhenEverybodyIsBusyWhatWasDeniedBeforeIsDeniedAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0, bridge.PreventExecution{Hash: evilMD5})
	for _, want := range []uint32{unix.FAN_ALLOW, unix.FAN_DENY} {
		e := b.asks("evil", 7)
		file, err := look(e.fd)
		if err != nil {
			t.Fatal(err)
		}
		b.known.put(file.Key, files.Digests{MD5: evilMD5})
		if want == unix.FAN_DENY {
			b.safe.clear(file.ID, b.rules.Load().rules[0].ID)
		}
		b.handle(b.exec, e)
		if got := b.answered(e.fd); got != want {
			t.Errorf("answered %d, want %d", got, want)
		}
	}
	b.reported(Undecided)
	b.reported(Denied)
}

func TestTheDeadlineLetsGoUnlessTheFileMustNot(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4, bridge.PreventExecution{Hash: evilMD5})
	unknown, cleared := b.asks("unknown", 7), b.asks("evil", 8)
	b.handle(b.exec, unknown)
	b.handle(b.exec, cleared)
	if len(b.waiting) != 2 || b.answered(unknown.fd) != 0 {
		t.Fatalf("%d wait", len(b.waiting))
	}
	b.waiting[1].cleared.Store(true)
	now := time.Now()
	if b.expire(now); len(b.waiting) != 2 {
		t.Errorf("before the deadline %d wait", len(b.waiting))
	}
	b.expire(now.Add(time.Minute))
	if got := b.answered(unknown.fd); got != unix.FAN_ALLOW {
		t.Errorf("unknown: answered %d", got)
	}
	if got := b.answered(cleared.fd); got != unix.FAN_DENY {
		t.Errorf("cleared: answered %d", got)
	}
	b.reported(Undecided)
	if len(b.waiting) != 0 || b.counters.timeouts.Load() != 1 {
		t.Errorf("%d wait, %d timeouts", len(b.waiting), b.counters.timeouts.Load())
	}
	// The workers come late: nothing is answered twice.
	for range 2 {
		b.hash(t.Context(), <-b.hashing)
	}
	if got := b.answered(0); got != 0 {
		t.Errorf("answered again: %d", got)
	}
}

func TestAFileIsHashedOnceForAllWhoWait(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4, bridge.PreventExecution{Hash: evilMD5})
	first := b.asks("good", 7)
	second, err := unix.FcntlInt(uintptr(first.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	b.handle(b.exec, first)
	b.handle(b.exec, event{mask: unix.FAN_OPEN_EXEC_PERM, fd: second, pid: 8, pidfd: -1})
	if len(b.hashing) != 1 {
		t.Fatalf("%d hashings", len(b.hashing))
	}
	b.hash(t.Context(), <-b.hashing)
	if b.answered(first.fd) != unix.FAN_ALLOW || b.answered(second) != unix.FAN_ALLOW {
		t.Error("not all who waited were answered")
	}
}

func TestWhoWasAnsweredHoldsNoDescriptors(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4, bridge.PreventExecution{Hash: evilMD5})
	first := b.asks("unknown", 7)
	var fds []int
	ask := func() {
		fd, err := unix.FcntlInt(uintptr(first.fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, fd)
		b.handle(b.exec, event{mask: unix.FAN_OPEN_EXEC_PERM, fd: fd, pid: 8, pidfd: -1})
	}
	open := func() (n int) {
		for _, p := range fds {
			if _, err := unix.FcntlInt(uintptr(p), unix.F_GETFD, 0); err == nil {
				n++
			}
		}
		return n
	}
	riders := func() (n int) {
		for _, fl := range b.flights.under {
			n += len(fl.riders)
		}
		return n
	}
	for range 8 {
		ask()
	}
	late := time.Now().Add(time.Minute)
	if b.expire(late); riders() != 0 || len(b.hashing) != 1 {
		t.Errorf("%d ride, %d are to be hashed", riders(), len(b.hashing))
	}
	if open() != 0 && !t.Failed() { // another test may have been given a number since
		t.Logf("%d numbers are in use again", open())
	}
	ask() // takes the flight nobody waits for
	ask()
	fl := <-b.hashing
	if lent := b.flights.begin(fl); lent == nil || riders() != 2 {
		t.Fatalf("%d ride", riders())
	}
	if b.expire(late); riders() != 1 {
		t.Errorf("%d ride, want the one whose descriptor is read", riders())
	}
	for _, p := range b.flights.land(fl) {
		b.landed(p, files.Digests{MD5: md5Of}, nil)
	}
	// Nobody rides a flight to its end.
	ask()
	b.expire(late)
	if b.hash(t.Context(), <-b.hashing); len(b.flights.under) != 0 {
		t.Errorf("%d flights are left", len(b.flights.under))
	}
}

func TestAReloadAnswersForTheRuleThatCameAlone(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0, bridge.PreventExecution{Path: "/a/one"}, bridge.PreventExecution{Path: "/b/two"}, bridge.PreventExecution{Path: "/c/three"})
	set := b.rules.Load()
	failed := map[string]error{"/a/one": unix.ENOSPC, "/b": unix.EMFILE}
	for i, want := range []error{unix.ENOSPC, unix.EMFILE, nil} {
		if err := b.missing(set, set.rules[i].ID, failed); !errors.Is(err, want) {
			t.Errorf("rule %d: %v, want %v", i, err, want)
		}
	}
	if err := b.missing(set, "", failed); err != nil {
		t.Errorf("nobody waits: %v", err)
	}
}

func TestAStatusThatIsTooLongIsToldWithoutItsLists(t *testing.T) {
	t.Parallel()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	here, there := os.NewFile(uintptr(pair[0]), "here"), os.NewFile(uintptr(pair[1]), "there")
	t.Cleanup(func() { _ = here.Close(); _ = there.Close() })
	if err := sendStatus(here, say{Seq: 7, Status: &Status{PID: 1, Filesystems: []string{strings.Repeat("a", maxPacket)}}}); err != nil {
		t.Fatal(err)
	}
	var got say
	if err := receive(there, make([]byte, maxPacket), &got); err != nil || got.Seq != 7 || got.Status == nil || got.Status.PID != 1 || len(got.Status.Skipped) != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
	// What a full status may hold has room.
	s := Status{LastError: cut(strings.Repeat("\"", maxPacket), maxErrText)}
	for range maxListed {
		text := shownShort(strings.Repeat("\x01<&\"", 2000))
		s.Filesystems, s.Skipped = append(s.Filesystems, text), append(s.Skipped, text+" ("+text+"): "+text)
	}
	if err := send(here, say{Status: &s}); err != nil {
		t.Error(err)
	}
}

func TestTheKernelIsToldToStartWithoutPrevention(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		"": false, "quiet edr_bridge.prevention=off ro\n": true, "edr_bridge.prevention=off": true,
		"edr_bridge.prevention=on": false, "xedr_bridge.prevention=off": false, "edr_bridge.prevention=offx": false,
	} {
		if got := hasBootWord(line); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}

func TestNoMoreThanTheLimitWait(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2*maxPending, bridge.PreventExecution{Hash: evilMD5})
	for i := range maxPending + 1 {
		e := b.asks("file", 7)
		b.handle(b.exec, e)
		if got := b.answered(e.fd); (got != 0) != (i == maxPending) {
			t.Fatalf("question %d: answered %d", i, got)
		}
	}
}

func TestRulesFindFilesByAllThatIsGiven(t *testing.T) {
	t.Parallel()
	var rules []Rule
	for _, task := range []bridge.PreventExecution{
		{Hash: md5Of}, {Path: "/a/exact", CaseSensitive: true}, {Path: "/a/Any"}, {Path: "/a/both", Hash: sha256Of, CaseSensitive: true},
	} {
		r, err := newRule("o1", task, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r)
	}
	s := newRuleset(rules)
	const none, all = "none", "all"
	for _, c := range []struct {
		path, md5, sha256 string
		want              int
		needs             string
	}{
		{"/x", "", "", -1, "md5"},
		{"/x", md5Of, "", 0, ""},
		{"/x", evilMD5, "", -1, ""},
		{"/a/exact", "", "", 1, ""},
		{"/a/EXACT", evilMD5, "", -1, ""},
		{"/A/any", "", "", 2, ""},
		{"/a/both", "", "", -1, all},
		{"/a/both", evilMD5, "", -1, "sha256"},
		{"/a/both", evilMD5, sha256Of, 3, ""},
		{"/a/both", evilMD5, strings.Repeat("b", 64), -1, ""},
		{"/x", evilMD5, sha256Of, -1, ""},
	} {
		got, md5, sha := s.find(s.named(nil, c.path), files.Digests{MD5: c.md5, SHA256: c.sha256})
		needs := map[[2]bool]string{{true, false}: "md5", {false, true}: "sha256", {true, true}: all}[[2]bool{md5, sha}]
		if got != c.want || needs != c.needs {
			t.Errorf("%s %.4s %.4s: rule %d needs %q, want %d and %q", c.path, c.md5, c.sha256, got, needs, c.want, c.needs)
		}
	}
}

func TestDigestsAreForgottenWhenThereAreTooMany(t *testing.T) {
	t.Parallel()
	var d digests
	for i := range maxKnown + 10 {
		d.put(files.Key{ID: files.ID{Ino: uint64(i)}}, files.Digests{MD5: md5Of})
	}
	if n := d.len(); n > maxKnown || n < maxKnown/2 {
		t.Errorf("%d are known", n)
	}
	k := files.Key{ID: files.ID{Ino: 1 << 40}}
	d.put(k, files.Digests{MD5: md5Of})
	if got := d.put(k, files.Digests{SHA256: sha256Of}); got != d.get(k) || got.MD5 != md5Of || got.SHA256 != sha256Of {
		t.Errorf("got %+v", got)
	}
}

func TestA13RulesOthersCanWriteAreNotBelieved(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(state string) error{
		"file":   func(s string) error { return os.Chmod(filepath.Join(s, rulesFile), 0o666) },
		"folder": func(s string) error { return os.Chmod(s, 0o777) },
		"link": func(s string) error {
			path := filepath.Join(s, rulesFile)
			return errors.Join(os.Rename(path, path+"2"), os.Symlink(path+"2", path))
		},
	} {
		g := newGuard(t, nil)
		if err := g.save(someRules(t, 1)); err != nil {
			t.Fatal(err)
		}
		if st, err := os.Stat(filepath.Join(g.cfg.State, rulesFile)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("rules.json has %v, %v", st, err)
		}
		if rules, err := g.Rules(t.Context()); err != nil || len(rules) != 1 {
			t.Fatalf("before: %v, %v", rules, err)
		}
		if err := spoil(g.cfg.State); err != nil {
			t.Fatal(err)
		}
		if rules, err := g.Rules(t.Context()); err == nil {
			t.Errorf("%s: %v was believed", name, rules)
		}
	}
}

func TestPathsOfLinksAndFoldersAreRefused(t *testing.T) {
	t.Parallel()
	g := newGuard(t, func(c *Config) { c.DryRun = true })
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "real"), 0o700), os.Symlink("real", filepath.Join(dir, "folder")),
		os.WriteFile(filepath.Join(dir, "real/file"), nil, 0o700), os.Symlink("real/file", filepath.Join(dir, "link")),
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"link": "real/file", "real": "is a folder", "fifo": "no regular file"} {
		if _, err := g.Add(t.Context(), "o1", bridge.PreventExecution{Path: filepath.Join(dir, name)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	got, err := g.Add(t.Context(), "o1", bridge.PreventExecution{Path: filepath.Join(dir, "folder/file")})
	if err != nil || !strings.Contains(got.Detail, filepath.Join(dir, "real/file")) {
		t.Errorf("through a linked folder: %+v, %v", got, err)
	}
}

func TestOneStateFolderHasOneGuard(t *testing.T) {
	t.Parallel()
	g := newGuard(t, nil)
	if err := g.save(someRules(t, 1)); err != nil {
		t.Fatal(err)
	}
	lock, err := g.lock()
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	if err := g.Run(t.Context()); !errors.Is(err, files.ErrLocked) {
		t.Errorf("run: %v", err)
	}
	if err := g.Remove(t.Context(), "p"); !errors.Is(err, files.ErrLocked) {
		t.Errorf("remove: %v", err)
	}
}

func TestRunSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	g := newGuard(t, nil)
	if err := g.Run(t.Context()); err == nil || os.Geteuid() == 0 && !strings.Contains(err.Error(), "listener") {
		t.Errorf("run without a command: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	g = newGuard(t, func(c *Config) { c.Listener = []string{"/nonexistent/program"} })
	if os.Geteuid() != 0 {
		return
	}
	if err := g.Run(ctx); err != nil {
		t.Errorf("run: %v", err)
	}
	if s, err := g.Status(t.Context()); err != nil || s.Running || s.Restarts == 0 || !strings.Contains(s.LastError, "/nonexistent/program") {
		t.Errorf("status: %+v, %v", s, err)
	}
}
