package callout

import "github.com/edr-bridge/edr-bridge/bridge"

// The exit codes of a script, the same numbers every verb of edr-bridge has.
const (
	calloutDone        = 0
	calloutFailed      = 1
	calloutUsage       = 2
	calloutHeld        = 3
	calloutRefused     = 4
	calloutUnknown     = 5
	calloutLimit       = 6
	calloutNotFound    = 7
	calloutUnreachable = 9
	calloutCredentials = 77
	calloutConfig      = 78
)

// ScriptExit is a row of the table of exit codes of a script.
type ScriptExit struct {
	Code    int
	Meaning string
}

// ScriptExits lists the exit codes of a script. A call does not wait: 0 means that the bridge or the spool directory has it. That
// KUMA looks at the code is not documented.
func ScriptExits() []ScriptExit {
	return []ScriptExit{
		{calloutDone, "the bridge has it on disk, or it is spooled; also a duplicate or a shadow order: see state"},
		{calloutFailed, "certainly not done"},
		{calloutUsage, "the line is wrong: an option, an empty field, a digest, a path; nothing was handed over"},
		{calloutHeld, "waits for approval"},
		{calloutRefused, "refused by a guard"},
		{calloutUnknown, "may have happened"},
		{calloutLimit, "a budget is used up, or on hold"},
		{calloutNotFound, "host not found, or more than one"},
		{calloutUnreachable, "no bridge answers and the call could not be spooled: nothing will come of it"},
		{calloutCredentials, "the bridge takes no calls of this user"},
		{calloutConfig, "it is said nowhere where calls go: edr-bridge kuma install"},
	}
}

// calloutExit is the exit code of a call that was handed over.
func calloutExit(r Result) int {
	switch r.State {
	case CallSpooled, CallStored:
		return calloutDone
	case CallNone:
		return calloutFailed
	}
	switch bridge.State(r.State) {
	case bridge.StateQueued, bridge.StateSending, bridge.StateAccepted, bridge.StateRunning, bridge.StateDone,
		bridge.StateDuplicate, bridge.StateShadow:
		return calloutDone
	case bridge.StateHeld:
		if ExitOfReason(bridge.Reason(r.Reason)) == calloutLimit {
			return calloutLimit
		}
		return calloutHeld
	case bridge.StateRefused:
		if code := ExitOfReason(bridge.Reason(r.Reason)); code != calloutFailed && code != calloutUnreachable {
			return code
		}
		return calloutRefused
	case bridge.StateUnknown:
		return calloutUnknown
	case bridge.StateFailed, bridge.StateExpired, bridge.StateCancelled:
		return ExitOfReason(bridge.Reason(r.Reason))
	default:
		return calloutFailed
	}
}

// ExitOfReason is the exit code for why an order did not go through, of the scripts and of every verb; 1 when the reason has none of its own.
func ExitOfReason(reason bridge.Reason) int {
	switch reason {
	case bridge.ReasonHostNotFound, bridge.ReasonHostAmbiguous, bridge.ReasonNoHost:
		return calloutNotFound
	case bridge.ReasonCredentials:
		return calloutCredentials
	case bridge.ReasonUnreachable:
		return calloutUnreachable
	case bridge.ReasonHold, bridge.ReasonLimit, bridge.ReasonLiveTasks:
		return calloutLimit
	case bridge.ReasonInvalid:
		return calloutUsage
	default:
		return calloutFailed
	}
}
