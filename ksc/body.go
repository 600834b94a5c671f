package ksc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	// severity is what the vendor's sample gives its response incidents.
	severity = 2
	// rounding is how far a server may move KLINCDT_ADDED without it being another incident: equal orders are
	// at least 5 s apart (bridge.Store).
	rounding = 2 * time.Second
)

// taskBody is KLINCDT_BODY: the vendor's five keys and no other, because its parser is not known to take more.
// (support.kaspersky.com/help/KESWin/12.9/en-US/300491.htm.)
type taskBody struct {
	TargetHost string          `json:"targetHost"`
	Task       bridge.Kind     `json:"task"`
	Params     json.RawMessage `json:"params"`
	Incident   bool            `json:"responseEventIncident"`
	Area       string          `json:"responseEventIncidentArea"`
}

// bodyOf returns the text of KLINCDT_BODY for a task on the host with the given id.
func bodyOf(target string, t bridge.Task) (string, error) {
	params, err := bridge.EncodeParams(t)
	if err != nil {
		return "", err
	}
	b, err := encode(taskBody{TargetHost: target, Task: t.Kind(), Params: params, Incident: true, Area: "Kuma"})
	if err != nil {
		return "", fmt.Errorf("encode %s: %w", t.Kind(), err)
	}
	return string(b), nil
}

// incidentOf is the one way from a stored intent to what is added.
func incidentOf(in bridge.Intent) NewIncident {
	return NewIncident{Severity: severity, Added: DateTime{in.Second}, Body: in.Body, Host: in.Target}
}

// Preview returns the bytes AddIncident would post for an intent.
func Preview(in bridge.Intent) []byte {
	return preview(addIncidentIn{incidentOf(in)})
}

// PreviewUpdate returns the bytes UpdateIncident would post after it; id is that of the incident, not known before.
func PreviewUpdate(in bridge.Intent, id int64) []byte {
	return preview(updateIncidentIn{id, changeOf(in)})
}

func changeOf(in bridge.Intent) IncidentChange {
	return IncidentChange{Handled: false, Host: in.Target}
}

func preview(in any) []byte {
	b, err := encode(in)
	if err != nil {
		return nil // only a second outside the years 1 to 9999 cannot be written, and the call refuses it
	}
	return b
}

// likeness is how far an incident at the server is the one we meant to add.
type likeness int

const (
	other   likeness = iota // it is something else
	equal                   // it is the one
	unclear                 // it may be the one, changed on its way: nobody may act on it
)

// compare tells whether an incident found at the server is the one of the intent.
func compare(in bridge.Intent, got Incident) likeness {
	off := got.Added.Truncate(time.Second).Sub(in.Second.Truncate(time.Second)).Abs()
	same := sameBody(in.Body, got.Body)
	switch {
	case same && off == 0:
		return equal
	case same && (got.Added.IsZero() || off <= rounding), off == 0 && clipped(in.Body, got.Body):
		return unclear
	default:
		return other
	}
}

// sameBody compares bytes and then values, because a server may write JSON its own way.
func sameBody(a, b string) bool {
	if a == b {
		return true
	}
	x, okX := canonical(a)
	y, okY := canonical(b)
	return okX && okY && bytes.Equal(x, y)
}

// canonical returns the JSON value with sorted keys and its numbers as they were written.
func canonical(text string) ([]byte, bool) {
	dec := json.NewDecoder(bytes.NewReader([]byte(text)))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil || dec.More() {
		return nil, false
	}
	b, err := json.Marshal(v)
	return b, err == nil
}

// clipped reports whether the server gave back no body or the first part of ours.
func clipped(ours, got string) bool {
	return len(got) < len(ours) && ours[:len(got)] == got
}
