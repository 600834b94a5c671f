package ocsf

import (
	"encoding/hex"
	"net/netip"
	"strconv"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// SchemaVersion is the version of OCSF the events follow; it is the first with the activity Detect.
const SchemaVersion = "1.5.0"

// categoryRemediation is the category of all events (categories.json).
const categoryRemediation = 7

// Class is a class of events of the category Remediation.
type Class int

// The classes (schema.ocsf.io/1.5.0/classes/remediation_activity and its three extensions).
const (
	ClassRemediation Class = 7001 // what fits no other, or lacks what they require
	ClassFile        Class = 7002 // requires a file
	ClassProcess     Class = 7003 // requires a process with its pid
	ClassNetwork     Class = 7004 // requires a direction
)

func (c Class) name() string {
	switch c {
	case ClassFile:
		return "File Remediation Activity"
	case ClassProcess:
		return "Process Remediation Activity"
	case ClassNetwork:
		return "Network Remediation Activity"
	case ClassRemediation:
		return "Remediation Activity"
	default:
		return "Remediation Activity"
	}
}

// Remediation is one event. It marshals to the JSON of the schema.
type Remediation struct {
	ActivityID      Activity         `json:"activity_id"`
	ActivityName    string           `json:"activity_name"`
	CategoryUID     int              `json:"category_uid"`
	CategoryName    string           `json:"category_name"`
	ClassUID        Class            `json:"class_uid"`
	ClassName       string           `json:"class_name"`
	TypeUID         int              `json:"type_uid"`
	TypeName        string           `json:"type_name"`
	Time            int64            `json:"time"` // milliseconds since 1970 UTC
	SeverityID      Severity         `json:"severity_id"`
	Severity        string           `json:"severity"`
	StatusID        Status           `json:"status_id"`
	Status          string           `json:"status"`
	StatusCode      string           `json:"status_code,omitempty"`
	StatusDetail    string           `json:"status_detail,omitempty"`
	Message         string           `json:"message"`
	CommandUID      string           `json:"command_uid"` // the order's id
	Countermeasures []Countermeasure `json:"countermeasures,omitempty"`
	Device          *Device          `json:"device,omitempty"`
	File            *File            `json:"file,omitempty"`
	Process         *Process         `json:"process,omitempty"`
	ConnectionInfo  *ConnectionInfo  `json:"connection_info,omitempty"`
	Metadata        Metadata         `json:"metadata"`
	Unmapped        Unmapped         `json:"unmapped"`
}

// Metadata is the object metadata.
type Metadata struct {
	Version string `json:"version"`
	// UID is the hash of the audit record, Sequence its number in the chain.
	UID      string   `json:"uid,omitempty"`
	Sequence int64    `json:"sequence,omitempty"`
	Product  Product  `json:"product"`
	Profiles []string `json:"profiles"`
}

// Product is the object product.
type Product struct {
	Name       string `json:"name"`
	VendorName string `json:"vendor_name"`
	Version    string `json:"version,omitempty"`
}

// Device is the object device of the profile host.
type Device struct {
	Hostname string `json:"hostname,omitempty"`
	IP       string `json:"ip,omitempty"`
	TypeID   int    `json:"type_id"` // 0 = unknown
}

// Unmapped holds what the schema has no place for, under the words of the audit record.
type Unmapped struct {
	Task     bridge.Kind   `json:"task"`
	State    bridge.State  `json:"state"`
	Reason   bridge.Reason `json:"reason,omitempty"`
	Rule     string        `json:"rule,omitempty"`
	Source   string        `json:"source,omitempty"`
	Actor    string        `json:"actor,omitempty"`
	Approver string        `json:"approver,omitempty"`
	Executor string        `json:"executor,omitempty"`
	Ref      string        `json:"ref,omitempty"`
	Attempts int           `json:"attempts,omitempty"`
	// Target is a text of the task that no object of the event has: an address, a path.
	Target string `json:"target,omitempty"`
}

// Event returns the event an audit record stands for; false when it tells no outcome of an order (a note, or a state on the way).
// version is that of the product. Without the order itself the record does not tell file, process or whether an isolation
// begins or ends, so the event is of a class that requires none of it; EventOf knows more.
func Event(r bridge.AuditRecord, version string) (Remediation, bool) {
	return EventOf(r, bridge.Order{}, version)
}

// EventOf is Event with the order the record is about; an order with another id is not looked at.
func EventOf(r bridge.AuditRecord, o bridge.Order, version string) (Remediation, bool) {
	out, ok := outcomeOf(r)
	if !ok || r.Order == "" {
		return Remediation{}, false
	}
	if o.ID != r.Order {
		o = bridge.Order{}
	}
	what := describe(r.Task, o)
	e := Remediation{
		ActivityID: what.activity, ActivityName: what.activity.name(string(r.Task)), CategoryUID: categoryRemediation, CategoryName: "Remediation",
		ClassUID: what.class, ClassName: what.class.name(), TypeUID: int(what.class)*100 + int(what.activity),
		Time: r.Time.UnixMilli(), SeverityID: out.severity, Severity: out.severity.name(), StatusID: out.status, Status: out.label,
		StatusCode: string(r.Reason), StatusDetail: r.Detail, Message: message(r), CommandUID: r.Order, Countermeasures: what.countermeasures(),
		Device: deviceOf(r.Host), File: what.file, Process: what.process, ConnectionInfo: what.connection,
		Metadata: Metadata{
			Version: SchemaVersion, UID: hex.EncodeToString(r.Hash[:]), Sequence: r.Seq, Profiles: []string{"host"},
			Product: Product{Name: "edr-bridge", VendorName: "edr-bridge", Version: version},
		},
		Unmapped: Unmapped{
			Task: r.Task, State: r.To, Reason: r.Reason, Rule: r.Rule, Source: r.Source, Actor: r.Actor, Approver: r.Approver,
			Executor: o.Executor, Ref: r.Ref, Attempts: r.Attempts, Target: what.target,
		},
	}
	e.TypeName = e.ClassName + ": " + what.activity.caption()
	return e, true
}

func message(r bridge.AuditRecord) string {
	text := string(r.Task)
	if text == "" {
		text = "order"
	}
	if r.Host != "" {
		text += " on " + r.Host
	}
	text += ": " + string(r.To)
	if r.Attempts > 1 {
		text += " after " + strconv.Itoa(r.Attempts) + " attempts"
	}
	return text
}

func deviceOf(host string) *Device {
	switch {
	case host == "":
		return nil
	case isAddress(host):
		return &Device{IP: host}
	default:
		return &Device{Hostname: host}
	}
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}
