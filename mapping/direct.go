package mapping

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	// maxCall is the size of a call in bytes: the archive of an iocScan and the largest event of KUMA.
	maxCall = 13 << 20

	presetKUMA = "kuma"

	keyEventID = "event_id"
	keyReason  = "reason"
	permanent  = "permanent"

	keyCallID    = "id"
	keyAt        = "at"
	keyTimestamp = "timestamp"
	keyEvent     = "event"
)

// call is the document of a Direct source: one order that a script of the product asks for. Its form stands at Source.Direct.
type call struct {
	id, task, host string
	params         []byte
	at, timestamp  string
	event          []byte

	eventID, lasts, reason string
}

func (s *source) checkDirect() error {
	switch {
	case !s.Direct && s.Mode != "":
		return errors.New("mode: belongs to sources whose documents are orders themselves; rules have modes of their own")
	case !s.Direct:
		return nil
	case s.preset.strict:
		return fmt.Errorf("preset: %s reads no events of calls", s.preset.name)
	}
	if s.Mode == "" {
		s.Mode = bridge.ModeEnforce
	}
	_, err := bridge.ParseMode(string(s.Mode))
	if err != nil {
		return fmt.Errorf("mode: %w", err)
	}
	return nil
}

// mapDirect makes the one order a call asks for. An order that lacks something is refused with what is missing; a document that
// is no call is an error.
func (m *Mapping) mapDirect(raw bridge.Alert, src *source) ([]bridge.Mapped, error) {
	c, err := readCall(raw.Raw)
	if err != nil {
		return nil, err
	}
	out := make([]bridge.Mapped, 1)
	a := &out[0].Alert
	a.Source, a.Preset, a.Received, a.Raw = raw.Source, src.preset.name, raw.Received, raw.Raw
	if c.event != nil {
		if err := m.readEvent(c.event, src, a); err != nil {
			return nil, err
		}
	}
	event := *a
	a.ID = c.id
	if t, ok := c.time(raw.Received); ok || a.Time.IsZero() {
		a.Time = t
	}
	switch {
	case c.host != "":
		a.Host = c.host
	case a.Host == "":
		a.Host = src.Host
	}
	// A product decides by a rule of its own: what holds for orders of rules (mode, budgets, hours, approval) holds for this one.
	o := bridge.Order{
		AlertID: a.ID, Source: a.Source, Rule: a.Source, At: "sources." + a.Source, Mode: src.Mode.Under(m.ceiling), Window: m.window, AlertTime: a.Time,
	}
	if o.Mode == bridge.ModeOff {
		return out, nil
	}
	reason, err := m.direct(&o, &c, src, a, &event)
	if err == nil {
		out[0].Orders = []bridge.Order{o}
		return out, nil
	}
	kind := c.task
	if _, unknown := bridge.ParseKind(kind); unknown != nil {
		kind = "call" // what it says instead is hostile text
	}
	out[0].Refused = []bridge.Order{refused(o, kind, reason, err, 0)}
	return out, nil
}

// direct fills in host, task, id and dedupe key.
func (m *Mapping) direct(o *bridge.Order, c *call, src *source, a, event *bridge.Alert) (bridge.Reason, error) {
	k, err := bridge.ParseKind(c.task)
	if err != nil {
		return bridge.ReasonInvalid, err
	}
	if src.Tasks != nil && !slices.Contains(src.Tasks, k) {
		return bridge.ReasonSource, fmt.Errorf("sources.%s.tasks does not allow it", o.Source)
	}
	o.Host = a.Host
	if a.Host == "" {
		return bridge.ReasonNoHost, errors.New("host: required" + src.lacking(c, keyHost))
	}
	if err := checkHost(a.Host); err != nil {
		return hostReason(err), err
	}
	var reason bridge.Reason
	if o.Host, reason, err = src.address(a.Host, a.Tenant, o.Source); err != nil {
		return reason, err
	}
	params, missing, err := complete(k, c.params, event)
	if err != nil {
		return bridge.ReasonInvalid, err
	}
	if o.Task, err = taskOf(k, params); err != nil {
		o.Task = nil
		if (c.event != nil || c.eventID != "") && missing != "" {
			err = errors.Join(err, errors.New("not in the params"+src.lacking(c, missing)))
		}
		return bridge.ReasonInvalid, err
	}
	if o.For, err = m.lasting(c.lasts, o.Task); err != nil {
		return bridge.ReasonInvalid, err
	}
	return directID(o)
}

// directID gives the order its id and, so that one trigger after the other does not do the same again, a dedupe key.
func directID(o *bridge.Order) (bridge.Reason, error) {
	params, err := bridge.EncodeParams(o.Task)
	if err == nil {
		o.ID, err = bridge.NewOrderID(o.Source, o.AlertID, o.Rule, o.Task, o.Host)
	}
	if err != nil {
		return bridge.ReasonInvalid, err
	}
	if o.Window > 0 {
		o.Dedupe = digest("k", "direct", o.Source, string(o.Task.Kind()), o.Host, string(params))
	}
	return bridge.ReasonNone, nil
}

