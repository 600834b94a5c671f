package ksctest

import (
	"encoding/json"
	"testing"
)

func TestFindHostsByEachName(t *testing.T) {
	t.Parallel()
	c := newSession(t, startServer(t, testConfig()))
	for filter, want := range map[string]int{
		`(KLHST_WKS_FQDN=\"ws-01.corp.local\")`:          1,
		`(KLHST_WKS_FQDN=\"WS-01.CORP.LOCAL\")`:          1,
		`(KLHST_WKS_WINHOSTNAME=\"WS-02\")`:              1,
		`(KLHST_WKS_DNSNAME=\"ws-01\")`:                  1,
		`(KLHST_WKS_DN=\"WS-0*\")`:                       2,
		`(KLHST_WKS_DN=\"WS-02 [[]lab]\")`:               1,
		`(KLHST_WKS_DN=\"nobody\")`:                      0,
		`KLHST_WKS_HOSTNAME = \"` + hostA + `\"`:         1,
		`(KLHST_WKS_IP_LONG=285540362)`:                  1, // 10.0.5.17, lowest byte first
		`(KLHST_WKS_GROUPID=3)`:                          1,
		`(KLHST_WKS_STATUS & 4 = 4)`:                     2,
		`(KLHST_WKS_STATUS & 16 = 16)`:                   1,
		`(&(KLHST_WKS_GROUPID<>3)(KLHST_WKS_STATUS>=1))`: 1,
	} {
		r := c.call("HostGroup.FindHosts", `{"wstrFilter":"`+filter+`","vecFieldsToReturn":["KLHST_WKS_HOSTNAME","KLHST_WKS_DN","KLHST_WKS_OS_NAME"],"lMaxLifeTime":100}`)
		if got := r.num(t, "PxgRetVal"); got != want {
			t.Errorf("%s: %d hosts, want %d", filter, got, want)
		}
		if items := c.chunk(r.str(t, "strAccessor")); len(items) != want {
			t.Errorf("%s: %d items", filter, len(items))
		}
	}
	if n := c.call("HostGroup.FindHosts", `{"wstrFilter":null}`).num(t, "PxgRetVal"); n != 2 {
		t.Errorf("no filter finds %d", n)
	}
	if code := c.refused("HostGroup.FindHosts", `{"wstrFilter":"","vecFieldsToReturn":["KLINCDT_ID"]}`); code != codeBadParameter {
		t.Errorf("attribute of another class: code %d", code)
	}
}

func TestGetHostInfoAnswersBareParams(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig())
	c := newSession(t, s)
	args := func(id string) string {
		return `{"strHostName":"` + id + `","pFields2Return":["KLHST_WKS_DN","KLHST_WKS_STATUS","KLHST_WKS_EDR_STATUS","KLHST_WKS_IP_LONG"]}`
	}
	want := `{"PxgRetVal":{"KLHST_WKS_DN":"WS-01","KLHST_WKS_STATUS":29,"KLHST_WKS_EDR_STATUS":4,"KLHST_WKS_IP_LONG":{"type":"long","value":285540362}}}`
	if r := c.call("HostGroup.GetHostInfo", args(hostA)); r.text != want {
		t.Errorf("got %s", r.text)
	}
	if code := c.refused("HostGroup.GetHostInfo", args("nobody")); code != codeNotFound {
		t.Errorf("code %d", code)
	}
	if err := s.AddHost(Host{ID: "nobody", DisplayName: "Late"}); err != nil {
		t.Fatal(err)
	}
	var info map[string]json.RawMessage
	c.call("HostGroup.GetHostInfo", args("nobody")).field(t, "PxgRetVal", &info)
	if string(info["KLHST_WKS_DN"]) != `"Late"` || info["KLHST_WKS_IP_LONG"] != nil {
		t.Errorf("got %s", info)
	}
	if err := s.AddHost(Host{ID: "no body"}); err == nil {
		t.Error("a malformed id was taken")
	}
}
