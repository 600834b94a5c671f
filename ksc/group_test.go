package ksc_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/ksc"
	"github.com/edr-bridge/edr-bridge/ksc/ksctest"
)

func withGroups(c *ksc.ExecutorConfig) { c.Groups = true }

// groupsOf returns the names of an intent that are groups.
func groupsOf(in bridge.Intent) []string {
	return slices.DeleteFunc(slices.Clone(in.Names), func(n string) bool { return !strings.HasPrefix(n, bridge.GroupPrefix) })
}

func inGroups(groups ...string) func(*ksctest.Config) {
	return func(c *ksctest.Config) {
		for i, g := range groups {
			c.Hosts = append(c.Hosts, ksctest.Host{ID: fmt.Sprintf("00000000-0000-0000-0000-%012d", i), NetBIOS: fmt.Sprintf("PC-%d", i), Group: g})
		}
	}
}

func TestIntentHoldsThePathOfTheHostsGroup(t *testing.T) {
	t.Parallel()
	for group, want := range map[string]string{
		"":                            "group:Managed devices",
		"Managed devices":             "group:Managed devices",
		"Managed devices/Servers/DC":  "group:Managed devices/Servers/DC",
		"Managed devices/Серверы ü/_": "group:Managed devices/Серверы ü/_",
		"Unassigned devices/New":      "group:Unassigned devices/New",
	} {
		for _, host := range []string{"PC-0", "00000000-0000-0000-0000-000000000000"} {
			s := startMock(t, inGroups(group))
			e := newExecutor(t, newClient(t, s), withGroups)
			in, ok, err := e.Intend(t.Context(), bridge.Order{ID: "o1", Host: host, Task: isolation}, true)
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			if diff := cmp.Diff([]string{want}, groupsOf(in)); diff != "" {
				t.Errorf("%q: %s", group, diff)
			}
		}
	}
}

func TestGroupsAreAskedForOnceAndOnlyWhenWanted(t *testing.T) {
	t.Parallel()
	s := startMock(t, inGroups("Managed devices/A/B", "Managed devices/A/B", "Managed devices/A/C"))
	groupCalls := func() (n int64) {
		for name, count := range s.Requests() {
			if strings.Contains(name, "Group.G") && name != "HostGroup.GetHostInfo" {
				n += count
			}
		}
		return n
	}
	order := func(host string) bridge.Order { return bridge.Order{ID: "o1", Host: host, Task: isolation} }
	in, _, err := newExecutor(t, newClient(t, s)).Intend(t.Context(), order("PC-0"), true)
	if err != nil || groupCalls() != 0 || len(groupsOf(in)) != 0 {
		t.Fatalf("%d calls although nobody wants groups: %+v, %v", groupCalls(), in, err)
	}
	clock := &settableClock{t: start}
	e := newExecutor(t, newClient(t, s), withGroups, func(c *ksc.ExecutorConfig) { c.Now, c.HostCacheTTL = clock.now, time.Hour })
	for step, c := range []struct {
		host  string
		calls int64
	}{
		{"PC-0", 5}, // two predefined groups, B, A, Managed devices
		{"PC-0", 0},
		{"PC-1", 0},
		{"PC-2", 1}, // C; those above are known
	} {
		before := groupCalls()
		if _, ok, err := e.Intend(t.Context(), order(c.host), true); err != nil || !ok {
			t.Fatal(ok, err)
		}
		if n := groupCalls() - before; n != c.calls {
			t.Errorf("step %d: %d calls, want %d", step, n, c.calls)
		}
		if in, ok, err := e.Intend(t.Context(), order(c.host), false); err != nil || !ok || len(groupsOf(in)) != 1 {
			t.Errorf("step %d: not answered from memory: %v, %v", step, ok, err)
		}
	}
	clock.add(11 * time.Minute)
	before := s.Requests()
	if _, ok, err := e.Intend(t.Context(), order("PC-0"), false); err != nil || ok {
		t.Errorf("a group that was forgotten is not asked for without waiting: %v, %v", ok, err)
	}
	if diff := cmp.Diff(before, s.Requests()); diff != "" {
		t.Error(diff)
	}
	if in, ok, err := e.Intend(t.Context(), order("PC-0"), true); err != nil || !ok || len(groupsOf(in)) != 1 {
		t.Errorf("%v, %v", ok, err)
	}
}

