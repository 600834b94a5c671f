package ksctest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const noon = "2026-11-20T12:00:00Z"

func TestAddIncidentKeepsWhatWasSent(t *testing.T) {
	t.Parallel()
	clk := newClock()
	cfg := testConfig()
	cfg.Now = clk.now
	var told []Incident
	cfg.OnIncident = func(i Incident) { told = append(told, i) }
	s := startServer(t, cfg)
	c := newSession(t, s)
	body := "{\"a\": \"\\u043f\", \"b\": \"привет\\t<&>\"}\n"
	if id := c.add(hostA, "2026-11-20T17:06:56Z", body); id != 1 {
		t.Errorf("id %d", id)
	}
	got := s.Incidents()
	if len(got) != 1 || got[0].Body != body || got[0].Severity != 2 || got[0].Host != hostA || got[0].Handled ||
		!got[0].Added.Equal(time.Date(2026, 11, 20, 17, 6, 56, 0, time.UTC)) || !got[0].Stored.Equal(clk.now()) {
		t.Errorf("stored %+v", got)
	}
	if len(told) != 1 || told[0].ID != 1 || s.AddedIncidents() != 1 {
		t.Errorf("told %+v", told)
	}
}

func TestAddIncidentRefusesWhatTheServerWould(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig())
	c := newSession(t, s)
	good := addBody(hostA, noon, "{}")
	for name, test := range map[string]struct {
		body string
		want int
	}{
		"no arguments":         {`{}`, codeBadParameter},
		"null":                 {`{"pData":null}`, codeBadParameter},
		"no severity":          {strings.Replace(good, `"KLINCDT_SEVERITY":2,`, "", 1), codeBadParameter},
		"no date":              {strings.Replace(good, `KLINCDT_ADDED`, "X", 1), codeBadParameter},
		"no body":              {strings.Replace(good, `KLINCDT_BODY`, "X", 1), codeBadParameter},
		"no host":              {strings.Replace(good, `KLHST_WKS_HOSTNAME`, "X", 1), codeBadParameter},
		"severity as string":   {strings.Replace(good, `2,`, `"2",`, 1), codeBadParameter},
		"severity as fraction": {strings.Replace(good, `2,`, `2.0,`, 1), codeBadParameter},
		"severity beyond int":  {strings.Replace(good, `2,`, `4294967296,`, 1), codeBadParameter},
		"bare date":            {strings.Replace(good, `{"type":"datetime","value":"`+noon+`"}`, `"`+noon+`"`, 1), codeBadParameter},
		"date with offset":     {strings.Replace(good, "12:00:00Z", "12:00:00+00:00Z", 1), codeBadParameter},
		"date with fraction":   {strings.Replace(good, "12:00:00Z", "12:00:00.5Z", 1), codeBadParameter},
		"no such day":          {strings.Replace(good, "11-20", "02-30", 1), codeBadParameter},
		"another type word":    {strings.Replace(good, `"datetime"`, `"date"`, 1), codeBadParameter},
		"body as object":       {strings.Replace(good, `"{}"`, `{}`, 1), codeBadParameter},
		"null host":            {strings.Replace(good, `"`+hostA+`"`, `null`, 1), codeBadParameter},
		"unknown host":         {addBody("00000000-0000-0000-0000-000000000000", noon, "{}"), codeNotFound},
		"network name":         {addBody("ws-01.corp.local", noon, "{}"), codeNotFound},
		"handled as number":    {strings.Replace(good, `"pData":{`, `"pData":{"KLINCDT_IS_HANDLED":0,`, 1), codeBadParameter},
	} {
		t.Run(name, func(t *testing.T) {
			if test.body == good {
				t.Fatal("the case changes nothing")
			}
			if code := c.refused("HostGroup.AddIncident", test.body); code != test.want {
				t.Errorf("code %d, want %d", code, test.want)
			}
		})
	}
	if got := s.Incidents(); len(got) != 0 {
		t.Errorf("stored %+v", got)
	}
	c.call("HostGroup.AddIncident", strings.Replace(good, `"pData":{`, `"unknown":1,"pData":{"KLHSTUSER_ID":0,"KLINCDT_IS_HANDLED":true,"X":null,`, 1))
	if got := s.Incidents(); len(got) != 1 || !got[0].Handled {
		t.Errorf("stored %+v", got)
	}
}

func TestLenientHostsTakeAnyWellFormedID(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.Hosts, cfg.LenientHosts = nil, true
	c := newSession(t, startServer(t, cfg))
	c.add("00000000-0000-0000-0000-000000000000", noon, "{}")
	for _, host := range []string{"", `a\"b`, "a b", "a*", strings.Repeat("a", 129)} {
		if code := c.refused("HostGroup.AddIncident", addBody(host, noon, "{}")); code != codeNotFound {
			t.Errorf("%q: code %d", host, code)
		}
	}
}

