package callout

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// MaxCallBytes is how many bytes the document of a call may have: an IOC archive and what is around it.
const MaxCallBytes = 16 << 20

const (
	callRandom = 16
	callMaxID  = 64
)

// Call is one call of a script: a task for one host, not yet an order.
type Call struct {
	// ID names the call for good: lower-case letters, digits and -, 8 to 64 characters. The same call handed over
	// twice has the same id. HandOver makes one when it is empty.
	ID   string
	Task bridge.Kind
	// Host is the endpoint as the line named it; empty only with EventID.
	Host string
	// Params is the task, valid; with EventID its path and digests may be empty and come from the event.
	Params bridge.Task
	// At is when the script was called (UTC).
	At time.Time
	// Timestamp is the event's, in milliseconds since 1970; 0 = not given.
	Timestamp int64
	// EventID is the id of the correlation event to fetch: a lower-case UUID, or empty.
	EventID string
	// Event is the event, once it was fetched; nil before.
	Event json.RawMessage
	// Fields and Values are what the line says about the event (--fields, --values), for people; Values are escaped.
	Fields, Values []string
	// ForPeriod is how long an isolation lasts: 0 = the default, Permanent = without an end.
	ForPeriod time.Duration
	// Reason is a text for people: at most 1 KiB, one line, control characters escaped.
	Reason string
	// Warnings say what was odd about the line and did not matter. They are not part of the document.
	Warnings []string
}

// callDocument is the form a call travels in and the mapping reads.
type callDocument struct {
	ID        string          `json:"id"`
	Task      string          `json:"task"`
	Host      string          `json:"host"`
	Params    json.RawMessage `json:"params"`
	At        time.Time       `json:"at"`
	Timestamp int64           `json:"timestamp,omitempty"`
	EventID   string          `json:"event_id,omitempty"`
	Event     json.RawMessage `json:"event"`
	For       string          `json:"for,omitempty"`
	Reason    string          `json:"reason,omitempty"`
}

// NewCallID makes an id nobody else has.
func NewCallID() string {
	var b [callRandom]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return "k" + hex.EncodeToString(b[:])
}

// MarshalJSON returns the document of the call:
//
//	{"id":"k…","task":"isolateHost","host":"ws-01","params":{"action":1},"at":"2026-11-20T20:06:56.123456789Z",
//	 "timestamp":1732104000123,"event_id":"8a3f…","event":null,"for":"4h0m0s","reason":"…"}
//
// timestamp, event_id, for and reason are left out when there are none; params are as bridge.EncodeParams writes them. What
// --fields and --values said is the event, each value a string, unless there is an event to fetch.
func (c Call) MarshalJSON() ([]byte, error) {
	if c.Params == nil {
		return nil, errors.New("the call has no task")
	}
	params, err := bridge.EncodeParams(c.Params)
	if err != nil {
		return nil, err
	}
	d := callDocument{
		ID: c.ID, Task: string(c.Task), Host: c.Host, Params: params, At: c.At.UTC(), Timestamp: c.Timestamp,
		EventID: c.EventID, Event: c.Event, Reason: c.Reason,
	}
	switch {
	case c.ForPeriod == Permanent:
		d.For = "permanent"
	case c.ForPeriod != 0:
		d.For = c.ForPeriod.String()
	}
	if d.Event == nil && c.EventID == "" && len(c.Fields) > 0 {
		pairs := make(map[string]string, len(c.Fields))
		for i, name := range c.Fields {
			pairs[name] = c.Values[i]
		}
		if d.Event, err = callEncode(pairs); err != nil {
			return nil, err
		}
	}
	return callEncode(d)
}

// callEncode is JSON in one line with <, > and & as they are.
func callEncode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// DecodeCall reads the document of a call strictly: what MarshalJSON does not write is an error, and so is a call that ParseCall
// would not have let through.
func DecodeCall(doc []byte) (Call, error) {
	if len(doc) > MaxCallBytes {
		return Call{}, fmt.Errorf("the call is %d bytes long, allowed are %d", len(doc), MaxCallBytes)
	}
	if err := bridge.CheckJSON(doc); err != nil {
		return Call{}, fmt.Errorf("the call %w", err)
	}
	var d callDocument
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return Call{}, errors.New("the call is not the document of a call")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Call{}, errors.New("the call has something behind its document")
	}
	c := Call{
		ID: d.ID, Task: bridge.Kind(d.Task), Host: d.Host, At: d.At.UTC(), Timestamp: d.Timestamp, EventID: d.EventID, Event: d.Event, Reason: d.Reason,
	}
	if bytes.Equal(c.Event, []byte("null")) {
		c.Event = nil
	}
	var err error
	if c.Params, err = bridge.DecodeTask(c.Task, d.Params); err != nil {
		return Call{}, err
	}
	if d.For != "" {
		if c.ForPeriod, err = callPeriod(d.For); err != nil {
			return Call{}, fmt.Errorf("for: %w", err)
		}
	}
	if err := c.check(); err != nil {
		return Call{}, err
	}
	return c, nil
}

// check is what holds for every call that travels.
func (c Call) check() error {
	if !callIsID(c.ID) {
		return errors.New("id: want 8 to 64 lower-case letters, digits and -")
	}
	if c.At.IsZero() {
		return errors.New("at: required")
	}
	if c.Params == nil || c.Params.Kind() != c.Task {
		return errors.New("params: belong to another task")
	}
	params := c.Params
	if c.EventID != "" {
		if id, ok := callUUID(c.EventID); !ok || id != c.EventID {
			return errors.New("event_id: want a UUID in lower case")
		}
		params = callStandIns(params)
	}
	if err := params.Validate(); err != nil {
		return err
	}
	if c.Host != "" || c.EventID == "" {
		if err := argsCheckHost(c.Host); err != nil {
			return fmt.Errorf("host: %w", err)
		}
	}
	if c.Timestamp < 0 {
		return errors.New("timestamp: is negative")
	}
	if argsDisplay(c.Reason) != c.Reason {
		return errors.New("reason: holds control characters or is too long")
	}
	return nil
}

func callIsID(id string) bool {
	return len(id) >= 8 && len(id) <= callMaxID && strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" && id[0] != '-'
}
