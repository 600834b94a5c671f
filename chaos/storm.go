package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/ksc/ksctest"
)

const (
	stormAlerts = 10_000
	stormHosts  = 1000
	stormTime   = 10 * time.Second
	// budget is the default of limits: isolateHost, in one hour.
	budget = 5
	// liveHold and liveKeep are the defaults of ksc.tasks.
	liveHold, liveKeep = 80, 15
	// floodAlerts are those about processes, which no budget limits but that of live tasks; holdAlerts flow while the hold is pulled.
	floodAlerts, holdAlerts = 400, 4000
	// holdWithin is how soon after the hold nothing may be sent any more, holdWatch how long is looked.
	holdWithin, holdWatch = time.Second, 2 * time.Second
	stormPatience         = 40 * time.Second
)

const (
	isolateRule = `  - name: isolate
    mode: enforce
    match: {level: HIGH}
    do:
      - {task: isolateHost, params: {action: 1}}
    dedupe: {for: 0s}
`
	killRule = `  - name: kill
    mode: enforce
    match: {level: HIGH}
    do:
      - {task: terminateProcess, params: {path: "${process.path}", md5hash: "", sha256hash: "", caseSensitive: false}}
`
)

// storm plays three storms: one against the budget of isolations, one against that of live tasks, one against which somebody pulls the hold.
func (r *rehearsal) storm(ctx context.Context, out io.Writer) error {
	dir, done, err := r.workdir()
	if err != nil {
		return err
	}
	defer done()
	bin, err := build(ctx, dir, "")
	if err != nil {
		return err
	}
	var sum stormSum
	for _, part := range []struct {
		name, ksc, rest, rule string
		delay, latency        time.Duration
		play                  func(*tempest, context.Context, *stormSum) error
	}{
		{"budget", "", "", isolateRule, 100 * time.Millisecond, 0, (*tempest).overBudget},
		{"live", "", "limits: []\n", killRule, 100 * time.Millisecond, 0, (*tempest).overLive},
		{"hold", "tasks: {hold: 100000, follow_every: 1s}", "limits: []\n", killRule, 0, 5 * time.Millisecond, (*tempest).underHold},
	} {
		ksc := part.ksc
		if ksc == "" {
			ksc = fmt.Sprintf("tasks: {hold: %d, keep: %d, follow_every: 1s}", liveHold, liveKeep)
		}
		t, err := newTempest(ctx, filepath.Join(dir, part.name), bin, part.delay, part.latency, ksc, part.rest, part.rule)
		if err != nil {
			return err
		}
		began := time.Now()
		err = part.play(t, ctx, &sum)
		t.close()
		if err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		_, _ = fmt.Fprintf(out, "%s: %s (%.1f s)\n", part.name, t.words, time.Since(began).Seconds())
	}
	_, _ = fmt.Fprintf(out, "storm: alerts=%d isolated=%d held=%d lost=%d live_max=%d hold_ms=%d\n",
		stormAlerts, sum.isolated, sum.held, sum.lost, sum.liveMax, sum.hold.Milliseconds())
	return sum.verdict()
}

// stormSum is what the last line says.
type stormSum struct {
	isolated, held, lost, liveMax int
	hold                          time.Duration
}

func (s *stormSum) verdict() error {
	var errs []error
	if s.isolated == 0 || s.isolated > budget {
		errs = append(errs, fmt.Errorf("%d hosts were isolated with a budget of %d", s.isolated, budget))
	}
	if s.lost != 0 {
		errs = append(errs, fmt.Errorf("%d alerts were lost", s.lost))
	}
	if s.liveMax > liveHold+liveKeep {
		errs = append(errs, fmt.Errorf("%d tasks were live at once, allowed are %d", s.liveMax, liveHold+liveKeep))
	}
	if s.hold >= holdWithin {
		errs = append(errs, fmt.Errorf("an incident was added %s after the hold", s.hold))
	}
	return errors.Join(errs...)
}