func TestUpdateIncidentChangesOnlyWhatItMay(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig())
	c := newSession(t, s)
	c.add(hostA, noon, "{}")
	if r := c.call("HostGroup.UpdateIncident", `{"nId":1,"pData":{"KLINCDT_IS_HANDLED":true,"KLINCDT_SEVERITY":3,"KLINCDT_BODY":"x","KLINCDT_ADDED":{"type":"datetime","value":"2026-11-21T00:00:00Z"},"KLINCDT_ID":7,"KLHST_WKS_HOSTNAME":"`+hostB+`","GNRL_EXTRA_PARAMS":{}}}`); r.text != "{}" {
		t.Errorf("a void method answers %q", r.text)
	}
	got, ok := s.Incident(1)
	if !ok || !got.Handled || got.Severity != 3 || got.Body != "x" || got.Host != hostA || got.Updates != 1 || got.Added.Day() != 21 {
		t.Errorf("stored %+v", got)
	}
	if ids := c.find(`(&(KLHST_WKS_HOSTNAME="` + hostA + `")(KLINCDT_ADDED=T"2026-11-21 00:00:00"))`); len(ids) != 1 {
		t.Errorf("the index does not know the new date: %v", ids)
	}
	if code := c.refused("HostGroup.UpdateIncident", `{"nId":1,"pData":{"KLINCDT_SEVERITY":1,"KLINCDT_IS_HANDLED":"no"}}`); code != codeBadParameter {
		t.Errorf("wrong type: code %d", code)
	}
	if code := c.refused("HostGroup.UpdateIncident", `{"nId":99,"pData":{"KLINCDT_IS_HANDLED":false}}`); code != codeNotFound {
		t.Errorf("unknown id: code %d", code)
	}
	if got, _ := s.Incident(1); got.Severity != 3 || got.Updates != 1 {
		t.Errorf("a refused update left traces: %+v", got)
	}
}

func TestStrictUpdateWantsTheHost(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.StrictUpdate = true
	c := newSession(t, startServer(t, cfg))
	c.add(hostA, noon, "{}")
	if code := c.refused("HostGroup.UpdateIncident", `{"nId":1,"pData":{"KLINCDT_IS_HANDLED":false}}`); code != codeBadParameter {
		t.Errorf("code %d", code)
	}
	c.call("HostGroup.UpdateIncident", `{"nId":1,"pData":{"KLINCDT_IS_HANDLED":false,"KLHST_WKS_HOSTNAME":"`+hostA+`"}}`)
}

func TestDeletedIncidentIsGone(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig())
	c := newSession(t, s)
	c.add(hostA, noon, "{}")
	c.add(hostA, noon, "{}")
	c.call("HostGroup.DeleteIncident", `{"nId":1}`)
	if code := c.refused("HostGroup.DeleteIncident", `{"nId":1}`); code != codeNotFound {
		t.Errorf("code %d", code)
	}
	for _, filter := range []string{"", "KLINCDT_ID=1", `KLHST_WKS_HOSTNAME="` + hostA + `"`} {
		if ids := c.find(filter); slices.Contains(ids, 1) {
			t.Errorf("filter %q finds %v", filter, ids)
		}
	}
	if id := c.add(hostA, noon, "{}"); id != 3 {
		t.Errorf("ids are not used twice: got %d", id)
	}
}

func TestFindIncidentsBySecondFindsExactlyThatRequest(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig())
	c := newSession(t, s)
	for _, host := range []string{hostA, hostB} {
		for _, second := range []int{54, 55, 56, 57, 58} {
			c.add(host, fmt.Sprintf("2026-11-20T17:06:%02dZ", second), isolateA)
		}
	}
	r := c.call("HostGroup.FindIncidents", `{"strFilter":"(&(KLHST_WKS_HOSTNAME=\"`+strings.ToUpper(hostA)+`\")(KLINCDT_ADDED>T\"2026-11-20 17:06:55\")(KLINCDT_ADDED<T\"2026-11-20 17:06:57\"))","pFieldsToReturn":["KLINCDT_ID","KLINCDT_ADDED","KLINCDT_BODY","KLHST_WKS_HOSTNAME","KLHST_WKS_DN","GNRL_EXTRA_PARAMS"],"lMaxLifeTime":60}`)
	items := c.chunk(r.str(t, "strAccessor"))
	if len(items) != 1 || string(items[0]["KLINCDT_ID"]) != "3" ||
		string(items[0]["KLINCDT_ADDED"]) != `{"type":"datetime","value":"2026-11-20T17:06:56Z"}` ||
		string(items[0]["KLHST_WKS_DN"]) != `"WS-01"` || items[0]["GNRL_EXTRA_PARAMS"] != nil {
		t.Errorf("found %s", items)
	}
	var body string
	if err := json.Unmarshal(items[0]["KLINCDT_BODY"], &body); err != nil || body != isolateA {
		t.Errorf("body %q, %v", body, err)
	}
}

