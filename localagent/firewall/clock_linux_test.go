package firewall

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

// wantLeft wants that the kernel ends the isolation after about that long.
func wantLeft(t *testing.T, what string, want time.Duration) {
	t.Helper()
	st, err := glance()
	if err != nil || !st.ends(want) {
		t.Errorf("%s: on %v, permanent %v, %s left, %v; want %s", what, st.on, st.permanent, st.left, err, want)
	}
}

func look(t *testing.T, w *Firewall) {
	t.Helper()
	g := guard{w: w}
	if _, err := g.look(t.Context()); err != nil {
		t.Errorf("look: %v", err)
	}
}

func TestAClockThatIsBehindDoesNotLengthenAnIsolation(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	_ = cable(t)
	boot, up := "first", time.Hour
	dir := t.TempDir()
	config := func(cfg *Config) { cfg.State = dir }
	behind := func(cfg *Config) {
		cfg.State = dir
		cfg.Now = func() time.Time { return time.Now().Add(-365 * 24 * time.Hour) }
	}
	wall := func(change func(*Config)) *Firewall {
		w := newWall(t, change)
		w.uptime = func() (string, time.Duration) { return boot, up }
		return w
	}
	isolate(t, wall(config), Isolation{For: time.Hour})
	w := wall(behind)
	up += 20 * time.Minute
	look(t, w)
	wantLeft(t, "the agent started anew", 40*time.Minute)

	// A reboot loses every rule; nobody can tell how long the machine was off.
	run(t, "flush", "ruleset")
	boot, up = "second", time.Minute
	w = wall(behind)
	look(t, w)
	wantLeft(t, "the machine started anew", time.Hour)
	up += 30 * time.Minute
	look(t, w)
	wantLeft(t, "half an hour later", 30*time.Minute)
	up += 10 * time.Minute
	w = wall(behind)
	look(t, w)
	wantLeft(t, "the agent started anew in the second boot", 20*time.Minute)
	up += 20 * time.Minute
	look(t, w)
	if st, err := glance(); err != nil || st.exists {
		t.Errorf("after its time: %+v, %v", st, err)
	}
}

func TestAClockThatIsSetForwardDoesNotEndAnIsolation(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	_ = cable(t)
	var ahead time.Duration
	dir := t.TempDir()
	w := newWall(t, func(cfg *Config) {
		cfg.State = dir
		cfg.Now = func() time.Time { return time.Now().Add(ahead) }
	})
	isolate(t, w, Isolation{For: time.Hour})
	if r := w.current; r.Until != r.Until.Round(0) || r.Armed != r.Armed.Round(0) {
		t.Errorf("the record counts by a clock that stands still while the machine sleeps: %s", r.Until)
	}
	ahead = 365 * 24 * time.Hour
	look(t, w)
	wantLeft(t, "a year ahead", time.Hour)
}

func TestAReleaseByAnotherProcessIsFollowedThoughTheClockWentBack(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	_ = cable(t)
	dir := t.TempDir()
	var told alarms
	agent := newWall(t, func(cfg *Config) { cfg.State = dir; cfg.Tampered = told.add })
	start(t, agent)
	isolate(t, agent, Isolation{For: time.Hour})
	other := newWall(t, func(cfg *Config) {
		cfg.State = dir
		cfg.Now = func() time.Time { return time.Now().Add(-10 * time.Minute) }
	})
	release(t, other, "released: the network is back")
	look(t, agent)
	if isolated(t, agent).On || told.has("took") || told.has("removed") {
		t.Errorf("the release was undone; alarms: %q", told.said)
	}
}

func TestTheGuardSetsATimerThatWasCutShortAnew(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	_ = cable(t)
	w := newWall(t)
	isolate(t, w, Isolation{For: time.Hour})
	const set = "inet " + isolationTable + " " + armedSet
	run(t, "delete element "+set+" { ipv4, ipv6 }; add element "+set+" { ipv4 timeout 20s, ipv6 timeout 20s }")
	wantLeft(t, "cut short", 20*time.Second)
	look(t, w)
	wantLeft(t, "after a look", time.Hour)
}

func TestAnEndAMomentEarlyIsNoAttack(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	_ = cable(t)
	var told alarms
	var slept time.Duration
	w := newWall(t, func(cfg *Config) { cfg.Tampered = told.add })
	w.uptime = func() (string, time.Duration) {
		boot, up := systemUptime()
		return boot, up + slept
	}
	isolate(t, w, Isolation{For: time.Minute})
	slept = time.Minute - timerSlack/2
	const set = "inet " + isolationTable + " " + armedSet
	run(t, "delete element "+set+" { ipv4, ipv6 }")
	look(t, w)
	if st := isolated(t, w); st.On || w.current != nil || told.has("took") {
		t.Errorf("the kernel ended it %s early: %+v; alarms %q", timerSlack/2, st, told.said)
	}
}

