package bridge

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

const (
	retryBackoffMin = 250 * time.Millisecond
	retryBackoffMax = 30 * time.Second
)

// phase is what perform does next with an order.
type phase int

const (
	phaseBegin   phase = iota // look at the guards, fix the intent, then send
	phaseSend                 // the intent is on disk, nothing was sent yet
	phaseLook                 // it may have been sent: search before anything else
	phaseStopped              // it ended, or it stays in the store for the next start
)

// attempt is the work on one order in this process.
type attempt struct {
	*pipelineRun
	o       Order
	backoff time.Duration
	misses  int       // clean searches in a row that did not find the effect
	since   time.Time // when the order became undecided
	judged  bool      // this process asked all guards about the order as it stands
}

// perform carries one admitted order to its end. fresh says that this process committed the intent itself a
// moment ago; otherwise an order that is sending may have been sent by a process that died.
func (r *pipelineRun) perform(o Order, fresh bool) {
	a := &attempt{pipelineRun: r, o: o, backoff: retryBackoffMin, since: r.cfg.Now()}
	if o.Task == nil {
		a.unreadable()
		return
	}
	next := phaseBegin
	if o.State == StateSending {
		next = phaseLook
		if fresh {
			a.judged, next = true, phaseSend
		} else if _, can := r.cfg.Router.executor(o.Executor).(Reconciler); !can && Repeatable(o.Task.Kind()) {
			next = phaseSend
		}
	}
	for next != phaseStopped {
		next = a.guarded(next)
	}
	if r.results != nil {
		r.mu.Lock()
		r.results[a.o.ID] = a.o
		r.mu.Unlock()
	}
}

// unreadable ends an order whose task the store could not read back: nobody can tell what it was to do.
func (a *attempt) unreadable() {
	state := StateFailed
	if a.o.State == StateSending {
		state = StateUnknown
	}
	if a.move(state, ReasonInvalid, "the stored task cannot be read: "+a.o.Detail) {
		a.log.Error("order is lost or undecided", "order", a.o.ID, "host", a.o.Host, "state", string(state))
	}
}

// guarded runs one phase behind the panic boundary of the order.
func (a *attempt) guarded(s phase) (next phase) {
	defer func() {
		if v := recover(); v != nil {
			a.log.Error("order caused a panic", "order", a.o.ID, "task", string(a.o.Task.Kind()), "err", v, "stack", string(debug.Stack()))
			state := StateFailed
			if a.o.State == StateSending {
				state = StateUnknown
			}
			a.end(state, ReasonPanic, fmt.Sprint(v))
			next = phaseStopped
		}
	}()
	switch s {
	case phaseBegin:
		return a.begin()
	case phaseSend:
		return a.send()
	case phaseLook:
		return a.look()
	case phaseStopped:
		return phaseStopped
	default:
		return phaseStopped
	}
}

// begin fixes and commits the intent of a queued order.
func (a *attempt) begin() phase {
	if a.quit.Err() != nil {
		return phaseStopped
	}
	if v := a.cfg.Guard.Begin(a.o); v.State != StateQueued {
		return a.stop(v)
	}
	ex := a.cfg.Router.executor(a.o.Executor)
	if ex == nil {
		return a.stop(Verdict{StateRefused, ReasonNoExecutor, fmt.Sprintf("executor %q is not configured any more", a.o.Executor)})
	}
	if in, needs := ex.(Intender); needs {
		intent, _, err := in.Intend(a.work, a.o, true)
		if err != nil {
			return a.failed(err)
		}
		a.o.Intent = intent
		if v := a.cfg.Guard.Begin(a.o); v.State != StateQueued {
			return a.stop(v)
		}
	}
	if !a.move(StateSending, ReasonNone, "") {
		return phaseStopped
	}
	a.judged = true
	return phaseSend
}

// send performs the effect whose intent is on disk. The slot is held for the effect only: the commit of its outcome
// is shared with many others and would keep the executor waiting.
func (a *attempt) send() phase {
	slot := a.slots[a.o.Executor]
	select {
	case slot <- struct{}{}:
	case <-a.quit.Done():
		return a.requeue("shutting down")
	}
	receipt, verdict, err := a.effect(slot)
	switch {
	case verdict.State == "":
		return a.requeue("shutting down")
	case verdict.State != StateQueued:
		return a.stop(verdict)
	case err != nil:
		return a.failed(err)
	default:
		return a.finish(receipt)
	}
}

// effect asks the last guards and executes; a verdict other than StateQueued means that nothing was done, the zero verdict
// that the bridge is shutting down.
func (a *attempt) effect(slot <-chan struct{}) (Receipt, Verdict, error) {
	defer func() { <-slot }()
	if a.quit.Err() != nil {
		return Receipt{}, Verdict{}, nil
	}
	// The last hop: between the commit and this line somebody may have pulled the hold.
	judge := a.cfg.Guard.Still
	if !a.judged {
		judge = a.cfg.Guard.Begin
	}
	v := judge(a.o)
	if v.State != StateQueued {
		return Receipt{}, v, nil
	}
	ex := a.cfg.Router.executor(a.o.Executor)
	if ex == nil {
		return Receipt{}, Verdict{StateRefused, ReasonNoExecutor, fmt.Sprintf("executor %q is not configured any more", a.o.Executor)}, nil
	}
	a.o.Attempts++
	receipt, err := ex.Execute(a.work, a.o)
	return receipt, v, err
}