func TestGroupThatCannotBeReadIsLeftOut(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]ksctest.Fault{
		"refused":            {Kind: ksctest.FaultApplication, Method: "HostGroup.GetGroupInfoEx"},
		"no such method":     {Kind: ksctest.FaultHTML, Status: http.StatusNotFound, Method: "HostGroup.GetGroupInfoEx"},
		"odd answer":         {Kind: ksctest.FaultWrongTypes, Method: "HostGroup.GetGroupInfoEx"},
		"roots refused":      {Kind: ksctest.FaultApplication, Method: "HostGroup.GroupIdGroups"},
		"refused on the way": {Kind: ksctest.FaultApplication, Method: "HostGroup.GetGroupInfoEx", Skip: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startMock(t, inGroups("Managed devices/Servers"))
			e := newExecutor(t, newClient(t, s), withGroups)
			addFault(t, s, f)
			o := bridge.Order{ID: "o1", Host: "PC-0", Task: isolation}
			before := int64(0)
			for range 2 {
				in, ok, err := e.Intend(t.Context(), o, true)
				if err != nil || !ok || len(groupsOf(in)) != 0 || !slices.Contains(in.Names, "PC-0") {
					t.Fatalf("%+v, %v, %v", in, ok, err)
				}
				if n := s.Requests()[f.Method]; before != 0 && n != before {
					t.Errorf("asked again at once: %d, %d", before, n)
				}
				before = s.Requests()[f.Method]
			}
		})
	}
	t.Run("unknown to the server", func(t *testing.T) {
		t.Parallel()
		s := startMock(t, func(c *ksctest.Config) { c.Hosts[0].GroupID = 77 })
		in, ok, err := newExecutor(t, newClient(t, s), withGroups).Intend(t.Context(), bridge.Order{ID: "o1", Host: "WS-01", Task: isolation}, true)
		if err != nil || !ok || len(groupsOf(in)) != 0 {
			t.Errorf("%+v, %v, %v", in, ok, err)
		}
	})
}

func TestServerThatIsLostBeforeTheGroupIsReadLeavesTheOrderToBeTriedAgain(t *testing.T) {
	t.Parallel()
	s := startMock(t, inGroups("Managed devices/Servers"))
	e := newExecutor(t, newClient(t, s), withGroups)
	addFault(t, s, ksctest.Fault{Kind: ksctest.FaultReset, Method: "HostGroup.GetGroupInfoEx"})
	o := bridge.Order{ID: "o1", Host: "PC-0", Task: isolation}
	_, ok, err := e.Intend(t.Context(), o, true)
	wantClass(t, err, bridge.Retry)
	if ok {
		t.Error("an intent without the group it could have")
	}
	s.Faults().Clear()
	if in, ok, err := e.Intend(t.Context(), o, true); err != nil || !ok || len(groupsOf(in)) != 1 {
		t.Errorf("%+v, %v, %v", in, ok, err)
	}
}

func TestGroupsThatMakeNoPathAreLeftOut(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"circle":          `{"id":%[1]d,"name":"x","parentId":%[2]d}`,
		"other group":     `{"id":4711,"name":"x","parentId":0}`,
		"no name":         `{"id":%[1]d,"parentId":0}`,
		"control in name": `{"id":%[1]d,"name":"a\u001b[31m","parentId":0}`,
		"long name":       `{"id":%[1]d,"name":"` + strings.Repeat("a", 300) + `","parentId":0}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := 6
			raw := startRaw(t, func(w http.ResponseWriter, _ *http.Request, method string) {
				switch method {
				case "HostGroup.GetHostInfo":
					fmt.Fprint(w, `{"PxgRetVal":{"KLHST_WKS_HOSTNAME":"`+hostA+`","KLHST_WKS_DN":"group:Managed devices","KLHST_WKS_GROUPID":7}}`)
				case "HostGroup.GetGroupInfoEx":
					at = 7 + (at-6)%2 // 7, 8, 7, …
					fmt.Fprintf(w, `{"PxgRetVal":`+answer+`}`, at, 15-at)
				default:
					fmt.Fprint(w, `{"PxgRetVal":0}`)
				}
			})
			e := newExecutor(t, rawClient(t, raw), withGroups)
			in, ok, err := e.Intend(t.Context(), bridge.Order{ID: "o1", Host: hostA, Task: isolation}, true)
			if err != nil || !ok || len(groupsOf(in)) != 0 { // not even by the name of the host
				t.Errorf("%+v, %v, %v", in, ok, err)
			}
			if n := raw.count("HostGroup.GetGroupInfoEx"); n > 32 {
				t.Errorf("%d questions", n)
			}
		})
	}
}

func TestCountHostsCountsAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	s := startMock(t, inGroups(make([]string, 300)...))
	e := newExecutor(t, newClient(t, s))
	n, err := e.CountHosts(t.Context())
	if err != nil || n != 2+300 {
		t.Errorf("got %d, %v", n, err)
	}
	if open := s.OpenAccessors(); open != 0 {
		t.Errorf("%d result sets were left behind", open)
	}
	s.Down()
	if _, err := e.CountHosts(t.Context()); bridge.ClassOf(err) != bridge.Unreachable && bridge.ClassOf(err) != bridge.Retry {
		t.Errorf("got %v", err)
	}
}
