package firewall

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	// lookEvery is how often a standing isolation is looked at, idleLook how often it is looked whether another process made one.
	lookEvery = time.Second
	idleLook  = 10 * time.Second
	// lookRest is the least time between two looks: other programs change the packet filter in bursts.
	lookRest = 50 * time.Millisecond
	// refreshEvery is how often the peers' names are resolved anew during an isolation.
	refreshEvery = time.Minute
)

// Run watches over the isolation until ctx ends, and returns nil then. It blocks.
//
// It arms a recorded isolation again for the time that is left, takes ownership of the rules where the kernel knows that
// (Linux 6.9: other programs, `nft flush ruleset` included, cannot change them while Run is on), puts back what somebody took
// away, covers network namespaces that appear later, follows the addresses of the peers' names, and ends the isolation in time
// when the machine slept. When it returns the isolation stands on by the system's timer. What it cannot do it logs, and tries again.
func (w *Firewall) Run(ctx context.Context) error {
	if w.cfg.DryRun || w.possible() != nil {
		<-ctx.Done()
		return nil
	}
	w.isolation.Lock()
	busy := w.guarding
	w.guarding = true
	w.isolation.Unlock()
	if busy {
		return errors.New("guard the isolation: it is guarded already")
	}
	var wg sync.WaitGroup
	wg.Go(func() { w.watch(ctx, w.wake) })
	wg.Go(func() { w.refresh(ctx, w.wake) })
	g := guard{w: w}
	g.loop(ctx, w.wake)
	wg.Wait()
	w.isolation.Lock()
	defer w.isolation.Unlock()
	w.guarding = false
	w.disown()
	return nil
}

// Restore arms a recorded isolation again, once, for a process that will Run: whoever is told that the agent is ready must not find
// the network open. Without a record it does nothing.
func (w *Firewall) Restore(ctx context.Context) error {
	if err := w.possible(); err != nil || w.cfg.DryRun {
		return nil //nolint:nilerr // where nothing can be isolated there is nothing to arm
	}
	if r, err := w.loadRecord(); err != nil || !r.live() {
		return err
	}
	g := guard{w: w}
	_, err := g.look(ctx)
	return err
}

// refresh resolves the peers' names while the machine is isolated.
func (w *Firewall) refresh(ctx context.Context, wake chan<- struct{}) {
	tick := time.NewTicker(w.refreshEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		w.isolation.Lock()
		isolated := w.current != nil
		w.isolation.Unlock()
		if isolated {
			w.resolve(ctx)
			nudge(wake)
		}
	}
}

func nudge(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// guard is one run of Run.
type guard struct {
	w *Firewall
	// trouble is what was last complained about, so that it is said once.
	trouble string
}

func (g *guard) loop(ctx context.Context, wake <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-wake:
			select {
			case <-ctx.Done():
				return
			case <-time.After(lookRest):
			}
		}
		isolated, err := g.look(ctx)
		if ctx.Err() != nil {
			return
		}
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != g.trouble && text != "" {
			g.w.log.Warn("isolation is not as it has to be", "err", text)
		}
		g.trouble = text
		if isolated || err != nil {
			timer.Reset(lookEvery)
		} else {
			timer.Reset(idleLook)
		}
	}
}

// look compares record, memory and packet filter, and makes the packet filter what the record says.
func (g *guard) look(ctx context.Context) (isolated bool, err error) {
	w := g.w
	w.isolation.Lock()
	defer w.isolation.Unlock()
	unlock, err := w.lock(ctx)
	if err != nil {
		return w.current != nil, err
	}
	defer unlock()
	damaged := w.follow()
	st, err := w.stands(ctx, w.armed)
	if err != nil {
		return w.current != nil, err
	}
	if w.current == nil {
		return st.on, errors.Join(damaged, w.leftover(ctx, st))
	}
	left := w.current.left(w.now())
	// The system's timer and the clock do not tick alike: an end a moment early is no attack.
	if left < 0 || left > 0 && left < timerSlack && !st.on && w.armed != nil {
		return false, w.over(ctx)
	}
	return true, w.mend(ctx, st, left)
}

