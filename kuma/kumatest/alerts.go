package kumatest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// alert is one alert: its document, and of it what the API searches by.
type alert struct {
	id, tenant, status  string
	reason              string
	firstSeen, lastSeen time.Time
	doc                 []byte
}

// PutAlert adds an alert, or replaces the one with its id: a JSON object in the form the API answers with, lastSeen in RFC 3339. It
// is answered byte for byte as given, until it is closed.
func (s *Server) PutAlert(doc []byte) error {
	var head struct {
		ID        string    `json:"id"`
		TenantID  string    `json:"tenantID"`
		Status    string    `json:"status"`
		FirstSeen time.Time `json:"firstSeen"`
		LastSeen  time.Time `json:"lastSeen"`
	}
	if err := json.Unmarshal(doc, &head); err != nil {
		return fmt.Errorf("put an alert into mock KUMA: %w", err)
	}
	if head.ID == "" || head.LastSeen.IsZero() {
		return errors.New("put an alert into mock KUMA: it needs id and lastSeen")
	}
	a := &alert{
		id: head.ID, tenant: head.TenantID, status: cmp.Or(strings.ToLower(head.Status), "new"),
		firstSeen: head.FirstSeen, lastSeen: head.LastSeen, doc: slices.Clone(doc),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, old := range s.alerts {
		if old.id == a.id {
			s.alerts[i] = a
			return nil
		}
	}
	s.alerts = append(s.alerts, a)
	return nil
}

// AlertState returns status and closing reason of an alert; ok is false when there is none with the id.
func (s *Server) AlertState(id string) (status, reason string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.alert(id); a != nil {
		return a.status, a.reason, true
	}
	return "", "", false
}

// DisableTenant makes a tenant refuse changes.
func (s *Server) DisableTenant(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped[id] = true
}

// alert finds one by id. The caller holds mu.
func (s *Server) alert(id string) *alert {
	for _, a := range s.alerts {
		if a.id == id {
			return a
		}
	}
	return nil
}

// getAlerts: support.kaspersky.com/help/KUMA/3.0.2/en-US/222254.htm. Flags count by being there, whatever their value.
func (s *Server) getAlerts(r *Request) answer {
	from, errFrom := bound(r, "from")
	to, errTo := bound(r, "to")
	if err := errors.Join(errFrom, errTo); err != nil {
		return refusal(http.StatusBadRequest, "invalid query parameter value", err.Error())
	}
	field := r.Query.Get("timestampField")
	if field != "" && field != "lastSeen" && field != "firstSeen" {
		return refusal(http.StatusBadRequest, "invalid query parameter value", "timestampField")
	}
	tenant := "tenantID"
	if r.Version == "v1" {
		tenant = "TenantID" // the two pages of the help differ so
	}
	stamp := func(a *alert) time.Time {
		if field == "firstSeen" {
			return a.firstSeen
		}
		return a.lastSeen
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*alert
	for _, a := range s.alerts {
		at := stamp(a)
		switch {
		case !from.IsZero() && at.Before(from), !to.IsZero() && at.After(to):
		case r.Query.Has("id") && !slices.Contains(r.Query["id"], a.id):
		case r.Query.Has(tenant) && !slices.Contains(r.Query[tenant], a.tenant):
		case r.Query.Has("status") && !slices.Contains(r.Query["status"], a.status):
		default:
			found = append(found, a)
		}
	}
	slices.SortStableFunc(found, func(a, b *alert) int { return stamp(b).Compare(stamp(a)) })
	first, last, bad, ok := page(r, len(found))
	if !ok {
		return bad
	}
	docs := []json.RawMessage{}
	for _, a := range found[first:last] {
		doc := a.doc
		if !r.Query.Has("withEvents") {
			doc = without(doc, "events")
		}
		docs = append(docs, doc)
	}
	return answer{status: http.StatusOK, body: array(docs)}
}

// array joins documents without touching their bytes, which json.Marshal would do.
func array(docs []json.RawMessage) []byte {
	out := []byte{'['}
	for i, d := range docs {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, d...)
	}
	return append(out, ']')
}

func without(doc []byte, key string) []byte {
	return edit(doc, func(fields map[string]json.RawMessage) { delete(fields, key) })
}

func edit(doc []byte, change func(map[string]json.RawMessage)) []byte {
	var fields map[string]json.RawMessage
	if json.Unmarshal(doc, &fields) != nil {
		return doc
	}
	change(fields)
	out, err := json.Marshal(fields)
	if err != nil {
		return doc
	}
	return out
}

// bound reads one end of a period.
func bound(r *Request, name string) (time.Time, error) {
	text := r.Query.Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return t, errors.New(name)
	}
	return t, nil
}

// closeAlert: support.kaspersky.com/help/KUMA/3.0.3/en-US/269917.htm.
func (s *Server) closeAlert(r *Request) answer {
	var in struct {
		ID     string `json:"id"`
		Reason string `json:"reason"`
	}
	if err := json.Unmarshal(r.Body, &in); err != nil {
		return refusal(http.StatusBadRequest, "cannot parse body", err.Error())
	}
	switch {
	case in.ID == "":
		return refusal(http.StatusBadRequest, "id required", "")
	case in.Reason == "":
		return refusal(http.StatusBadRequest, "reason required", "")
	case !slices.Contains([]string{"responded", "incorrect data", "incorrect correlation rule"}, in.Reason):
		return refusal(http.StatusBadRequest, "invalid reason", "")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.alert(in.ID)
	switch {
	case a == nil:
		return refusal(http.StatusNotFound, "alert not found", "")
	case s.stopped[a.tenant]:
		return refusal(http.StatusNotAcceptable, "tenant disabled", "")
	case a.status == "closed":
		return refusal(http.StatusNotAcceptable, "alert already closed", "")
	}
	a.status, a.reason = "closed", in.Reason
	a.doc = edit(a.doc, func(fields map[string]json.RawMessage) { fields["status"] = json.RawMessage(`"closed"`) })
	return noContent()
}
