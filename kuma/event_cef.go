package kuma

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/cef"
)

// DecodeCEFEvent reads one event as a destination with the output format CEF carries it: the header and only fields that are not empty.
//
// not documented: which keys KUMA writes. Both its own field names (DeviceHostName=…, Type=3) and the keys of the CEF standard (dvchost=…)
// are read; where a line has both, KUMA's own counts. Numbers are decimal text, lists are separated by commas. The severity of the header
// counts as Priority when it is a word and the field is absent; a number there may be of either scale and is not taken.
func DecodeCEFEvent(line []byte) (Event, error) {
	rec, err := cef.Parse(line)
	if err != nil {
		return Event{}, fmt.Errorf("event: %w", err)
	}
	var r eventReader
	e := &r.event
	e.DeviceVendor, e.DeviceProduct, e.DeviceVersion = eventNone(rec.Vendor), eventNone(rec.Product), eventNone(rec.DeviceVersion)
	e.DeviceEventClassID, e.Name, e.Severity = eventNone(rec.ClassID), eventNone(rec.Name), eventNone(rec.Severity)
	// KUMA's own names come second, so that they win.
	for _, own := range []bool{false, true} {
		for _, p := range rec.Extension {
			key := p.Key
			if name, standard := eventCEFName(p.Key); standard != own {
				if !own {
					key = name
				}
				if err := r.cefField(key, p.Value); err != nil {
					return Event{}, fmt.Errorf("event: %w", err)
				}
			}
		}
	}
	if e.Priority == 0 {
		e.Priority = eventCEFPriority(rec.Severity)
	}
	if e.ID == "" {
		return Event{}, errors.New("event: ID: required (externalId in CEF)")
	}
	return r.finish()
}

func eventNone(s string) string {
	if s == "-" {
		return ""
	}
	return s
}

// cefField hands a text to the reader of JSON fields in the form the field has there.
func (r *eventReader) cefField(key, text string) error {
	if text == "" {
		return nil
	}
	kind, name, dotted := strings.Cut(key, ".")
	switch {
	case key == "Timestamp" || key == "StartTime" || key == "EndTime":
		r.cefMoment(key, text)
		return nil
	case key == "BaseEventIDs" || key == "GroupedBy":
		list := strings.Split(text, ",")
		if key == "GroupedBy" {
			r.event.GroupedBy = list
		} else {
			r.event.BaseEventIDs = list
		}
		return nil
	case dotted && kind == "S":
		eventPut(&r.event.Extended.S, name, text)
		return nil
	case dotted && (kind == "N" || kind == "F"):
		return r.extended(kind, name, text)
	case dotted && kind == "SA":
		eventPut(&r.event.Extended.SA, name, strings.Split(text, ","))
		return nil
	case dotted && (kind == "NA" || kind == "FA"):
		return r.extended(kind, name, "["+text+"]")
	case key == "S" || key == "N" || key == "F" || key == "SA" || key == "NA" || key == "FA":
		return nil // an object cannot come in a line
	case eventCEFNumber(key):
		return r.field(key, text)
	default:
		return r.field(key, eventQuote(text))
	}
}

// eventCEFNumber reports fields that are numbers in JSON.
func eventCEFNumber(key string) bool {
	switch key {
	case "Type", "Priority", "BaseEventCount", "FileSize", "OldFileSize":
		return true
	default:
		return strings.HasSuffix(key, "ProcessID") || strings.HasSuffix(key, "ProcessId") || strings.HasSuffix(key, "Port")
	}
}

func (r *eventReader) cefMoment(key, text string) {
	to := &r.event.Timestamp
	switch key {
	case "StartTime":
		to = &r.event.Start
	case "EndTime":
		to = &r.event.End
	}
	*to = time.Time{}
	eventMoment(to, eventQuote(text))
}

// eventCEFPriority reads the words of CEF. A number is not taken: 4 would be Critical on the scale of events and Medium on that of CEF.
func eventCEFPriority(severity string) EventPriority {
	switch strings.ToLower(severity) {
	case "low":
		return 1
	case "medium":
		return 2
	case "high":
		return 3
	case "critical", "very-high":
		return 4
	default:
		return 0
	}
}

// eventQuote writes a text as a JSON string of the plainest kind.
func eventQuote(s string) string {
	out := make([]byte, 0, len(s)+2)
	out = append(out, '"')
	for _, b := range []byte(s) {
		switch {
		case b == '"' || b == '\\':
			out = append(out, '\\', b)
		case b < ' ':
			out = append(out, `\u00`...)
			out = append(out, "0123456789abcdef"[b>>4], "0123456789abcdef"[b&15])
		default:
			out = append(out, b)
		}
	}
	return string(append(out, '"'))
}
