package ksc

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/servercert"
)

func TestF22PausesAreCappedWhateverTheServerAsksFor(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 17, 6, 56, 0, time.UTC)
	for name, c := range map[string]struct {
		header   string
		jitter   float64
		try      int
		min, max time.Duration
	}{
		"none":          {"", 0, 0, 50 * time.Millisecond, 50 * time.Millisecond},
		"none, jitter":  {"", 0.999, 0, 99 * time.Millisecond, 100 * time.Millisecond},
		"doubled":       {"", 0, 2, 200 * time.Millisecond, 200 * time.Millisecond},
		"many tries":    {"", 0.999, 60, time.Second, retryWaitMax},
		"5 s":           {"5", 0, 0, 5 * time.Second, 5 * time.Second},
		"5 s, jitter":   {"5", 0.999, 0, 5 * time.Second, 5500 * time.Millisecond},
		"an hour":       {"3600", 0.999, 0, retryWaitCap, retryWaitCap},
		"for ever":      {"2147483647", 0, 0, retryWaitCap, retryWaitCap},
		"overflow":      {"99999999999999999999", 0, 0, 0, time.Second},
		"date":          {now.Add(7 * time.Second).Format(http.TimeFormat), 0, 0, 7 * time.Second, 7 * time.Second},
		"date tomorrow": {now.Add(24 * time.Hour).Format(http.TimeFormat), 0, 0, retryWaitCap, retryWaitCap},
		"date long ago": {now.Add(-24 * time.Hour).Format(http.TimeFormat), 0, 0, 50 * time.Millisecond, 50 * time.Millisecond},
		"negative":      {"-5", 0, 0, 50 * time.Millisecond, 50 * time.Millisecond},
		"garbage":       {"soon\x00", 0, 0, 50 * time.Millisecond, 50 * time.Millisecond},
	} {
		wait := backoff(func() time.Time { return now }, func() float64 { return c.jitter })
		resp := &http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {c.header}}}
		if got := wait(0, 0, c.try, resp); got < c.min || got > c.max {
			t.Errorf("%s: got %s, want %s to %s", name, got, c.min, c.max)
		}
	}
	if got := backoff(time.Now, func() float64 { return 0 })(0, 0, 0, nil); got != retryWait/2 {
		t.Errorf("without an answer: %s", got)
	}
}

func TestOnlyWhatCannotHaveBeenDoneIsTriedAgain(t *testing.T) {
	t.Parallel()
	lost := errors.New("EOF")
	status := func(code int) *http.Response { return &http.Response{StatusCode: code} }
	for name, c := range map[string]struct {
		m    method
		sent bool
		resp *http.Response
		err  error
		want bool
	}{
		"effect not sent":          {methodAddIncident, false, nil, lost, true},
		"effect sent":              {methodAddIncident, true, nil, lost, false},
		"effect 503":               {methodAddIncident, true, status(503), nil, false},
		"effect 429":               {methodAddIncident, true, status(429), nil, false},
		"effect no connection":     {methodAddIncident, false, nil, &connectError{"connect", lost}, true},
		"effect no TLS":            {methodAddIncident, false, nil, &connectError{"tls handshake", lost}, false},
		"unlisted method":          {method{name: "X.Y"}, true, nil, lost, false},
		"deletion sent":            {methodDeleteIncident, true, nil, lost, false},
		"read lost":                {methodFindHosts, true, nil, lost, true},
		"read unreadable":          {methodFindHosts, true, nil, &answerError{why: "cut"}, true},
		"read 503":                 {methodFindHosts, true, status(503), nil, true},
		"read 429":                 {methodFindHosts, true, status(429), nil, true},
		"read 404":                 {methodFindHosts, true, status(404), nil, false},
		"read 401":                 {methodFindHosts, true, status(401), nil, false},
		"read 200":                 {methodFindHosts, true, status(200), nil, false},
		"read without certificate": {methodFindHosts, false, nil, &connectError{"tls handshake", &servercert.PinError{}}, false},
	} {
		a := &attempt{method: c.m, sent: c.sent}
		if got, err := checkRetry(a.context(context.Background()), c.resp, c.err); got != c.want || err != nil {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
		ended, cancel := context.WithCancel(a.context(context.Background()))
		cancel()
		if got, _ := checkRetry(ended, c.resp, c.err); got {
			t.Errorf("%s: tried again for nobody", name)
		}
	}
	if got, _ := checkRetry(context.Background(), status(503), nil); got {
		t.Error("a request without a marker is tried again")
	}
}
