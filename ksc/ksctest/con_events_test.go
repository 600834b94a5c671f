package ksctest

import (
	"testing"
	"time"
)

func TestSubscribersHearOfIncidents(t *testing.T) {
	t.Parallel()
	s, c, clk := taskServer(t, nil)
	if code := c.refused("ConEvents.Retrieve", "{}"); code != codeNotFound {
		t.Errorf("without a subscription: code %d", code)
	}
	r := c.call("ConEvents.Subscribe", `{"wstrEvent":"KLSRV_EV_INCIDENT_ADDED","pFilter":{}}`)
	if r.text != `{"PxgRetVal":1,"nPeriod":1000}` {
		t.Errorf("subscribed %s", r.text)
	}
	other := newSession(t, s)
	other.add(hostA, noon, isolateA)
	want := `{"PxgRetVal":true,"pEvents":[{"type":"params","value":{"KLSRV_CON_EVENT_TYPE":"KLSRV_EV_INCIDENT_ADDED","KLSRV_CON_EVENT_PARAMS":{"type":"params","value":{"KLINCDT_ID":1,"KLINCDT_SEVERITY":2,"KLINCDT_TYPE":""}},"KLSRV_CON_EVENT_BIRTH_TIME":{"type":"datetime","value":"2026-11-20T17:06:56Z"},"KLSRV_CON_EVENT_LIFE_TIME":300}}],"nPeriod":1000}`
	if r := c.call("ConEvents.Retrieve", "{}"); r.text != want {
		t.Errorf("got %s", r.text)
	}
	if code := c.refused("ConEvents.Retrieve", "{}"); code != codeNotNow {
		t.Errorf("too fast: code %d", code)
	}
	clk.add(time.Second)
	if r := c.call("ConEvents.Retrieve", "{}"); r.text != `{"PxgRetVal":false,"pEvents":[],"nPeriod":1000}` {
		t.Errorf("nothing more: %s", r.text)
	}
	c.call("ConEvents.UnSubscribe", `{"nSubsId":1}`)
	if code := c.refused("ConEvents.UnSubscribe", `{"nSubsId":1}`); code != codeNotFound {
		t.Errorf("code %d", code)
	}
	for range maxSubscriptions {
		c.call("ConEvents.Subscribe", `{"wstrEvent":"X"}`)
	}
	if code := c.refused("ConEvents.Subscribe", `{"wstrEvent":"X"}`); code != codeTooMany {
		t.Errorf("code %d", code)
	}
	c.call("Session.EndSession", "{}")
	if n := s.feed.subscribed.Load(); n != 0 {
		t.Errorf("%d subscribers left", n)
	}
}
