package kuma

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// AlertPage is how many alerts a page has at most.
const AlertPage = 250

const restMaxIDs = 100 // ids in one request

// AlertQuery picks alerts; zero fields pick all. Several values of one field are alternatives.
type AlertQuery struct {
	// Page counts from 1; 0 = 1. A page has at most AlertPage alerts; the newest LastSeen comes first.
	Page int
	// IDs and Tenants are UUIDs, at most 100 of each.
	IDs, Tenants []string
	// Statuses are of new, assigned, escalated, closed.
	Statuses []string
	// From and To bound LastSeen, both ends included; KUMA takes milliseconds.
	From, To time.Time
	// WithEvents adds the correlation events with their base events, WithAffected the assets and accounts.
	WithEvents, WithAffected bool
}

// Alert is one alert as the API shows it. What is absent or of another type is a zero value.
type Alert struct {
	ID, Name             string
	TenantID, TenantName string
	// Status is in lower case: new, assigned, escalated, closed.
	Status              string
	Priority            AlertPriority
	FirstSeen, LastSeen time.Time
	// Document is the alert as received, not checked by bridge.CheckJSON.
	Document []byte
}

// Alerts returns one page of alerts.
//
// KUMA: GET alerts, support.kaspersky.com/help/KUMA/3.0.2/en-US/222254.htm, …/3.0.3/en-US/269916.htm.
func (c *Client) Alerts(ctx context.Context, q AlertQuery) ([]Alert, error) {
	query, err := q.encode()
	if err != nil {
		return nil, err
	}
	body, err := c.call(ctx, restRequest{method: http.MethodGet, path: restAlerts, query: query})
	if err != nil {
		return nil, err
	}
	docs, err := restDocuments(restAlerts, body)
	if err != nil {
		return nil, err
	}
	alerts := make([]Alert, 0, len(docs))
	for _, d := range docs {
		alerts = append(alerts, readAlert(d))
	}
	return alerts, nil
}

func (q AlertQuery) encode() (string, error) {
	values := url.Values{}
	switch {
	case q.Page < 0:
		return "", restArgument("alerts: page counts from 1")
	case len(q.IDs) > restMaxIDs || len(q.Tenants) > restMaxIDs:
		return "", restArgument("alerts: at most %d ids or tenants in one request", restMaxIDs)
	case q.Page > 1:
		values.Set("page", strconv.Itoa(q.Page))
	}
	for _, id := range q.IDs {
		if !restUUID(id) {
			return "", restArgument("alerts: id %.60q is not a UUID", id)
		}
		values.Add("id", id)
	}
	for _, id := range q.Tenants {
		if !restUUID(id) {
			return "", restArgument("alerts: tenant %.60q is not a UUID", id)
		}
		// The pages of v1 and v2 spell the parameter differently; not documented: whether case matters, so both are sent.
		values.Add("tenantID", id)
		values.Add("TenantID", id)
	}
	for _, s := range q.Statuses {
		if !slices.Contains([]string{"new", "assigned", "escalated", "closed"}, s) {
			return "", restArgument("alerts: status %.60q: want new, assigned, escalated or closed", s)
		}
		values.Add("status", s)
	}
	if !q.From.IsZero() {
		values.Set("from", restTime(q.From))
	}
	if !q.To.IsZero() {
		values.Set("to", restTime(q.To))
	}
	text := values.Encode()
	// Flags count by being there, whatever their value, so they are sent bare.
	for _, flag := range []struct {
		name string
		on   bool
	}{{"withEvents", q.WithEvents}, {"withAffected", q.WithAffected}} {
		if flag.on {
			text = strings.TrimPrefix(text+"&"+flag.name, "&")
		}
	}
	return text, nil
}

// restTime writes a moment as the API wants it: RFC 3339 with milliseconds, UTC.
func restTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

// readAlert reads the head of an alert, field by field, so that one odd field does not hide the others.
func readAlert(doc []byte) Alert {
	a := Alert{Document: doc}
	var fields struct {
		ID         json.RawMessage `json:"id"`
		Name       json.RawMessage `json:"name"`
		TenantID   json.RawMessage `json:"tenantID"`
		TenantName json.RawMessage `json:"tenantName"`
		Status     json.RawMessage `json:"status"`
		Priority   json.RawMessage `json:"priority"`
		FirstSeen  json.RawMessage `json:"firstSeen"`
		LastSeen   json.RawMessage `json:"lastSeen"`
	}
	if json.Unmarshal(doc, &fields) != nil {
		return a
	}
	text := func(raw json.RawMessage) string {
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return ""
		}
		return s
	}
	a.ID, a.Name, a.TenantID, a.TenantName = text(fields.ID), text(fields.Name), text(fields.TenantID), text(fields.TenantName)
	a.Status = strings.ToLower(text(fields.Status))
	a.FirstSeen, a.LastSeen = restMoment(fields.FirstSeen), restMoment(fields.LastSeen)
	if n, err := strconv.Atoi(string(fields.Priority)); err == nil {
		if p, err := ParseAlertPriority(n); err == nil {
			a.Priority = p
		}
	}
	return a
}

// restMoment reads RFC 3339 text, or epoch milliseconds (the data model of help 233888 calls the fields numbers); else zero.
func restMoment(raw json.RawMessage) time.Time {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return time.Time{}
		}
		return t.UTC()
	}
	ms, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil || ms <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// DeliveryID names an alert as far as it has grown: a grown alert is another delivery, its events keep their own ids.
func (a Alert) DeliveryID() string {
	return fmt.Sprintf("%s/%s", a.ID, a.LastSeen.UTC().Format(time.RFC3339Nano))
}