func TestALapseGoesBackToWhoHoldsTheIsolationWithoutALease(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	f := cable(t)
	theirs := mustListen(t, &f, far4)
	for _, c := range []struct {
		name   string
		orders []Isolation
		want   time.Duration
	}{
		{"the claim comes later", []Isolation{{For: 3 * time.Hour}, {For: time.Hour, Claim: true}}, time.Hour},
		{"the claim comes first", []Isolation{{For: time.Hour, Claim: true}, {For: 3 * time.Hour}}, time.Hour},
		{"two claims", []Isolation{{For: time.Hour, Claim: true}, {For: 2 * time.Hour, Claim: true}, {For: 3 * time.Hour}}, 2 * time.Hour},
		{"a lease without an end", []Isolation{{Permanent: true}, {For: time.Hour, Claim: true}}, time.Hour},
		{"the claim is longer", []Isolation{{For: time.Minute}, {For: time.Hour, Claim: true}}, time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			w := newWall(t, func(cfg *Config) { cfg.State = dir })
			for _, o := range c.orders {
				isolate(t, w, o)
			}
			if err := w.Extend(t.Context(), time.Now().Add(4*time.Hour)); err != nil {
				t.Fatal(err)
			}
			r, err := w.Lapse(t.Context(), "o3")
			if err != nil || !strings.Contains(r.Detail, "the isolation goes on until") {
				t.Errorf("lapse = %+v, %v", r, err)
			}
			wantLeft(t, "after the lapse", c.want)
			refused(t, theirs.Addr().String())
			look(t, newWall(t, func(cfg *Config) { cfg.State = dir }))
			wantLeft(t, "for the next agent", c.want)
			release(t, w, "released")
			// A person's release ends the claim as well.
			isolate(t, w, Isolation{For: time.Hour})
			if r, err := w.Lapse(t.Context(), "o4"); err != nil || r.Detail != "released: the network is back" {
				t.Errorf("lapse without a claim = %+v, %v", r, err)
			}
			_ = mustDial(t, nil, theirs.Addr().String())
		})
	}
}

func TestExtendWithoutAnEndDoesNotUndoARelease(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	_ = cable(t)
	dir := t.TempDir()
	config := func(cfg *Config) { cfg.State = dir }
	w, other := newWall(t, config), newWall(t, config)
	if err := w.Extend(t.Context(), time.Time{}); !errors.Is(err, ErrNotIsolated) {
		t.Errorf("extend = %v, want ErrNotIsolated", err)
	}
	isolate(t, w, Isolation{For: time.Hour})
	// Another process has begun to release: the record says so, and the table still stands.
	must(t, other.saveEnd("o2", time.Now()))
	if err := w.Extend(t.Context(), time.Time{}); !errors.Is(err, ErrNotIsolated) {
		t.Errorf("extend = %v, want ErrNotIsolated", err)
	}
	wantLeft(t, "as it was", time.Hour)
	isolate(t, w, Isolation{For: time.Hour, OrderID: "o3"})
	must(t, w.Extend(t.Context(), time.Time{}))
	wantLeft(t, "without an end", 0)
	if st := isolated(t, w); st.OrderID != "o3" || !st.Permanent {
		t.Errorf("state = %+v", st)
	}
}

func TestRestoreArmsARecordedIsolation(t *testing.T) {
	t.Parallel()
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	f := cable(t)
	theirs := mustListen(t, &f, far4)
	config := func(dir string) func(*Config) { return func(cfg *Config) { cfg.State = dir } }
	dir := t.TempDir()
	must(t, newWall(t, config(dir)).Restore(t.Context()))
	isolate(t, newWall(t, config(dir)), Isolation{For: time.Hour})
	if _, err := exec.LookPath(nft); err == nil {
		run(t, "flush", "ruleset")
	}
	w := newWall(t, config(dir))
	must(t, w.Restore(t.Context()))
	refused(t, theirs.Addr().String())
	wantLeft(t, "restored", time.Hour)
	start(t, w)
	agenttest.Eventually(t, "the guard owns it, where the kernel knows owners", func() bool {
		return isolated(t, w).Owned || w.platform.unownable
	})
}
