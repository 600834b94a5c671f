package sensor

import (
	"slices"
	"testing"
	"time"
)

// watched is an observer of a server whose clock the test sets.
func watched(t *testing.T, cfg Config) (o *observing, clock *time.Time) {
	t.Helper()
	now := time.Unix(1000, 0)
	cfg.Now = func() time.Time { return now }
	o = observe(t, cfg)
	o.w.run(10, 0, 5, "/opt/winword.exe")
	_ = o.seed()
	return o, &now
}

func (o *observing) pids() []int {
	var pids []int
	for _, d := range o.alerts() {
		pids = append(pids, d.ActionablePID)
	}
	return pids
}

func TestSecondProcessOfTheWindowThatLivesOnMakesItsAlert(t *testing.T) {
	t.Parallel()
	o, now := watched(t, Config{})
	o.child(10, 11, "/opt/powershell.exe")
	delete(o.w.processes, 11)
	o.child(10, 12, "/opt/powershell.exe")
	o.one(t)
	o.lookAgain(false)
	o.none(t)
	*now = now.Add(secondLook)
	o.lookAgain(false)
	if d := o.one(t); d.ActionablePID != 12 || d.StartTicks != 9 || len(d.SHA256) != 64 || d.Suppressed != 0 {
		t.Errorf("alert %+v", d)
	}
	*now = now.Add(time.Hour)
	o.lookAgain(false)
	o.none(t)
	if st := o.s.Status(); st.Suppressed != 0 {
		t.Errorf("status %+v", st)
	}
}

func TestManyShortChildrenMakeOneAlert(t *testing.T) {
	t.Parallel()
	o, now := watched(t, Config{})
	for pid := 11; pid < 11+2*maxAside; pid++ {
		o.child(10, pid, "/opt/powershell.exe")
		delete(o.w.processes, pid)
	}
	if n := len(o.aside); n > maxAside {
		t.Errorf("%d kept, want at most %d", n, maxAside)
	}
	*now = now.Add(secondLook)
	o.lookAgain(false)
	o.one(t)
	if st := o.s.Status(); st.Suppressed != 2*maxAside-1 {
		t.Errorf("status %+v", st)
	}
}

func TestRateDelaysTheAlertOfAProcessThatLivesOn(t *testing.T) {
	t.Parallel()
	o, now := watched(t, Config{Dedupe: -1, RuleRate: Rate{PerSecond: 1, Burst: 2}})
	for pid := 11; pid < 15; pid++ {
		o.child(10, pid, "/opt/powershell.exe")
	}
	if got := o.pids(); !slices.Equal(got, []int{11, 12}) {
		t.Fatalf("alerts of %v", got)
	}
	*now = now.Add(time.Second)
	o.lookAgain(false)
	if got := o.pids(); !slices.Equal(got, []int{13}) {
		t.Errorf("alerts of %v after a second", got)
	}
	*now = now.Add(time.Second)
	o.lookAgain(false)
	if got := o.pids(); !slices.Equal(got, []int{14}) {
		t.Errorf("alerts of %v after two", got)
	}
}

func TestNumberGivenToAnotherProcessMakesNoLateAlert(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(o *observing){
		"its birth was seen":     func(o *observing) { o.forked(1, 12); o.w.run(12, 1, 9, "/usr/bin/id") },
		"its birth was not seen": func(o *observing) { o.w.run(12, 1, 99, "/opt/powershell.exe") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, _ := watched(t, Config{})
			o.child(10, 11, "/opt/powershell.exe")
			o.child(10, 12, "/opt/powershell.exe")
			change(o)
			o.lookAgain(true)
			if got := o.pids(); !slices.Equal(got, []int{11}) {
				t.Errorf("alerts of %v", got)
			}
		})
	}
}

func TestChildrenThatWereNotReadAreToldApartByTheirNames(t *testing.T) {
	t.Parallel()
	o, _ := watched(t, Config{})
	for i, name := range []string{"sh", "curl", "sh"} {
		pid := 11 + i
		o.forked(10, pid)
		o.w.run(pid, 10, 9, "/usr/bin/"+name)
		o.w.processes[pid].unread, o.w.processes[pid].dead = true, true
		o.executed(pid, 9)
	}
	o.lookAgain(true)
	if n := len(o.alerts()); n != 2 {
		t.Errorf("%d alerts, want one of each name", n)
	}
}
