package ocsf

import "github.com/edr-bridge/edr-bridge/bridge"

// Status is status_id of the classes of remediation.
type Status int

// The values of status_id (events/remediation/remediation_activity.json and base_event.json).
const (
	StatusUnknown      Status = 0
	StatusSuccess      Status = 1
	StatusFailure      Status = 2
	StatusDoesNotExist Status = 3
	StatusUnsupported  Status = 5
	StatusError        Status = 6
	StatusOther        Status = 99 // Status has the word of the bridge
)

// Severity is severity_id.
type Severity int

// The values of severity_id that are used (dictionary.json).
const (
	SeverityInformational Severity = 1
	SeverityLow           Severity = 2
	SeverityMedium        Severity = 3
	SeverityHigh          Severity = 4
)

func (s Severity) name() string {
	switch s {
	case SeverityLow:
		return "Low"
	case SeverityMedium:
		return "Medium"
	case SeverityHigh:
		return "High"
	case SeverityInformational:
		return "Informational"
	default:
		return "Informational"
	}
}

// outcome is how an order ended, or that KSC has it.
type outcome struct {
	status   Status
	label    string
	severity Severity
}

// outcomeOf returns the outcome a record tells. Accepted is no success: KSC has the task, nobody has seen the host do it. Orders that
// came to nothing and those nobody knows about are told apart, and what needs a person is severe.
func outcomeOf(r bridge.AuditRecord) (outcome, bool) {
	if r.What == bridge.AuditMove && r.From == r.To {
		return outcome{}, false
	}
	switch r.To {
	case bridge.StateDone:
		return outcome{StatusSuccess, "Success", SeverityInformational}, true
	case bridge.StateAccepted:
		return outcome{StatusOther, string(r.To), SeverityInformational}, true
	case bridge.StateFailed:
		return failure(r.Reason, SeverityMedium), true
	case bridge.StateRefused:
		return failure(r.Reason, SeverityLow), true
	case bridge.StateExpired:
		return outcome{StatusFailure, "Failure", SeverityHigh}, true
	case bridge.StateUnknown:
		return outcome{StatusUnknown, "Unknown", SeverityHigh}, true
	case bridge.StateCancelled:
		return outcome{StatusOther, string(r.To), SeverityInformational}, true
	case bridge.StateDuplicate, bridge.StateShadow, bridge.StateHeld, bridge.StateQueued, bridge.StateSending, bridge.StateRunning:
		return outcome{}, false
	default:
		return outcome{}, false
	}
}

func failure(why bridge.Reason, severity Severity) outcome {
	switch why {
	case bridge.ReasonProcessGone, bridge.ReasonHostNotFound:
		return outcome{StatusDoesNotExist, "Does Not Exist", severity}
	case bridge.ReasonUnsupported:
		return outcome{StatusUnsupported, "Unsupported", severity}
	case bridge.ReasonPanic:
		return outcome{StatusError, "Error", severity}
	default:
		return outcome{StatusFailure, "Failure", severity}
	}
}