// follow makes memory and record one: other processes of ours write the record, nobody else may.
func (w *Firewall) follow() error {
	if w.cfg.State == "" {
		return nil
	}
	disk, err := w.loadRecord()
	switch {
	case w.current == nil:
		if disk.live() {
			if disk.anchor(w.now()) {
				if err := w.saveRecord(disk); err != nil {
					w.log.Warn("isolation after a restart of the machine: its end counts by the clock", "order", disk.OrderID, "err", err)
				}
			}
			w.current, w.armed = disk, nil
			w.recall(disk)
		}
		return err
	case err == nil && disk != nil && disk.Serial > w.current.Serial:
		if !disk.live() {
			w.log.Info("another process released this machine", "order", disk.OrderID)
			disk = nil
		}
		w.current, w.armed = disk, nil
		return nil
	case err != nil || !disk.live():
		why := "the record of the isolation was removed"
		if err != nil {
			why = err.Error()
		}
		if err := w.saveRecord(w.current); err != nil {
			return fmt.Errorf("%s: %w", why, err)
		}
		w.alarm(why + "; it was written again")
	}
	return nil
}

// leftover takes away what an isolation that is over left behind. One without a record is left to the system's timer.
func (w *Firewall) leftover(ctx context.Context, st standing) error {
	switch {
	case st.on && w.owns():
		return w.disarm(ctx)
	case st.on:
		return errors.New("this machine is isolated without a record: it is not armed again after a restart, and ends by its own timer or by a release")
	case st.exists:
		return w.disarm(ctx)
	case st.stale:
		return w.sweep(ctx)
	}
	return nil
}

// over ends an isolation whose time is over.
func (w *Firewall) over(ctx context.Context) error {
	rec := w.current
	if err := w.saveEnd(rec.OrderID, rec.Since); err != nil {
		return err
	}
	if err := w.disarm(ctx); err != nil {
		return err
	}
	w.current, w.armed = nil, nil
	w.log.Info("isolation ended: its time is over", "order", rec.OrderID)
	return nil
}

// mend makes the packet filter what it has to be.
func (w *Firewall) mend(ctx context.Context, st standing, left time.Duration) error {
	want := w.passes(w.current.Servers)
	tampered := ""
	switch {
	case w.armed == nil:
		if !st.on || !st.intact {
			w.log.Warn("isolation goes on after a restart", "order", w.current.OrderID, "left", left)
		}
	case !st.on:
		tampered = "somebody took the isolation away"
	case !st.intact:
		tampered = "somebody changed the rules of the isolation"
	case !slices.EqualFunc(want, w.armed, samePass):
		w.log.Info("addresses of peers changed during an isolation", "order", w.current.OrderID)
	case st.ownable:
	case len(st.uncovered) > 0:
		if len(st.freed) > 0 {
			w.alarm("somebody took the isolation of a network namespace away: " + verdict.List(st.freed))
		}
		return w.cover(ctx, want, left)
	case !st.lasts(left):
		return w.renew(ctx, left)
	default:
		return nil
	}
	err := w.arm(ctx, want, left)
	if err == nil {
		w.armed = append([]pass{}, want...)
		_, err = w.cutForbidden(ctx, want)
	}
	switch {
	case tampered == "":
	case err == nil:
		w.alarm(tampered + "; it was put back")
	default:
		w.alarm(tampered + "; putting it back failed")
	}
	return err
}

// alarm tells people that somebody works against the isolation.
func (w *Firewall) alarm(what string) {
	w.log.Warn("isolation was tampered with", "order", w.current.OrderID, "what", what)
	if w.cfg.Tampered != nil {
		w.cfg.Tampered(what)
	}
}

func samePass(a, b pass) bool {
	return a.prefix == b.prefix && a.protocol == b.protocol && a.direction == b.direction && slices.Equal(a.ports, b.ports)
}
