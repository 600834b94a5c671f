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
	o         Order
	place     *laneItem
	overtaken <-chan struct{} // closed when a release of the host waits behind this isolation; nil for other orders
	backoff   time.Duration
	misses    int       // clean searches in a row that did not find the effect
	since     time.Time // when the order became undecided
	judged    bool      // this process asked all guards about the order as it stands
	unwanted  bool      // it was overtaken: it must not be sent any more
	doubtful  bool      // a process that died may have done it, and nobody can look: doing it again settles it
}

// perform carries the order of a place to its end. A fresh one was committed by this process a moment ago; otherwise an order
// that is sending may have been sent by a process that died. It returns the order as it stands then.
func (r *pipelineRun) perform(it *laneItem) Order {
	o, fresh := it.order, it.fresh
	a := &attempt{pipelineRun: r, o: o, place: it, overtaken: it.overtaken, backoff: retryBackoffMin, since: r.undecidedSince(o)}
	if o.Task == nil {
		a.unreadable()
		return a.o
	}
	next := phaseBegin
	if o.State == StateSending {
		next = phaseLook
		if fresh {
			a.judged, next = true, phaseSend
		} else if _, can := r.cfg.Router.executor(o.Executor).(Reconciler); !can && r.cfg.Router.repeats(o) {
			a.doubtful, next = true, phaseSend
		}
	}
	for next != phaseStopped {
		next = a.guarded(next)
	}
	return a.o
}

// unreadable ends an order whose task the store could not read back: nobody can tell what it was to do.
func (a *attempt) unreadable() {
	state := StateFailed
	if a.o.State == StateSending {
		state = StateUnknown
	}
	if a.move(state, ReasonInvalid, "the stored task cannot be read: "+a.o.Detail) {
		a.alarm(a.o)
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
	if a.isOvertaken() {
		return a.giveWay()
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
	CrashPoint(CrashIntended)
	a.judged, a.since = true, a.o.Updated
	return phaseSend
}

// send performs the effect whose intent is on disk. The slot is held for the effect only: the commit of its outcome
// is shared with many others and would keep the executor waiting.
func (a *attempt) send() phase {
	slot, overtaken := a.slot(a.o), a.overtaken
	if a.doubtful {
		overtaken = nil // it may have to be undone: the release behind it does that
	}
	select {
	case slot <- struct{}{}:
	case <-overtaken:
		return a.giveWay()
	case <-a.quit.Done():
		return a.requeue("shutting down")
	}
	receipt, verdict, err := a.effect(slot)
	switch {
	case verdict.State == StateCancelled:
		return a.giveWay()
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

// effect asks the last guards and executes; a verdict other than StateQueued means that nothing was done: StateCancelled
// that a release overtook the order, the zero verdict that the bridge is shutting down.
func (a *attempt) effect(slot <-chan struct{}) (Receipt, Verdict, error) {
	defer func() { <-slot }()
	if a.quit.Err() != nil {
		return Receipt{}, Verdict{}, nil
	}
	if !a.doubtful && a.isOvertaken() {
		return Receipt{}, Verdict{State: StateCancelled}, nil
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
	a.doubtful = false // from here on the executor's word counts
	CrashPoint(CrashExecuting)
	started := time.Now()
	receipt, err := ex.Execute(a.work, a.o)
	a.cfg.Meter.Executed(a.o.Executor, time.Since(started), err)
	CrashPoint(CrashExecuted)
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
		if a.o.Executor == ExecutorKSC && a.canFallBack(a.o) {
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
	case ReasonLocalTasks, ReasonProtectedProcess, ReasonProtectedPath, ReasonProtectedAddress, ReasonProtectedHost, ReasonUnsupported,
		ReasonOtherHost, ReasonHostNotFound, ReasonHostAmbiguous, ReasonInvalid, ReasonProcessChanged:
		return true
	default:
		return false
	}
}

// canFallBack reports whether the local executor may take over an order KSC was unreachable for: not when only KSC could
// tell whether the host is in a protected group.
func (r *pipelineRun) canFallBack(o Order) bool {
	return r.cfg.Router.CanFallBack(o) && (IsRelease(o.Task) || r.cfg.Guard.knowsGroup(o))
}

// fallBack hands an order KSC never saw to the local executor.
func (a *attempt) fallBack(err error) phase {
	a.o.Executor, a.o.Intent = ExecutorLocal, Intent{Names: a.o.Intent.Names}
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
	if a.hand != nil {
		// A command waits for nobody: it reports that the order could not be sent.
		return a.giveUp(reason, err)
	}
	if !a.rest(jitter(a.backoff)) {
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

// requeue takes back an intent that was certainly not used.
func (a *attempt) requeue(why string) phase {
	if !a.doubtful {
		a.move(StateQueued, ReasonNone, why)
	}
	return phaseStopped
}

// stop ends or parks the order as the verdict says.
func (a *attempt) stop(v Verdict) phase {
	if a.doubtful {
		v = Verdict{StateUnknown, v.Reason, "it may have happened before a restart, and is not repeated: " + v.Detail}
	}
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
	if s.Alarm() {
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
		// A person cancelled it, a release overtook it, or its time was over.
		a.log.Info("order was changed by somebody else", "order", o.ID, "state", string(from))
		return false
	}
	if err != nil {
		a.log.Error("order state could not be stored", "order", o.ID, "state", string(s), "err", err)
		return false
	}
	CrashPoint(CrashEnded)
	a.o = stored
	a.cfg.Meter.Moved(stored, from)
	if stored.State != s {
		// The guard inside the transaction knew more: a budget used up, a hold latched a moment ago, a host isolated already.
		a.log.Info("order stopped at the last guard", "order", o.ID, "alert", o.AlertID, "rule", o.Rule, "host", o.Host,
			"state", string(stored.State), "reason", string(stored.Reason), "detail", stored.Detail)
		return false
	}
	return true
}

// settled tells people of an order the keeper moved.
func (p *Pipeline) settled(o Order, from State) {
	p.cfg.Meter.Moved(o, from)
	if o.State.Alarm() {
		p.alarm(o)
		return
	}
	p.log.Info("order goes on", "order", o.ID, "alert", o.AlertID, "rule", o.Rule, "host", o.Host, "executor", o.Executor,
		"state", string(o.State), "reason", string(o.Reason), "ref", o.Ref, "detail", o.Detail)
}

// alarm tells people of an order that was lost or is undecided.
func (p *Pipeline) alarm(o Order) {
	p.log.Error("order is lost or undecided", "order", o.ID, "alert", o.AlertID, "rule", o.Rule, "host", o.Host, "executor", o.Executor,
		"state", string(o.State), "reason", string(o.Reason), "ref", o.Ref, "detail", o.Detail)
}
