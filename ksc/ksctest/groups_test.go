package ksctest

import (
	"strings"
	"testing"
	"time"
)

func TestGroupsAreToldInTheVendorsShape(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.Hosts = append(cfg.Hosts, Host{ID: "dc-1", Group: "Managed devices/Servers/DC"}, Host{ID: "dc-2", Group: "Managed devices/Servers/DC"})
	s := startServer(t, cfg)
	if err := s.AddHost(Host{ID: "new-1", Group: "Unassigned devices/New"}); err != nil {
		t.Fatal(err)
	}
	c := newSession(t, s)
	for _, test := range []struct{ method, args, want string }{
		{"HostGroup.GroupIdGroups", `{}`, `{"PxgRetVal":0}`},
		{"HostGroup.GroupIdUnassigned", ``, `{"PxgRetVal":1}`},
		{"HostGroup.GetGroupInfo", `{"nGroupId":0}`, `{"PxgRetVal":{"id":0,"name":"Managed devices","parentId":-1}}`},
		{"HostGroup.GetGroupInfoEx", `{"nGroupId":1003,"pArrAttributes":["id","name","parentId"]}`, `{"PxgRetVal":{"id":1003,"name":"DC","parentId":1002}}`},
		{"HostGroup.GetGroupInfoEx", `{"nGroupId":1002,"pArrAttributes":["parentId"]}`, `{"PxgRetVal":{"parentId":0}}`},
		{"HostGroup.GetHostInfo", `{"strHostName":"dc-2","pFields2Return":["KLHST_WKS_GROUPID"]}`, `{"PxgRetVal":{"KLHST_WKS_GROUPID":1003}}`},
		{"HostGroup.GetHostInfo", `{"strHostName":"new-1","pFields2Return":["KLHST_WKS_GROUPID"]}`, `{"PxgRetVal":{"KLHST_WKS_GROUPID":1004}}`},
		{"HostGroup.GetHostInfo", `{"strHostName":"` + hostA + `","pFields2Return":["KLHST_WKS_GROUPID"]}`, `{"PxgRetVal":{"KLHST_WKS_GROUPID":3}}`},
	} {
		if r := c.call(test.method, test.args); r.text != test.want {
			t.Errorf("%s %s: got %s, want %s", test.method, test.args, r.text, test.want)
		}
	}
	for args, want := range map[string]int{
		`{"nGroupId":3,"pArrAttributes":["id"]}`: codeNotFound,
		`{"nGroupId":0,"pArrAttributes":["x"]}`:  codeBadParameter,
		`{"nGroupId":"0"}`:                       codeBadParameter,
		`{"nGroupId":0,"pArrAttributes":[` + strings.Repeat(`"id",`, 100) + `"id"]}`: codeBadParameter,
	} {
		if code := c.refused("HostGroup.GetGroupInfoEx", args); code != want {
			t.Errorf("%s: code %d", args, code)
		}
	}
}

func TestGroupThatIsNoPathIsRefused(t *testing.T) {
	t.Parallel()
	for host, want := range map[Host]string{
		{ID: "a", Group: "Servers"}:                     "begins neither",
		{ID: "a", Group: "Managed devices//DC"}:         "empty",
		{ID: "a", Group: "Managed devices/"}:            "empty",
		{ID: "a", Group: "Managed devices", GroupID: 3}: "one of the two",
	} {
		cfg := testConfig()
		cfg.Hosts = []Host{host}
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v", host, err)
		}
	}
}

func TestSearchSeesAnIncidentOnlyAfterItsLag(t *testing.T) {
	t.Parallel()
	s, c, clk := taskServer(t, func(cfg *Config) { cfg.SearchLag = time.Minute })
	c.add(hostA, noon, isolateA)
	all := `(KLINCDT_IS_HANDLED=0)`
	clk.add(59 * time.Second)
	if got := c.find(all); len(got) != 0 || len(s.Incidents()) != 1 {
		t.Errorf("found %v after 59 s", got)
	}
	clk.add(time.Second)
	if got := c.find(all); len(got) != 1 {
		t.Errorf("found %v after a minute", got)
	}
}