func TestIndexAndFullSearchAgree(t *testing.T) {
	t.Parallel()
	s := full(t, 2000)
	for _, id := range []int{5, 700, 1999} {
		s.incidents.remove(id)
	}
	for _, expression := range []string{
		`KLHST_WKS_HOSTNAME="` + hostA + `"`,
		`(&(KLHST_WKS_HOSTNAME="` + hostA + `")(KLINCDT_ADDED>T"2026-01-01 00:00:02")(KLINCDT_ADDED<=T"2026-01-01 00:11:41"))`,
		`(&(KLHST_WKS_HOSTNAME="` + hostA + `")(KLINCDT_ADDED<>T"2026-01-01 00:00:02")(KLINCDT_ADDED>=T"2026-01-01 00:30:00"))`,
		`(&(KLINCDT_ADDED=T"2026-01-01 00:00:07")(KLHST_WKS_HOSTNAME="` + hostA + `"))`,
		`(&(KLINCDT_ADDED>T"2027-01-01 00:00:07")(KLINCDT_ADDED<T"2026-01-01 00:00:07")(KLHST_WKS_HOSTNAME="` + hostA + `"))`,
		`(&(KLINCDT_ID=8)(KLINCDT_SEVERITY=2))`,
		`(&(KLINCDT_ID=700)(KLINCDT_SEVERITY=2))`,
		`KLHST_WKS_HOSTNAME="` + hostB + `"`,
	} {
		f, err := parseFilter(expression, incidentSchema, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		want := []int{}
		for _, i := range s.incidents.all() {
			if f.match(i) {
				want = append(want, i.ID)
			}
		}
		got := []int{}
		for _, r := range s.incidents.search(f) {
			got = append(got, r.(*Incident).ID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: index %d, full %d", expression, len(got), len(want))
		}
	}
}

func TestSearchByHostAndSecondStaysFarBelowAMillisecond(t *testing.T) {
	s := full(t, 100_000)
	f, err := parseFilter(`(&(KLHST_WKS_HOSTNAME="`+hostA+`")(KLINCDT_ADDED>T"2026-01-01 12:00:00")(KLINCDT_ADDED<T"2026-01-01 12:00:02"))`, incidentSchema, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	const tries = 1000
	start := time.Now()
	for range tries {
		if rows := s.incidents.search(f); len(rows) != 1 {
			t.Fatalf("%d rows", len(rows))
		}
	}
	if each := time.Since(start) / tries; each > time.Millisecond {
		t.Errorf("%v a search", each)
	}
}

func TestKeepIncidentsBoundsMemory(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.KeepIncidents, cfg.BackgroundConnection = 10, true
	s := startServer(t, cfg)
	c := newSession(t, s)
	for i := range 25 {
		c.add(hostA, fmt.Sprintf("2026-11-20T17:06:%02dZ", i), isolateA)
	}
	got := s.Incidents()
	if len(got) != 10 || got[0].ID != 16 || got[9].ID != 25 || s.AddedIncidents() != 25 {
		t.Errorf("kept %d", len(got))
	}
	if ids := c.find(`KLHST_WKS_HOSTNAME="` + hostA + `"`); len(ids) != 10 {
		t.Errorf("index %v", ids)
	}
	if n := len(s.incidents.byHost[hostA].bySecond); n != 10 {
		t.Errorf("index keeps %d seconds", n)
	}
	if n := len(s.Tasks()); n > 10 {
		t.Errorf("%d tasks", n)
	}
	if code := c.refused("HostGroup.UpdateIncident", `{"nId":3,"pData":{}}`); code != codeNotFound {
		t.Errorf("code %d", code)
	}
}

func TestParallelCallersLoseNothing(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.BackgroundConnection = true
	s := startServer(t, cfg)
	c := newSession(t, s)
	const workers, each = 8, 50
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := range each {
				r := c.post("HostGroup.AddIncident", addBody(hostA, fmt.Sprintf("2026-11-%02dT17:06:%02dZ", w+1, i), isolateA))
				var v struct {
					PxgRetVal int `json:"PxgRetVal"`
				}
				if err := json.Unmarshal([]byte(r.text), &v); err != nil || v.PxgRetVal == 0 {
					t.Errorf("answer %+v", r)
					return
				}
				c.post("HostGroup.UpdateIncident", fmt.Sprintf(`{"nId":%d,"pData":{"KLINCDT_IS_HANDLED":false}}`, v.PxgRetVal))
				c.post("HostGroup.FindIncidents", `{"strFilter":"KLINCDT_SEVERITY=2","pFieldsToReturn":[]}`)
			}
		})
	}
	group.Wait()
	seen := make(map[int64]bool)
	for _, i := range s.Incidents() {
		if i.Updates != 1 {
			t.Errorf("incident %d updated %d times", i.ID, i.Updates)
		}
		seen[i.Added.Unix()] = true
	}
	if len(seen) != workers*each || s.Requests()["HostGroup.AddIncident"] != workers*each {
		t.Errorf("%d different incidents of %d", len(seen), workers*each)
	}
	if peak := s.PeakConcurrent(); peak < 1 || peak > workers {
		t.Errorf("peak %d with %d workers", peak, workers)
	}
}
