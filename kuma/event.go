package kuma

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// MaxEvent is the size of the largest event KUMA makes, in bytes; larger documents are refused.
const MaxEvent = 4 << 20

// EventType is the kind of a normalised event.
type EventType int

// The types of events that are known. Correlation events are found by `WHERE Type = 3` (support.kaspersky.com/KUMA/3.4/en-US/269922.htm);
// not documented: the number of audit events.
const (
	EventCorrelation EventType = 3
	EventAudit       EventType = 4
)

const (
	eventFuture = 5 * time.Minute // how far ahead of ours the clock of a correlator may be
	eventOldest = 946684800       // seconds: the year 2000; an earlier timestamp is a clock that was never set
)

// Event is a normalised event of KUMA (support.kaspersky.com/kuma/4.0/en-US/217941). Absent fields are zero values; fields that are not
// named here are left out. Texts are the attacker's wherever the base event is.
type Event struct {
	// ID is a UUID that never changes, TenantID, ServiceID and CorrelationRuleID are UUIDs too. Ids are not checked to be.
	ID   string
	Type EventType
	// Timestamp is when the correlator or collector made the event, UTC; see When. Start and End bound what it is about.
	Timestamp, Start, End time.Time
	TenantID              string
	ServiceID             string
	ServiceName           string

	CorrelationRuleID   string
	CorrelationRuleName string
	// Priority is on the scale of events, which is not that of alerts.
	Priority     EventPriority
	BaseEventIDs []string
	// BaseEventCount is how many base events led to it.
	BaseEventCount int64
	// GroupedBy names the fields of the rule that its base events have in common.
	GroupedBy         []string
	Tactic, Technique string

	// Name is the name of the rule unless it gives another.
	Name, Message, Severity, Code                      string
	DeviceVendor, DeviceProduct, DeviceVersion         string
	DeviceEventClassID, DeviceEventCategory            string
	DeviceAction, EventOutcome, RequestURL             string
	TransportProtocol, ApplicationProtocol, Extra, Raw string

	// Device is what reported the event, Source who did something, Destination what it was done to: in events of started processes
	// the parent and the started process.
	Device, Source, Destination Endpoint
	File, OldFile               EventFile

	// Custom are DeviceCustomString1 to 6 under their labels, or under "1" to "6" without one.
	Custom   map[string]string
	Extended Extended
}

// Endpoint is one of the three parties of an event.
type Endpoint struct {
	// HostName is a full name where there is one, Address zero when absent or not an address.
	HostName string
	Address  netip.Addr
	// AssetID is a UUID of KUMA, not the id of the computer in KSC.
	AssetID             string
	MACAddress          string
	DNSDomain, NTDomain string
	UserName, UserID    string
	Port                int64
	ProcessName         string
	// ProcessID means nothing without the start time of the process, which KUMA does not carry.
	ProcessID int64
}

// EventFile is a file of an event.
type EventFile struct {
	Name, Path, Type string
	Size             int64
	// Hash is one digest in whatever form the source had; see Event.MD5 and Event.SHA256.
	Hash string
}

// Extended are the fields of an extended event schema by their names without the prefix (`{{.S.url}}` is S["url"]): texts,
// numbers, floats, and lists of each.
type Extended struct {
	S  map[string]string
	N  map[string]int64
	F  map[string]float64
	SA map[string][]string
	NA map[string][]int64
	FA map[string][]float64
}

// DecodeEvent reads one event as REST, a destination of type http, or an alert carries it: a JSON object. It refuses documents over
// MaxEvent, what bridge.CheckJSON refuses (a key twice, in any spelling of its letters), an object without an ID, and values of the
// wrong type: a process id that is not a whole number, a priority off the scale of events. The error names the field. Texts "" and "-"
// count as absent. Process ids are read as …ProcessID and …ProcessId, since no page spells them out.
func DecodeEvent(doc []byte) (Event, error) {
	if len(doc) > MaxEvent {
		return Event{}, fmt.Errorf("event is larger than %d bytes", MaxEvent)
	}
	if err := bridge.CheckJSON(doc); err != nil {
		return Event{}, fmt.Errorf("event: %w", err)
	}
	var r eventReader
	if err := eventWalk(string(doc), r.field); err != nil {
		return Event{}, fmt.Errorf("event: %w", err)
	}
	return r.finish()
}

// HostName returns the endpoint an answer to the event is for: Device, then Destination, then Source, the first that has a name, else the
// first that has an address. Source comes last because it is often the machine an attack came from.
func (e Event) HostName() string {
	order := []Endpoint{e.Device, e.Destination, e.Source}
	for _, p := range order {
		if p.HostName != "" {
			return p.HostName
		}
	}
	for _, p := range order {
		if p.Address.IsValid() {
			return p.Address.String()
		}
	}
	return ""
}

// ProcessPath returns the image of the process the event is about: that of Destination, which is the started process in Windows 4688 and
// Sysmon 1 (Source is its parent there), then of Source, then File.Path. It is what the source wrote, not always an absolute path.
func (e Event) ProcessPath() string {
	for _, p := range []string{e.Destination.ProcessName, e.Source.ProcessName, e.File.Path} {
		if p != "" {
			return p
		}
	}
	return ""
}

// FilePath returns the file the event is about: FilePath, which holds folder and name, else FileName where a source put a whole path
// into it.
func (e Event) FilePath() string {
	switch {
	case e.File.Path != "":
		return e.File.Path
	case bridge.CheckPath(e.File.Name) == nil:
		return e.File.Name
	default:
		return ""
	}
}

// MD5 returns the MD5 of the file as lower-case hex, or "". FileHash holds one digest, told by its length, or a list with labels.
func (e Event) MD5() string { return eventDigest(e.File.Hash, "md5", 32) }

// SHA256 returns the SHA-256 of the file as lower-case hex, or "".
func (e Event) SHA256() string { return eventDigest(e.File.Hash, "sha256", 64) }

// When returns when the event happened, given when it was received. known is false, and the time that of receipt, when the event
// does not tell, or tells a moment before 2000 or more than five minutes ahead: then nobody knows how old it is.
func (e Event) When(received time.Time) (at time.Time, known bool) {
	if e.Timestamp.Unix() < eventOldest || e.Timestamp.After(received.Add(eventFuture)) {
		return received.UTC(), false
	}
	return e.Timestamp, true
}

// finish checks what only shows at the end.
func (r *eventReader) finish() (Event, error) {
	if r.event.ID == "" {
		return Event{}, errors.New("event: ID: required")
	}
	for i, value := range r.custom {
		if value == "" {
			continue
		}
		label := r.labels[i]
		if _, taken := r.event.Custom[label]; label == "" || taken {
			label = string(rune('1' + i))
		}
		eventPut(&r.event.Custom, label, value)
	}
	return r.event, nil
}

// eventDigest finds a digest of the kind in "44d8…", "MD5=…,SHA256=…" or "sha256:…".
func eventDigest(text, kind string, size int) string {
	for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == ';' || r == ' ' }) {
		label, digest, labelled := strings.Cut(part, "=")
		if !labelled {
			label, digest, labelled = strings.Cut(part, ":")
		}
		if !labelled {
			label, digest = kind, part
		}
		digest = strings.ToLower(digest)
		if strings.EqualFold(strings.ReplaceAll(label, "-", ""), kind) && len(digest) == size && strings.Trim(digest, "0123456789abcdef") == "" {
			return digest
		}
	}
	return ""
}

func eventPut[V any](m *map[string]V, key string, v V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[key] = v
}
