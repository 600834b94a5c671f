package kuma

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// eventReader fills an event field by field.
type eventReader struct {
	event          Event
	custom, labels [6]string
}

// field takes one field of the document; value is valid JSON.
func (r *eventReader) field(key string, value string) error {
	if value == "null" {
		return nil
	}
	if stem, ok := strings.CutSuffix(key, "Id"); ok {
		key = stem + "ID"
	}
	e := &r.event
	switch key {
	case "ID":
		return eventText(&e.ID, key, value)
	case "Type":
		return eventInt(&e.Type, key, value)
	case "Timestamp":
		eventMoment(&e.Timestamp, value)
	case "StartTime":
		eventMoment(&e.Start, value)
	case "EndTime":
		eventMoment(&e.End, value)
	case "Priority":
		return r.priority(value)
	case "BaseEventIDs":
		return eventTexts(&e.BaseEventIDs, key, value)
	case "BaseEventCount":
		return eventInt(&e.BaseEventCount, key, value)
	case "GroupedBy":
		return eventTexts(&e.GroupedBy, key, value)
	case "S", "N", "F", "SA", "NA", "FA":
		return r.extendedObject(key, value)
	default:
		if text := r.textField(key); text != nil {
			return eventText(text, key, value)
		}
		if known, err := r.partyField(key, value); known || err != nil {
			return err
		}
		if kind, name, ok := strings.Cut(key, "."); ok {
			return r.extended(kind, name, value)
		}
	}
	return nil
}

// textField returns where a field that is plain text goes.
func (r *eventReader) textField(key string) *string {
	e := &r.event
	switch key {
	case "TenantID":
		return &e.TenantID
	case "ServiceID":
		return &e.ServiceID
	case "ServiceName":
		return &e.ServiceName
	case "CorrelationRuleID":
		return &e.CorrelationRuleID
	case "CorrelationRuleName":
		return &e.CorrelationRuleName
	case "Tactic":
		return &e.Tactic
	case "Technique":
		return &e.Technique
	case "Name":
		return &e.Name
	case "Message":
		return &e.Message
	case "Severity":
		return &e.Severity
	case "Code":
		return &e.Code
	case "DeviceVendor":
		return &e.DeviceVendor
	case "DeviceProduct":
		return &e.DeviceProduct
	case "DeviceVersion":
		return &e.DeviceVersion
	case "DeviceEventClassID":
		return &e.DeviceEventClassID
	case "DeviceEventCategory":
		return &e.DeviceEventCategory
	case "DeviceAction":
		return &e.DeviceAction
	case "EventOutcome":
		return &e.EventOutcome
	case "RequestUrl", "RequestURL":
		return &e.RequestURL
	case "TransportProtocol":
		return &e.TransportProtocol
	case "ApplicationProtocol":
		return &e.ApplicationProtocol
	case "Extra":
		return &e.Extra
	case "Raw":
		return &e.Raw
	default:
		return r.customField(key)
	}
}

// customField returns where DeviceCustomString1 to 6 and their labels go.
func (r *eventReader) customField(key string) *string {
	rest, ok := strings.CutPrefix(key, "DeviceCustomString")
	if !ok || rest == "" || rest[0] < '1' || rest[0] > '6' {
		return nil
	}
	switch i := rest[0] - '1'; rest[1:] {
	case "":
		return &r.custom[i]
	case "Label":
		return &r.labels[i]
	default:
		return nil
	}
}

// partyField reads fields of the three parties and the two files.
func (r *eventReader) partyField(key string, value string) (known bool, err error) {
	e := &r.event
	for _, p := range []struct {
		prefix string
		party  *Endpoint
	}{{"Device", &e.Device}, {"Source", &e.Source}, {"Destination", &e.Destination}} {
		if rest, ok := strings.CutPrefix(key, p.prefix); ok {
			return p.party.field(rest, key, value)
		}
	}
	switch {
	case strings.HasPrefix(key, "File"):
		return e.File.field(key[len("File"):], key, value)
	case strings.HasPrefix(key, "OldFile"):
		return e.OldFile.field(key[len("OldFile"):], key, value)
	default:
		return false, nil
	}
}

