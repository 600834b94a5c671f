package prevention

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
	"github.com/edr-bridge/edr-bridge/localagent/files"
)

func TestTheBreakerStopsARuleThatHitsTooManyDifferentFiles(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	r := newRig(t, func(s *settings) { s.Breaker = 3 })
	other, at := r.program("other"), filepath.Join(r.dir, "at")
	r.add(bridge.PreventExecution{Hash: sumOf(t, other).SHA256})
	rule := r.add(bridge.PreventExecution{Path: at})
	var copies, files, different []string
	for i := range 6 {
		copies = append(copies, r.copyOf(other, fmt.Sprintf("copy%d", i)))
		different = append(different, r.script(fmt.Sprintf("different%d", i)))
	}
	for i := range 8 {
		p := r.script(fmt.Sprintf("file%d", i))
		r.add(bridge.PreventExecution{Path: p})
		files = append(files, p)
	}
	const count = " && n=$((n+1)); done 2>/dev/null; exit $n"
	if got := r.sh("n=0; for p in " + strings.Join(copies, " ") + "; do $p" + count); got != 0 {
		t.Errorf("%d of 6 copies of one file went on", got)
	}
	if got := r.sh("n=0; for p in " + strings.Join(files, " ") + "; do cat $p >/dev/null" + count); got != 0 {
		t.Errorf("%d of 8 files with rules of their own could be read", got)
	}
	if s := r.status(); s.Breaker != "" {
		t.Fatalf("the breaker says %q", s.Breaker)
	}
	if got := r.sh("n=0; for p in " + strings.Join(different, " ") + "; do mv -f $p " + at + "; " + at + count); got != 3 {
		t.Errorf("%d of 6 different files went on, want 3", got)
	}
	d := r.told("that the rule is stopped", func(d Denial) bool { return d.Outcome == Broken })
	if s := r.status(); !strings.Contains(s.Breaker, "3 different files") || !strings.Contains(s.Breaker, rule.Ref) || d.Rule != rule.Ref || !strings.Contains(s.Breaker, d.Why) {
		t.Errorf("the breaker says %q, the report %+v", s.Breaker, d)
	}
	if _, err := r.Add(t.Context(), "o2", bridge.PreventExecution{Path: at}); err == nil || !strings.Contains(err.Error(), "resume") {
		t.Errorf("the rule sent again: %v", err)
	}
	r.add(bridge.PreventExecution{Path: filepath.Join(r.dir, "yet another")})
	check := func(when string, want int) {
		t.Helper()
		if got := r.sh(at); got != want {
			t.Errorf("%s: exit %d, want %d", when, got, want)
		}
		if got := r.sh(other); got != notAllowed {
			t.Errorf("%s, another rule: exit %d, want %d", when, got, notAllowed)
		}
	}
	check("stopped", runs)
	first := r.status().PID
	if err := unix.Kill(first, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	agenttest.Eventually(t, "another listener runs", func() bool { s := r.status(); return s.Running && s.PID != first })
	check("after a restart of the listener", runs)
	if err := r.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("after resume", notAllowed)
}

func TestARuleTheBreakerStoppedStaysSoOverARestartOfTheAgent(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	r := prepareRig(t, func(s *settings) { s.Breaker = 1 })
	stop := r.start()
	at := filepath.Join(r.dir, "at")
	rule := r.add(bridge.PreventExecution{Path: at})
	one, two := r.script("one"), r.script("two")
	r.sh("mv " + one + " " + at + "; " + at + "; mv " + two + " " + at + "; " + at)
	r.told("that the rule is stopped", func(d Denial) bool { return d.Outcome == Broken })
	stop()
	r.renew()
	stop = r.start()
	if got := r.sh(at); got != runs || !strings.Contains(r.status().Breaker, rule.Ref) {
		t.Errorf("after a restart of the agent: exit %d, %q", got, r.status().Breaker)
	}
	// Whoever takes the rule away and gives it again means it.
	if err := r.Remove(t.Context(), rule.Ref); err != nil {
		t.Fatal(err)
	}
	r.add(bridge.PreventExecution{Path: at})
	if got := r.sh(at); got != notAllowed {
		t.Errorf("given again: exit %d, want %d", got, notAllowed)
	}
	stop()
	if err := os.WriteFile(filepath.Join(r.set.State, breakerFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := breaker{state: r.set.State}
	if err := b.load(); err == nil || !strings.Contains(err.Error(), breakerFile) {
		t.Errorf("damaged: %v", err)
	}
}

func TestBreakerCountsDifferentFilesARuleHitsWithinASecond(t *testing.T) {
	t.Parallel()
	b := breaker{limit: 2}
	now := time.Now()
	for i, c := range []struct {
		rule        string
		ino         uint64
		sum         string
		at          time.Duration
		ok, tripped bool
	}{
		{"a", 1, "", 0, true, false},
		{"a", 1, "", 0, true, false},
		{"a", 2, "x", 0, true, false},
		{"a", 9, "x", 0, true, false},
		{"b", 3, "", 0, true, false},
		{"a", 1, "", 900 * time.Millisecond, true, false},
		{"a", 3, "", 1100 * time.Millisecond, true, false},
		{"a", 4, "", 1200 * time.Millisecond, true, false},
		{"a", 5, "", 1300 * time.Millisecond, false, true},
		{"a", 1, "", time.Hour, false, false},
		{"b", 1, "", time.Hour, true, false},
	} {
		ok, tripped := b.count(c.rule, files.ID{Ino: c.ino}, c.sum, now.Add(c.at))
		if ok != c.ok || tripped != c.tripped {
			t.Errorf("step %d: %v, %v, want %v, %v", i, ok, tripped, c.ok, c.tripped)
		}
	}
}

func TestWhoOnlyOpensFilesDoesNotTripTheBreaker(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0, bridge.PreventExecution{Path: "/a/one"})
	r := &b.rules.Load().rules[0]
	for i := range 100 {
		p := &pending{l: b.listener, g: b.exec, fd: -1, open: true, file: seen{Key: files.Key{ID: files.ID{Ino: uint64(i)}}}}
		if !b.mayDeny(p, r, files.Digests{}) {
			t.Fatalf("open %d may not be denied: %s", i, b.breaker.text())
		}
	}
}