// overBudget has 1,000 hosts isolated within ten seconds: the budget lets a few through, latches the hold and keeps the rest; each
// resume lets another few through.
func (t *tempest) overBudget(ctx context.Context, sum *stormSum) error {
	if err := t.pour(ctx, stormAlerts, stormTime); err != nil {
		return err
	}
	first, err := t.await(ctx, "every alert is stored and the budget used up", func(c census) bool {
		return c.asked == stormAlerts && c.of[bridge.StateQueued]+c.of[bridge.StateSending] == 0 && c.hold.Active
	})
	if err != nil {
		return err
	}
	sum.isolated, sum.held = first.carried(), first.of[bridge.StateHeld]
	sum.lost = stormAlerts - first.carried() - first.of[bridge.StateHeld] - first.of[bridge.StateDuplicate]
	if err := first.rightlyHeld(); err != nil {
		return err
	}
	if err := t.run(ctx, "resume", "--reason", "the storm is understood"); err != nil {
		return err
	}
	second, err := t.await(ctx, "the hold is latched again", func(c census) bool {
		return c.hold.Active && c.hold.Since.After(first.hold.Since) && c.of[bridge.StateQueued]+c.of[bridge.StateSending] == 0
	})
	if err != nil {
		return err
	}
	more := second.carried() - first.carried()
	if more < 1 || more > budget {
		return fmt.Errorf("after resume %d more hosts were isolated, the budget is %d", more, budget)
	}
	if n := int(t.ksc().AddedIncidents()); n != second.carried() {
		return fmt.Errorf("the mock has %d incidents, the store %d isolations", n, second.carried())
	}
	sum.liveMax = max(sum.liveMax, t.live.most())
	t.words = fmt.Sprintf("%d isolated, %d held, %d duplicates; hold latched by %s; %d more after resume, latched again",
		first.carried(), first.of[bridge.StateHeld], first.of[bridge.StateDuplicate], first.hold.Actor, more)
	return nil
}

// overLive has 400 processes ended at once: KSC never has more unfinished tasks than it keeps, and all are done in the end.
func (t *tempest) overLive(ctx context.Context, sum *stormSum) error {
	if err := t.pour(ctx, floodAlerts, 0); err != nil {
		return err
	}
	c, err := t.await(ctx, "every order is done", func(c census) bool { return c.of[bridge.StateDone] == floodAlerts })
	if err != nil {
		return err
	}
	if n := t.live.most(); n > liveHold {
		return fmt.Errorf("%d tasks about processes were live at once, allowed are %d", n, liveHold)
	}
	if n := int(t.ksc().AddedIncidents()); n != floodAlerts || c.hold.Active {
		return fmt.Errorf("the mock has %d incidents of %d alerts, hold %t", n, floodAlerts, c.hold.Active)
	}
	sum.liveMax = max(sum.liveMax, t.live.most())
	t.words = fmt.Sprintf("%d done, at most %d live", c.of[bridge.StateDone], t.live.most())
	return nil
}

// underHold pulls the hold while incidents are added as fast as the server takes them.
func (t *tempest) underHold(ctx context.Context, sum *stormSum) error {
	if err := t.pour(ctx, holdAlerts, 0); err != nil {
		return err
	}
	if err := t.flowing(ctx, holdAlerts/10); err != nil {
		return err
	}
	if err := t.run(ctx, "hold", "--reason", "a person pulls it"); err != nil {
		return err
	}
	pulled := time.Now()
	select {
	case <-time.After(holdWatch):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	added, last := t.live.sofar()
	if added >= holdAlerts {
		return errors.New("the hold came too late to stop anything: nothing was shown")
	}
	sum.hold = max(0, last.Sub(pulled))
	held, err := t.await(ctx, "every other order is held", func(c census) bool {
		return c.asked == holdAlerts && c.of[bridge.StateQueued]+c.of[bridge.StateSending] == 0
	})
	if err != nil {
		return err
	}
	if err := t.run(ctx, "resume", "--reason", "and lets go"); err != nil {
		return err
	}
	if _, err := t.await(ctx, "every order is sent", func(c census) bool { return c.carried() == holdAlerts }); err != nil {
		return err
	}
	if n := int(t.ksc().AddedIncidents()); n != holdAlerts {
		return fmt.Errorf("the mock has %d incidents of %d alerts", n, holdAlerts)
	}
	t.words = fmt.Sprintf("pulled after %d of %d incidents, the last one %d ms later; %d held, all sent after resume",
		added, holdAlerts, sum.hold.Milliseconds(), held.of[bridge.StateHeld])
	return nil
}

// stormMock is the mock of a storm.
func stormMock(delay, latency time.Duration, live *liveTasks) ksctest.Config {
	return ksctest.Config{
		Hosts: inventory(stormHosts), BackgroundConnection: true, TaskDelay: delay, Latency: latency,
		OnIncident: live.added, OnTask: live.moved,
	}
}
