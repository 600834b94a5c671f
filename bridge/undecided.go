package bridge

import "time"

func (a *attempt) undecided(err error) phase {
	ex := a.cfg.Router.executor(a.o.Executor)
	if _, can := ex.(Reconciler); !can || a.work.Err() != nil {
		if a.work.Err() != nil {
			return phaseStopped // stays sending: the next start looks for it
		}
		a.end(StateUnknown, reasonOf(err), causeText(err))
		return phaseStopped
	}
	a.o.Detail, a.since, a.misses = err.Error(), a.cfg.Now(), 0
	return phaseLook
}

// look searches for the effect of an order whose outcome is not known: found means adopted, twice not found
// with the settle time between means it is safe to send the very same intent, anything else goes on until GiveUp.
func (a *attempt) look() phase {
	rec, can := a.cfg.Router.executor(a.o.Executor).(Reconciler)
	if !can {
		a.end(StateUnknown, ReasonNone, "it may have happened before a restart, and nobody here can find out")
		return phaseStopped
	}
	a.stepAside()
	if !a.waitSettle() {
		return phaseStopped
	}
	CrashPoint(CrashLooking)
	receipt, found, err := rec.Reconcile(a.work, a.o)
	CrashPoint(CrashLooked)
	a.stepAside()
	switch {
	case err == nil && found:
		return a.finish(receipt)
	case err == nil:
		a.misses++
		if a.misses >= 2 && a.unwanted {
			return a.giveWay()
		}
		if a.misses >= 2 {
			a.misses = 0
			return phaseSend
		}
	case a.cfg.Now().Sub(a.since) > a.cfg.GiveUp:
		a.end(StateUnknown, reasonOf(err), "it may have happened: "+causeText(err))
		return phaseStopped
	default:
		a.misses = 0
		a.log.Warn("search for an undecided order failed", "order", a.o.ID, "class", ClassOf(err).String(), "err", err)
	}
	return phaseLook
}

// stepAside lets a release of the host go first while the fate of this isolation is looked for: people who take an
// isolation back do not wait for it.
func (a *attempt) stepAside() {
	if a.unwanted || !a.isOvertaken() {
		return
	}
	a.unwanted, a.overtaken = true, nil
	a.spawn(a.box.stepAside(a.place))
}

// giveWay takes back an isolation that was not sent, because a release of the host waits behind it.
func (a *attempt) giveWay() phase {
	a.end(StateCancelled, ReasonNone, "a release of the host overtook it")
	return phaseStopped
}

// rest waits for d; false when the bridge shuts down meanwhile. It ends early when a release overtakes the order.
func (a *attempt) rest(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-a.overtaken:
		return true
	case <-a.quit.Done():
		return false
	}
}

func (a *attempt) isOvertaken() bool {
	select {
	case <-a.overtaken:
		return true
	default:
		return false
	}
}

// waitSettle waits for the settle time, in parts when a release overtakes the order meanwhile.
func (a *attempt) waitSettle() bool {
	end := time.Now().Add(a.cfg.Settle)
	for {
		left := time.Until(end)
		if left <= 0 {
			return true
		}
		if !a.rest(left) {
			return false
		}
		a.stepAside()
	}
}

// undecidedSince is when the intent of an order that was found in sending was committed. A restart gives such an order
// half of its time at least, so that one failing search after a long night does not end it.
func (r *pipelineRun) undecidedSince(o Order) time.Time {
	now := r.cfg.Now()
	if half := now.Add(-r.cfg.GiveUp / 2); o.State == StateSending && o.Updated.Before(now) {
		if o.Updated.Before(half) {
			return half
		}
		return o.Updated
	}
	return now
}