// lasting is how long the effect of a task lasts: what the call says, else the lease of an isolation.
func (m *Mapping) lasting(text string, t bridge.Task) (time.Duration, error) {
	isolation := bridge.IsIsolation(t)
	switch {
	case text == "" && isolation:
		return m.lease, nil
	case text == "":
		return 0, nil
	case !isolation && t.Kind() != bridge.KindBlockAddress:
		return 0, errors.New("for: belongs to an isolation or to blockAddress")
	case text == permanent && isolation:
		return -1, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < minFor || d > maxFor {
		return 0, fmt.Errorf("for: must be from %s to %s, not %s", minFor, hours(maxFor), excerpt([]byte(text)))
	}
	return d, nil
}

// lacking says which fields of the event could have told, for a call that came with its event or was to.
func (s *source) lacking(c *call, field string) string {
	switch {
	case c.event == nil && c.eventID != "":
		return ": event " + excerpt([]byte(c.eventID)) + " could not be fetched from KUMA (kuma: in the settings)"
	case c.event == nil:
		return ""
	}
	names := s.preset.places(field)
	if names == "" {
		return ""
	}
	return ": the event has no " + names + ": add it to the fields the correlation rule propagates"
}

// readCall reads the document strictly: no key twice, none unknown, no other types.
func readCall(doc []byte) (call, error) {
	var c call
	if len(doc) > maxCall {
		return c, fmt.Errorf("the document is larger than %d bytes", maxCall)
	}
	if err := bridge.CheckJSON(doc); err != nil {
		return c, err
	}
	var given map[string]json.RawMessage
	if err := json.Unmarshal(doc, &given); err != nil || given == nil {
		return c, errors.New("must be a JSON object")
	}
	texts := map[string]*string{
		keyCallID: &c.id, keyTask: &c.task, keyHost: &c.host, keyAt: &c.at, keyEventID: &c.eventID, keyFor: &c.lasts, keyReason: &c.reason,
	}
	known := append(slices.Sorted(maps.Keys(texts)), keyParams, keyTimestamp, keyEvent)
	var problems []error
	fail := func(key, format string, args ...any) {
		problems = append(problems, &fieldError{key, fmt.Sprintf(format, args...)})
	}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		value := bytes.TrimSpace(given[key])
		to := texts[key]
		switch {
		case string(value) == "null" && (to != nil || slices.Contains(known, key)):
		case to != nil:
			text, err := textOf(value)
			if err != nil {
				fail(key, "%v", err)
			}
			*to = text
		case key == keyParams:
			c.params = value
		case key == keyEvent && value[0] == '{':
			c.event = value
		case key == keyEvent:
			fail(key, "must be an object, not %s", excerpt(value))
		case key == keyTimestamp:
			if c.timestamp = string(value); !(scalar{token: value}).number() {
				fail(key, "must be milliseconds since 1970, not %s", excerpt(value))
			}
		default:
			fail(excerpt([]byte(key)), "is unknown%s", bridge.DidYouMean(key, known))
		}
	}
	if err := checkID(c.id); err != nil {
		fail(keyCallID, "%v", err)
	}
	for _, key := range []string{keyCallID, keyTask, keyAt} {
		if *texts[key] == "" && len(problems) == 0 {
			fail(key, "required")
		}
	}
	return c, errors.Join(problems...)
}

// time is when the event happened; ok says that the call itself tells it, else it is when the call was made.
func (c *call) time(received time.Time) (t time.Time, ok bool) {
	if c.timestamp != "" {
		if t, ok = formEpochMS.epoch(c.timestamp); ok {
			t = plausible(t, received)
		}
		return t, true
	}
	if t, ok = formRFC3339.iso(c.at, nil); ok {
		return plausible(t, received), false
	}
	return time.Time{}, false
}

// readEvent fills in the alert from the event of a call. The preset's only is not asked: the call says that it counts.
func (m *Mapping) readEvent(doc []byte, src *source, a *bridge.Alert) error {
	s := newScene(src.preset, src.trees, m.rawCount, m.location)
	s.every = true
	found := 0
	s.emit = func(element []byte) error {
		found++
		s.alert(a, element)
		return nil
	}
	var bad error
	s.refuse = func(_ []byte, err error) { bad = err }
	if err := errors.Join(s.object(0, doc), bad); err != nil {
		return &fieldError{keyEvent, err.Error()}
	}
	if found != 1 {
		return &fieldError{keyEvent, fmt.Sprintf("holds %d alerts, want one", found)}
	}
	return nil
}
