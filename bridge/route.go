package bridge

import (
	"context"
	"fmt"
	"time"
)

// The names of the executors, as in Order.Executor and ExecError.Executor.
const (
	ExecutorKSC   = "ksc"
	ExecutorLocal = "local"
)

// Router chooses the executor of an order. KSC and Local are nil when not configured.
type Router struct {
	KSC, Local Executor
	// Processes resolves pids of this machine; nil = pids are refused.
	Processes ProcessResolver
	Self      Identity
	// Fallback lets the local executor take over what KSC could not be reached for, on this machine only.
	Fallback bool
}

// startSlack covers that start times are whole seconds and sensors stamp their alerts themselves.
const startSlack = 2 * time.Second

// Choose returns the name of the executor, or the verdict that refuses the order.
func (r Router) Choose(o Order) (string, Verdict) {
	ok := Verdict{State: StateQueued}
	own := r.Self.Is(o.Host)
	local := func() (string, Verdict) {
		if !own {
			return "", Verdict{StateRefused, ReasonOtherHost, fmt.Sprintf("the local agent acts on this machine only, not on %q", o.Host)}
		}
		return ExecutorLocal, ok
	}
	switch {
	case o.Subject.Tree && (o.Via == ViaKSC || r.Local == nil || !own):
		return "", Verdict{StateRefused, ReasonUnsupported, "a process and its descendants are ended by the local agent only, on its own machine: leave tree out, or enable local.enabled there"}
	case o.Via == ViaLocal || !o.Task.Kind().KSC() || o.Subject.Tree:
		if r.Local == nil {
			return "", Verdict{StateRefused, ReasonNoExecutor, "the local agent is not enabled (local.enabled)"}
		}
		return local()
	case r.KSC != nil:
		return ExecutorKSC, r.addressed(o)
	case o.Via == ViaKSC:
		return "", Verdict{StateRefused, ReasonNoExecutor, "no KSC is configured (ksc.address)"}
	case r.Local != nil:
		return local()
	default:
		return "", Verdict{StateRefused, ReasonNoExecutor, "neither KSC (ksc.address) nor the local agent (local.enabled) is configured"}
	}
}

// addressed refuses an order that does not say which of several KSC servers it is for, or names one where there is but one.
func (r Router) addressed(o Order) Verdict {
	_, profile := SplitHost(o.Host)
	servers, several := r.KSC.(Servers)
	switch {
	case several && servers[profile] == nil:
		return Verdict{StateRefused, ReasonTenant, servers.which(profile)}
	case !several && profile != "":
		return Verdict{StateRefused, ReasonTenant, fmt.Sprintf("one KSC is configured and has no profiles: leave %q out of the host", profileMark+profile)}
	default:
		return Verdict{State: StateQueued}
	}
}

// CanFallBack reports whether the local executor may take over an order KSC was unreachable for.
func (r Router) CanFallBack(o Order) bool {
	return r.Fallback && r.Local != nil && o.Via != ViaKSC && r.Self.Is(o.Host)
}

func (r Router) executor(name string) Executor {
	if name == ExecutorKSC {
		return r.KSC
	}
	return r.Local
}

// repeats reports whether an order that a process which died may have carried out can simply be carried out again.
func (r Router) repeats(o Order) bool {
	if Repeatable(o.Task.Kind()) {
		return true
	}
	again, ok := r.executor(o.Executor).(Repeater)
	return ok && again.Repeats(o.Task.Kind())
}

// Identify replaces a pid by the process behind it: start time and image for the local executor, and for KSC
// path and digests in the task as well, because a pid alone never leaves this machine.
func (r Router) Identify(ctx context.Context, o Order) (Order, Verdict) {
	ok := Verdict{State: StateQueued}
	if o.Subject.PID == 0 {
		return o, ok
	}
	if !r.Self.Is(o.Host) {
		return o, Verdict{StateRefused, ReasonInvalid, fmt.Sprintf("pid %d means nothing here: %q is another machine", o.Subject.PID, o.Host)}
	}
	if r.Processes == nil {
		return o, Verdict{StateRefused, ReasonNoExecutor, "resolving a pid needs the local agent (local.enabled)"}
	}
	toKSC := o.Executor == ExecutorKSC
	p, err := r.Processes.ResolveProcess(ctx, o.Subject, toKSC)
	if err != nil {
		reason := reasonOf(err)
		if reason == ReasonNone {
			reason = ReasonInvalid
		}
		return o, Verdict{StateRefused, reason, err.Error()}
	}
	if !o.AlertTime.IsZero() && !p.Started.IsZero() && p.Started.After(o.AlertTime.Add(startSlack)) {
		return o, Verdict{StateRefused, ReasonProcessChanged, fmt.Sprintf("process %d started after the alert: the pid was used again", p.PID)}
	}
	o.Subject = p
	if t, isKill := o.Task.(TerminateProcess); isKill && toKSC && t.Path == "" && t.MD5 == "" && t.SHA256 == "" {
		t.Path, t.MD5, t.SHA256 = p.Path, p.MD5, p.SHA256
		o.Task = t
	}
	return o, ok
}
