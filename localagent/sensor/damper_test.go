package sensor

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestAlikeAlertsOfTheWindowAreLeftOutAndTold(t *testing.T) {
	t.Parallel()
	d := newDamper(10*time.Second, Rate{PerSecond: -1}, Rate{PerSecond: -1})
	now := time.Unix(1000, 0)
	a := likeness{rule: "r", parent: 1, child: "/sh"}
	if _, ok := d.admit(a, now); !ok {
		t.Fatal("the first one is left out")
	}
	for range 5 {
		if _, ok := d.admit(a, now.Add(9*time.Second)); ok {
			t.Fatal("one of the same window is let through")
		}
		d.leaveOut(a.rule)
	}
	b := a
	b.parent = 2
	if left, ok := d.admit(b, now.Add(9*time.Second)); !ok || left != 5 {
		t.Errorf("another parent: left %d, ok %v", left, ok)
	}
	if left, ok := d.admit(a, now.Add(10*time.Second)); !ok || left != 0 {
		t.Errorf("after the window: left %d, ok %v", left, ok)
	}
	if _, ok := d.admit(a, now.Add(-time.Hour)); !ok {
		t.Error("a clock that was set back silences the rule")
	}
}

func TestRatesHoldForARuleAndForAll(t *testing.T) {
	t.Parallel()
	d := newDamper(0, Rate{PerSecond: 1, Burst: 12}, Rate{PerSecond: 2, Burst: 10})
	now := time.Unix(1000, 0)
	count := func(rule string, n int) (through int) {
		for range n {
			if _, ok := d.admit(likeness{rule: rule}, now); ok {
				through++
			} else {
				d.leaveOut(rule)
			}
		}
		return through
	}
	if n := count("a", 100); n != 10 {
		t.Errorf("%d of rule a, want 10", n)
	}
	if n := count("b", 100); n != 2 {
		t.Errorf("%d of rule b, want what is left of all, 2", n)
	}
	now = now.Add(time.Second)
	if n := count("a", 100); n != 1 {
		t.Errorf("%d after a second, want 1", n)
	}
	got := d.omitted()
	if len(got) != 2 || got[0] != (omission{"a", 99}) || got[1] != (omission{"b", 98}) {
		t.Errorf("omitted %+v", got)
	}
	if got := d.omitted(); len(got) != 0 {
		t.Errorf("told twice: %+v", got)
	}
}

func TestOmissionsAreToldWithinAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Config{Name: "s"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { s.keep(ctx) })
		s.damper.leaveOut("a")
		time.Sleep(time.Minute)
		synctest.Wait()
		cancel()
		wg.Wait()
		w, _ := s.outboxes[0].take()
		if w == nil {
			t.Fatal("not told")
		}
		if d := readDocument(t, w.body); d.Rule != RuleSummary || d.Suppressed != 1 {
			t.Errorf("summary %+v", d)
		}
	})
}

func TestDamperStaysBounded(t *testing.T) {
	t.Parallel()
	d := newDamper(time.Hour, Rate{PerSecond: -1}, Rate{PerSecond: -1})
	now := time.Unix(1000, 0)
	for i := range 3 * maxDamped {
		if _, ok := d.admit(likeness{rule: "a", parent: i}, now); !ok {
			t.Fatal("left out")
		}
	}
	if n := len(d.seen); n > maxDamped {
		t.Errorf("%d remembered, want at most %d", n, maxDamped)
	}
}

func TestFloodOfAlertsIsCountedAndSummarised(t *testing.T) {
	t.Parallel()
	o := observe(t, Config{Dedupe: -1, RuleRate: Rate{PerSecond: 0.001, Burst: 3}})
	o.w.run(10, 0, 5, "/usr/sbin/nginx")
	_ = o.seed()
	for pid := 11; pid < 111; pid++ {
		o.child(10, pid, "/usr/bin/dash", "sh")
		delete(o.w.processes, pid)
	}
	o.lookAgain(true)
	if n := len(o.alerts()); n != 3 {
		t.Errorf("%d alerts, want 3", n)
	}
	if st := o.s.Status(); st.Suppressed != 97 {
		t.Errorf("status %+v", st)
	}
	o.s.tellOmitted()
	d, err := o.s.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	doc := readDocument(t, d.Alert.Raw)
	if doc.Rule != RuleSummary || doc.Level != LevelLow || doc.Suppressed != 97 || doc.ActionablePID != 0 || doc.PID != 0 {
		t.Errorf("summary %+v", doc)
	}
}
