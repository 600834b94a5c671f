package ksctest

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// addFault sets a fault that must be valid.
func addFault(t *testing.T, s *Server, f Fault) func() {
	t.Helper()
	lift, err := s.Faults().Add(f)
	if err != nil {
		t.Fatal(err)
	}
	return lift
}

func TestFaultFailsBeforeOrAfterStoring(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault  Fault
		status int // 0 = the connection ends
		stored int
		check  func(reply) bool
	}{
		"reset before":       {Fault{Kind: FaultReset}, 0, 0, func(r reply) bool { return strings.Contains(r.err.Error(), "reset") }},
		"reset after":        {Fault{Kind: FaultReset, Stored: true}, 0, 1, func(r reply) bool { return strings.Contains(r.err.Error(), "reset") }},
		"close before":       {Fault{Kind: FaultClose}, 0, 0, func(r reply) bool { return strings.Contains(r.err.Error(), "EOF") }},
		"close after":        {Fault{Kind: FaultClose, Stored: true}, 0, 1, func(r reply) bool { return strings.Contains(r.err.Error(), "EOF") }},
		"cut in the status":  {Fault{Kind: FaultCut, At: 5}, 0, 1, nil},
		"cut at nothing":     {Fault{Kind: FaultCut}, 0, 1, nil},
		"cut in the body":    {Fault{Kind: FaultCut, At: len("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"Pxg")}, 200, 1, func(r reply) bool { return errors.Is(r.err, io.ErrUnexpectedEOF) && r.text == `{"Pxg` }},
		"cut at its end":     {Fault{Kind: FaultCut, At: 1 << 20}, 200, 1, func(r reply) bool { return r.err == nil && r.text == `{"PxgRetVal":1}` }},
		"401":                {Fault{Kind: FaultUnauthorized}, 401, 0, nil},
		"403":                {Fault{Kind: FaultExpire}, 403, 0, nil},
		"503":                {Fault{Kind: FaultUnavailable, RetryAfter: 2 * time.Second}, 503, 0, func(r reply) bool { return r.header.Get("Retry-After") == "2" }},
		"503 after":          {Fault{Kind: FaultUnavailable, Stored: true}, 503, 1, func(r reply) bool { return r.header.Get("Retry-After") == "" }},
		"500 no JSON":        {Fault{Kind: FaultServerError}, 500, 0, func(r reply) bool { return !json.Valid([]byte(r.text)) }},
		"500 after":          {Fault{Kind: FaultServerError, Stored: true}, 500, 1, nil},
		"page":               {Fault{Kind: FaultHTML}, 200, 0, func(r reply) bool { return strings.HasPrefix(r.header.Get("Content-Type"), "text/html") }},
		"page with a status": {Fault{Kind: FaultHTML, Status: 502, Stored: true}, 502, 1, func(r reply) bool { return strings.HasPrefix(r.text, "<!DOCTYPE") }},
		"empty":              {Fault{Kind: FaultEmpty, Stored: true}, 200, 1, func(r reply) bool { return r.text == "" }},
		"wrong types":        {Fault{Kind: FaultWrongTypes}, 200, 1, func(r reply) bool { return r.text == `{"PxgRetVal":"1"}` }},
		"redirect":           {Fault{Kind: FaultRedirect, Location: "https://localhost:1/x"}, 307, 0, func(r reply) bool { return r.header.Get("Location") == "https://localhost:1/x" }},
		"permanent redirect": {Fault{Kind: FaultRedirect, Location: "/x", Status: 308}, 308, 0, nil},
		"gzip": {Fault{Kind: FaultGzip}, 200, 1, func(r reply) bool {
			return r.header.Get("Content-Encoding") == "gzip" && unzip(r.text) == `{"PxgRetVal":1}`
		}},
		"application error": {Fault{Kind: FaultApplication, Text: "Licence expired"}, 200, 0, func(r reply) bool { return strings.Contains(r.text, `"message":"Licence expired"`) }},
		"hang up":           {Fault{Kind: FaultHangUp}, 200, 1, func(r reply) bool { return r.text == `{"PxgRetVal":1}` && r.header.Get("Connection") == "" }},
		"slow":              {Fault{Kind: FaultSlow, Delay: time.Millisecond}, 200, 1, func(r reply) bool { return r.text == `{"PxgRetVal":1}` }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, testConfig())
			c := newSession(t, s)
			test.fault.Method, test.fault.Count = "HostGroup.AddIncident", 1
			addFault(t, s, test.fault)
			r := c.post("HostGroup.AddIncident", addBody(hostA, noon, "{}"))
			if r.status != test.status || test.status == 0 && r.err == nil {
				t.Errorf("got %d %q, %v; want %d", r.status, r.text, r.err, test.status)
			}
			if got := len(s.Incidents()); got != test.stored {
				t.Errorf("%d incidents stored, want %d", got, test.stored)
			}
			if test.check != nil && !test.check(r) {
				t.Errorf("answer %+v", r)
			}
			if s.Faults().Pending() != 0 {
				t.Error("a used up fault stays")
			}
			if test.fault.Kind == FaultExpire {
				if r := c.post("Session.Ping", ""); r.status != 403 {
					t.Errorf("the session lives on: %+v", r)
				}
				return
			}
			c.call("HostGroup.AddIncident", addBody(hostB, noon, "{}"))
		})
	}
}

func unzip(s string) string {
	z, err := gzip.NewReader(strings.NewReader(s))
	if err != nil {
		return err.Error()
	}
	b, err := io.ReadAll(z)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func TestFaultCanCutTheAnswerAtEveryByte(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig())
	c := newSession(t, s)
	whole := answer{status: 200, contentType: typeJSON, body: []byte("{}")}
	for at := range len(whole.raw()) {
		addFault(t, s, Fault{Kind: FaultCut, At: at, Count: 1, Method: "Session.Ping"})
		if r := c.post("Session.Ping", ""); r.err == nil {
			t.Errorf("cut at %d: got %+v", at, r)
		}
	}
	c.call("Session.Ping", "")
}

func TestFaultHangUpMakesTheNextCallConnectAnew(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig())
	c := newSession(t, s)
	addFault(t, s, Fault{Kind: FaultHangUp, Count: 3})
	before := s.Connections()
	for range 4 {
		// The client may meet the end of the connection before or after it sent the request.
		for r := c.post("Session.Ping", ""); r.err != nil; r = c.post("Session.Ping", "") {
			if s.Connections() > before+10 {
				t.Fatal(r.err)
			}
		}
	}
	if got := s.Connections() - before; got < 3 {
		t.Errorf("%d new connections", got)
	}
	if s.Handshakes() != s.Connections() {
		t.Errorf("%d handshakes on %d connections", s.Handshakes(), s.Connections())
	}
}

func TestFaultExpireAlsoEndsTheLoginOfAConnection(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig())
	v := dialVendor(t, s)
	v.login("kscUser", "kscPassword")
	addFault(t, s, Fault{Kind: FaultExpire, Method: "HostGroup.UpdateIncident", Count: 1})
	v.call("HostGroup.AddIncident", addBody(hostA, noon, "{}"))
	if status, _ := v.call("HostGroup.UpdateIncident", `{"nId":1,"pData":{}}`); status != 403 {
		t.Errorf("status %d", status)
	}
	if status, _ := v.call("Session.Ping", ""); status != 401 {
		t.Errorf("status %d", status)
	}
	v.login("kscUser", "kscPassword")
	if status, _ := v.call("HostGroup.UpdateIncident", `{"nId":1,"pData":{}}`); status != 200 {
		t.Errorf("status %d", status)
	}
}

func TestFaultSkipsCountsAndIsLifted(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig())
	c := newSession(t, s)
	ping := func() (statuses string) {
		for range 6 {
			statuses += strconv.Itoa(c.post("Session.Ping", "").status/100) + " "
		}
		return statuses
	}
	addFault(t, s, Fault{Kind: FaultServerError, Method: "Session.Ping", Skip: 2, Count: 2})
	if got := ping(); got != "2 2 5 5 2 2 " {
		t.Errorf("skip and count: %s", got)
	}
	lift := addFault(t, s, Fault{Kind: FaultServerError})
	addFault(t, s, Fault{Kind: FaultUnauthorized})
	if got := ping(); got != "5 5 5 5 5 5 " {
		t.Errorf("the first fault wins: %s", got)
	}
	lift()
	lift()
	if got := ping(); got != "4 4 4 4 4 4 " {
		t.Errorf("after lifting the first: %s", got)
	}
	s.Faults().Clear()
	if got := ping(); got != "2 2 2 2 2 2 " {
		t.Errorf("after clear: %s", got)
	}
}

func TestFaultsByProbabilityRepeatWithTheSeed(t *testing.T) {
	t.Parallel()
	run := func(seed uint64) string {
		f := newFaults(seed)
		if _, err := f.Add(Fault{Kind: FaultReset, Probability: 0.3}); err != nil {
			t.Fatal(err)
		}
		var hits strings.Builder
		for range 1000 {
			if f.pick("x") != nil {
				hits.WriteByte('x')
			} else {
				hits.WriteByte('.')
			}
		}
		return hits.String()
	}
	one, again, two := run(1), run(1), run(2)
	if one != again || one == two {
		t.Error("the same seed must repeat, another must not")
	}
	if n := strings.Count(one, "x"); n < 240 || n > 360 {
		t.Errorf("%d of 1000 at 0.3", n)
	}
}

func TestFaultIsValidated(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig())
	for _, f := range []Fault{
		{Kind: -1},
		{Kind: FaultApplication + 1},
		{Probability: 1.5},
		{Count: -1},
		{Kind: FaultRedirect},
		{Kind: FaultHTML, Status: 99},
	} {
		if _, err := s.Faults().Add(f); err == nil {
			t.Errorf("%+v was taken", f)
		}
	}
}

func TestSlowCallIsDroppedWhenTheClientLeaves(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig())
	c := newSession(t, s)
	addFault(t, s, Fault{Kind: FaultSlow, Delay: time.Hour, Method: "HostGroup.AddIncident"})
	c.http.Timeout = 50 * time.Millisecond
	if r := c.post("HostGroup.AddIncident", addBody(hostA, noon, "{}")); r.err == nil {
		t.Errorf("got %+v", r)
	}
	waitFor(t, "the call to end", func() bool { return s.count.inFlight.Load() == 0 })
	if n := len(s.Incidents()); n != 0 {
		t.Errorf("%d incidents stored by a call that had not begun", n)
	}
	s.Faults().Clear()
	addFault(t, s, Fault{Kind: FaultSlow, Delay: time.Hour, Stored: true, Method: "HostGroup.AddIncident"})
	if r := c.post("HostGroup.AddIncident", addBody(hostA, noon, "{}")); r.err == nil {
		t.Errorf("got %+v", r)
	}
	if n := len(s.Incidents()); n != 1 {
		t.Errorf("%d incidents stored, want the one whose answer never came", n)
	}
}

func TestFaultsMayChangeWhileTheServerWorks(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig())
	c := newSession(t, s)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 50 {
				if r := c.post("Session.Ping", ""); r.status != http.StatusOK && r.status != http.StatusServiceUnavailable {
					t.Errorf("got %+v", r)
				}
			}
		})
	}
	group.Go(func() {
		for range 50 {
			lift, err := s.Faults().Add(Fault{Kind: FaultUnavailable, Probability: 0.5})
			if err != nil {
				t.Error(err)
				return
			}
			lift()
		}
	})
	group.Wait()
}

func TestWrongTypesChangesEveryValue(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{}`: `[]`,
		`{"PxgRetVal":1,"strAccessor":"a","pChunk":{"x":[1]},"l":[1],"b":true}`: `{"PxgRetVal":"1","strAccessor":42,"pChunk":[],"l":{},"b":"true"}`,
	} {
		if got := string(wrongTypes([]byte(body))); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestRequestsAreCountedByMethod(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig())
	c := newSession(t, s)
	c.call("Session.Ping", "")
	c.call("Inst.Session.Ping", "")
	c.post("Nothing.At.All", "")
	s.ExpireSessions()
	if r := c.post("Session.Ping", ""); r.status != 403 {
		t.Errorf("got %+v", r)
	}
	got := s.Requests()
	if len(got) != 3 || got["Session.StartSession"] != 1 || got["Session.Ping"] != 3 || got[""] != 1 {
		t.Errorf("requests %v", got)
	}
	if s.Connections() != 1 || s.OpenSessions() != 0 || s.PeakConcurrent() != 1 {
		t.Errorf("connections %d, sessions %d, peak %d", s.Connections(), s.OpenSessions(), s.PeakConcurrent())
	}
}
