package bridge_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// oneServer notes the hosts and targets it is asked about.
type oneServer struct {
	seen []string
	down error
}

func (s *oneServer) note(o bridge.Order) {
	s.seen = append(s.seen, strings.TrimSuffix(o.Host+" "+o.Intent.Target, " "))
}

func (s *oneServer) Execute(_ context.Context, o bridge.Order) (bridge.Receipt, error) {
	s.note(o)
	return bridge.Receipt{State: bridge.StateAccepted, Ref: "1"}, nil
}

func (s *oneServer) Intend(_ context.Context, o bridge.Order, _ bool) (bridge.Intent, bool, error) {
	s.note(o)
	return bridge.Intent{Target: "id-" + o.Host}, true, nil
}

func (s *oneServer) Reconcile(_ context.Context, o bridge.Order) (bridge.Receipt, bool, error) {
	s.note(o)
	return bridge.Receipt{}, true, nil
}

func (s *oneServer) Follow(_ context.Context, orders []bridge.Order) ([]bridge.Progress, error) {
	for _, o := range orders {
		s.note(o)
	}
	return []bridge.Progress{{OrderID: orders[0].ID, State: bridge.StateDone}}, s.down
}

func TestServersGetTheOrdersOfTheirProfile(t *testing.T) {
	t.Parallel()
	main, branch := &oneServer{down: errors.New("main is down")}, &oneServer{}
	servers := bridge.Servers{"main": main, "branch": branch}
	o := bridge.Order{ID: "o1", Host: "ws1@branch", Task: bridge.IsolateHost{Action: bridge.IsolationOn}}
	in, ok, err := servers.Intend(t.Context(), o, true)
	if err != nil || !ok || in.Target != "id-ws1@branch" {
		t.Fatalf("%+v %v %v", in, ok, err)
	}
	o.Intent = in
	if r, err := servers.Execute(t.Context(), o); err != nil || r.Ref != "1" {
		t.Fatalf("%+v %v", r, err)
	}
	if _, found, err := servers.Reconcile(t.Context(), o); err != nil || !found {
		t.Fatal(found, err)
	}
	other := bridge.Order{ID: "o2", Host: "ws1@main"}
	gone := bridge.Order{ID: "o3", Host: "ws1@gone"}
	progress, err := servers.Follow(t.Context(), []bridge.Order{o, other, gone})
	if err == nil || !strings.Contains(err.Error(), "main is down") || len(progress) != 2 {
		t.Errorf("%+v %v", progress, err)
	}
	if diff := cmp.Diff([]string{"ws1", "ws1 id-ws1", "ws1 id-ws1", "ws1 id-ws1"}, branch.seen); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"ws1"}, main.seen); diff != "" {
		t.Error(diff)
	}
}

func TestServersRefuseAHostWithoutItsProfile(t *testing.T) {
	t.Parallel()
	router := bridge.Router{KSC: bridge.Servers{"main": &oneServer{}, "branch": &oneServer{}}}
	for host, want := range map[string]string{
		"ws1":      "several KSC servers are configured (ksc: branch, main)",
		"ws1@main": "",
		"ws1@gone": `no KSC profile is named "gone" (ksc: branch, main)`,
		"ws1@Main": `no KSC profile is named "Main"`,
	} {
		o := bridge.Order{Host: host, Task: bridge.IsolateHost{Action: bridge.IsolationOn}}
		_, v := router.Choose(o)
		if want == "" && v.State != bridge.StateQueued || want != "" && (v.State != bridge.StateRefused || v.Reason != bridge.ReasonTenant) ||
			!strings.Contains(v.Detail, want) {
			t.Errorf("%s: %+v, want %q", host, v, want)
		}
	}
	only := bridge.Router{KSC: &oneServer{}}
	if _, v := only.Choose(bridge.Order{Host: "ws1@main", Task: bridge.IsolateHost{}}); v.Reason != bridge.ReasonTenant {
		t.Errorf("a profile where there is but one KSC: %+v", v)
	}
}

func TestProfileHidesNoProtectedHost(t *testing.T) {
	t.Parallel()
	p, err := bridge.NewProtect(bridge.ProtectConfig{Hosts: []bridge.ProtectEntry{{Pattern: "dc*"}, {Pattern: "10.0.5.0/24"}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"dc01@branch", "DC01.corp.local@main", "10.0.5.7@branch"} {
		o := bridge.Order{Host: host, Task: bridge.IsolateHost{Action: bridge.IsolationOn}}
		if reason, _ := p.Check(o); reason != bridge.ReasonProtectedHost {
			t.Errorf("%s: got %q", host, reason)
		}
	}
	self := bridge.Identity{Names: []string{"bridge01.corp.local"}}
	if !self.Is("bridge01@main") || self.Is("main@bridge01") {
		t.Error("a host is not known by its profile")
	}
}

func TestLiveTasksOfOneServerLeaveRoomAtAnother(t *testing.T) {
	t.Parallel()
	l := bridge.NewLedger(bridge.Policy{LiveOf: map[string]bridge.LiveTasks{"main": {Hold: 1}, "branch": {Hold: 2}}})
	for i, host := range []string{"a@main", "a@branch"} {
		l.RestoreLive(string(rune('0'+i)), host)
	}
	kill := func(host string) bridge.Order {
		return bridge.Order{ID: host, Rule: "r", Host: host, Executor: bridge.ExecutorKSC, Task: bridge.TerminateProcess{Path: "/x"}}
	}
	if l.Room(kill("b@main")) {
		t.Error("main has room beyond its budget")
	}
	if !l.Room(kill("b@branch")) {
		t.Error("what main works on took the room of branch")
	}
}