func (p *Endpoint) field(name, key string, value string) (bool, error) {
	text := (*string)(nil)
	switch name {
	case "Address":
		var s string
		err := eventText(&s, key, value)
		// What is no address names no peer; the rest of the event still stands.
		p.Address, _ = netip.ParseAddr(s)
		return true, err
	case "ProcessID":
		return true, eventInt(&p.ProcessID, key, value)
	case "Port":
		return true, eventInt(&p.Port, key, value)
	case "HostName":
		text = &p.HostName
	case "AssetID":
		text = &p.AssetID
	case "MacAddress":
		text = &p.MACAddress
	case "DnsDomain":
		text = &p.DNSDomain
	case "NtDomain":
		text = &p.NTDomain
	case "UserName":
		text = &p.UserName
	case "UserID":
		text = &p.UserID
	case "ProcessName":
		text = &p.ProcessName
	default:
		return false, nil
	}
	return true, eventText(text, key, value)
}

func (f *EventFile) field(name, key string, value string) (bool, error) {
	switch name {
	case "Name":
		return true, eventText(&f.Name, key, value)
	case "Path":
		return true, eventText(&f.Path, key, value)
	case "Type":
		return true, eventText(&f.Type, key, value)
	case "Hash":
		return true, eventText(&f.Hash, key, value)
	case "Size":
		return true, eventInt(&f.Size, key, value)
	default:
		return false, nil
	}
}

func (r *eventReader) priority(value string) error {
	var n int
	if err := eventInt(&n, "Priority", value); err != nil {
		return err
	}
	p, err := ParseEventPriority(n)
	if err != nil {
		return fmt.Errorf("field Priority: %w", err)
	}
	r.event.Priority = p
	return nil
}

// extendedObject reads {"S":{"url":"…"}}. not documented: whether extended fields come so or as "S.url"; both are read.
func (r *eventReader) extendedObject(kind string, value string) error {
	if value[0] != '{' {
		return fmt.Errorf("%s: want an object of extended fields", kind)
	}
	return eventWalk(value, func(name string, v string) error { return r.extended(kind, name, v) })
}

func (r *eventReader) extended(kind, name string, value string) error {
	x := &r.event.Extended
	key := kind + "." + name
	switch kind {
	case "S":
		return eventInto(&x.S, key, name, value)
	case "N":
		return eventInto(&x.N, key, name, value)
	case "F":
		return eventInto(&x.F, key, name, value)
	case "SA":
		return eventInto(&x.SA, key, name, value)
	case "NA":
		return eventInto(&x.NA, key, name, value)
	case "FA":
		return eventInto(&x.FA, key, name, value)
	default:
		return nil // prefixes are strictly upper case; what else has a dot is no field of ours
	}
}

func eventInto[V any](m *map[string]V, key, name string, value string) error {
	var v V
	if value == "null" {
		return nil
	}
	if json.Unmarshal([]byte(value), &v) != nil {
		return fmt.Errorf("%.60q: %.40q is not of the type its prefix says", key, value)
	}
	eventPut(m, name, v)
	return nil
}

// eventText reads a text; "-" is what auditd and others write for nothing.
func eventText(to *string, key string, value string) error {
	s, ok := eventString(value)
	if !ok {
		return fmt.Errorf("%s: want text, not %.40q", key, value)
	}
	if s != "-" {
		*to = s
	}
	return nil
}

func eventInt[N ~int | ~int64](to *N, key string, value string) error {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("%s: want a whole number, not %.40q", key, value)
	}
	*to = N(n)
	return nil
}

// eventTexts reads a list of texts, or one text.
func eventTexts(to *[]string, key string, value string) error {
	if value[0] == '"' {
		var one string
		if err := eventText(&one, key, value); err != nil || one == "" {
			return err
		}
		*to = []string{one}
		return nil
	}
	if json.Unmarshal([]byte(value), to) != nil {
		return fmt.Errorf("%s: want a list of texts, not %.40q", key, value)
	}
	return nil
}

// eventMoment reads epoch milliseconds, as a number or its text, or RFC 3339, which REST gives unless raw timestamps are asked for. What
// is anything else, such as a time without a zone, tells no moment and stays zero: see Event.When.
func eventMoment(to *time.Time, value string) {
	text := value
	if value[0] == '"' {
		text, _ = eventString(value)
	}
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil && ms > 0 {
		*to = time.UnixMilli(ms).UTC()
		return
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		*to = t.UTC()
	}
}