func (a *attempt) finish(rc Receipt) phase {
	a.o.Ref = rc.Ref
	a.end(rc.State, ReasonNone, rc.Detail)
	return phaseStopped
}

// failed decides by the class of the error alone.
func (a *attempt) failed(err error) phase {
	class, reason := ClassOf(err), reasonOf(err)
	a.log.Warn("order met an error", "order", a.o.ID, "task", string(a.o.Task.Kind()), "host", a.o.Host,
		"executor", a.o.Executor, "class", class.String(), "err", err)
	switch class {
	case Permanent:
		state := StateFailed
		if reason != ReasonNone && a.o.Attempts == 0 || refusal(reason) {
			state = StateRefused
		}
		a.end(state, reason, causeText(err))
		return phaseStopped
	case Unreachable:
		if a.o.Executor == ExecutorKSC && a.cfg.Router.CanFallBack(a.o) {
			return a.fallBack(err)
		}
		return a.again(ReasonUnreachable, err)
	case Retry:
		return a.again(reason, err)
	case Unknown:
		if a.o.State != StateSending {
			return a.again(reason, err)
		}
		return a.undecided(err)
	default:
		return a.undecided(err)
	}
}

// refusal reports whether the reason says that an executor declined rather than tried.
func refusal(r Reason) bool {
	switch r {
	case ReasonProtectedProcess, ReasonProtectedPath, ReasonProtectedAddress, ReasonProtectedHost, ReasonUnsupported,
		ReasonOtherHost, ReasonHostNotFound, ReasonHostAmbiguous, ReasonInvalid, ReasonProcessChanged:
		return true
	default:
		return false
	}
}

// fallBack hands an order KSC never saw to the local executor.
func (a *attempt) fallBack(err error) phase {
	a.o.Executor, a.o.Intent = ExecutorLocal, Intent{}
	if a.o.State == StateSending && !a.move(StateQueued, ReasonUnreachable, "KSC unreachable, taken over by the local agent: "+causeText(err)) {
		return phaseStopped
	}
	return phaseBegin
}

// again puts an order of which nothing happened back into the queue and waits.
func (a *attempt) again(reason Reason, err error) phase {
	if a.o.State == StateSending && !a.move(StateQueued, reason, causeText(err)) {
		return phaseStopped
	}
	a.o.Reason, a.o.Detail = reason, causeText(err)
	if a.results != nil {
		// A command waits for nobody: it reports that the order could not be sent.
		return a.giveUp(reason, err)
	}
	if !pause(a.quit, jitter(a.backoff)) {
		return phaseStopped
	}
	a.backoff = min(2*a.backoff, retryBackoffMax)
	return phaseBegin
}

// giveUp ends the order of a command that could not be sent, so that no later start sends it behind the user's back.
func (a *attempt) giveUp(reason Reason, err error) phase {
	if reason == ReasonNone {
		reason = ReasonUnreachable
	}
	a.end(StateFailed, reason, "not sent: "+causeText(err))
	return phaseStopped
}

func (a *attempt) undecided(err error) phase {
	ex := a.cfg.Router.executor(a.o.Executor)
	if _, can := ex.(Reconciler); !can || a.work.Err() != nil {
		if a.work.Err() != nil {
			return phaseStopped // stays sending: the next start looks for it
		}
		a.end(StateUnknown, reasonOf(err), causeText(err))
		return phaseStopped
	}
	a.o.Detail = err.Error()
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
	if !pause(a.quit, a.cfg.Settle) {
		return phaseStopped
	}
	receipt, found, err := rec.Reconcile(a.work, a.o)
	switch {
	case err == nil && found:
		return a.finish(receipt)
	case err == nil:
		a.misses++
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

// requeue takes back an intent that was certainly not used.
func (a *attempt) requeue(why string) phase {
	a.move(StateQueued, ReasonNone, why)
	return phaseStopped
}

// stop ends or parks the order as the verdict says.
func (a *attempt) stop(v Verdict) phase {
	a.end(v.State, v.Reason, v.Detail)
	return phaseStopped
}

// end commits an end state (or held) and tells people.
func (a *attempt) end(s State, reason Reason, detail string) {
	if !a.move(s, reason, detail) {
		return
	}
	args := []any{
		"order", a.o.ID, "alert", a.o.AlertID, "rule", a.o.Rule, "task", string(a.o.Task.Kind()), "host", a.o.Host,
		"executor", a.o.Executor, "state", string(s), "ref", a.o.Ref, "detail", detail,
	}
	if s == StateUnknown || s == StateExpired {
		a.log.Error("order is lost or undecided", args...)
		return
	}
	a.log.Info("order settled", args...)
}

// move commits the next state. It answers false when that did not work; the order then stays as stored and is
// taken up at the next start.
func (a *attempt) move(s State, reason Reason, detail string) bool {
	from := a.o.State
	o := a.o
	o.State, o.Reason, o.Detail, o.Updated = s, reason, detail, a.cfg.Now().UTC()
	// The outcome of an effect must reach the disk even while the bridge shuts down.
	stored, err := a.cfg.Store.Move(context.WithoutCancel(a.work), o, from)
	if errors.Is(err, ErrStale) {
		a.log.Warn("order was changed by somebody else", "order", o.ID, "state", string(from))
		return false
	}
	if err != nil {
		a.log.Error("order state could not be stored", "order", o.ID, "state", string(s), "err", err)
		return false
	}
	a.o = stored
	return true
}
