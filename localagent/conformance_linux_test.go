package localagent

import (
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/bridgetest"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

func TestAgentKeepsTheContractOfExecutors(t *testing.T) {
	t.Parallel()
	bridgetest.TestExecutor(t, func(t *testing.T) bridgetest.ExecutorUnderTest {
		a := newAgent(t, func(c *Config) { c.NeverBlock = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")} })
		image := agenttest.Program(t, "sleep", "victim")
		var victims []*victim
		make1 := func(t *testing.T) bridge.Order {
			t.Helper()
			v := sleeper(t, image)
			victims = append(victims, v)
			return about(t, a, v)
		}
		var spared bridge.Order
		refused := func(t *testing.T, change func(*bridge.Order)) bridge.Order {
			t.Helper()
			if spared.ID == "" {
				spared = make1(t)
			}
			o := spared
			change(&o)
			return o
		}
		return bridgetest.ExecutorUnderTest{
			Executor: a, Name: bridge.ExecutorLocal, Good: make1, Repeatable: true,
			Effects: func(*testing.T) int {
				n := 0
				for _, v := range victims {
					if v.dead() {
						n++
					}
				}
				return n
			},
			Refused: map[string]bridgetest.RefusedOrder{
				"another host":      {Order: refused(t, func(o *bridge.Order) { o.Host = "dc01\x1b[31m" }), Reason: bridge.ReasonOtherHost},
				"no host":           {Order: refused(t, func(o *bridge.Order) { o.Host = "" }), Reason: bridge.ReasonOtherHost},
				"too late":          {Order: refused(t, func(o *bridge.Order) { o.NotAfter = time.Now().Add(-time.Second) }), Reason: bridge.ReasonAge},
				"not allowed here":  {Order: refused(t, func(o *bridge.Order) { o.Task = bridge.IsolateHost{Action: 1} }), Reason: bridge.ReasonLocalTasks},
				"no start time":     {Order: refused(t, func(o *bridge.Order) { o.Subject.Start = 0 }), Reason: bridge.ReasonInvalid},
				"no path":           {Order: refused(t, func(o *bridge.Order) { o.Subject.Path = "" }), Reason: bridge.ReasonInvalid},
				"another start":     {Order: refused(t, func(o *bridge.Order) { o.Subject.Start++ }), Reason: bridge.ReasonProcessChanged},
				"another image":     {Order: refused(t, func(o *bridge.Order) { o.Subject.Path = "/bin/\u202etrue" }), Reason: bridge.ReasonProcessChanged},
				"process 1":         {Order: refused(t, func(o *bridge.Order) { o.Subject.PID = 1 }), Reason: bridge.ReasonProtectedProcess},
				"itself":            {Order: refused(t, func(o *bridge.Order) { o.Subject.PID = os.Getpid() }), Reason: bridge.ReasonProtectedProcess},
				"negative pid":      {Order: refused(t, func(o *bridge.Order) { o.Subject.PID = -4 }), Reason: bridge.ReasonInvalid},
				"nobody named":      {Order: refused(t, func(o *bridge.Order) { o.Subject = bridge.Process{} }), Reason: bridge.ReasonInvalid},
				"protected address": {Order: refused(t, func(o *bridge.Order) { o.Task = bridge.BlockAddress{Address: "198.51.100.7"} }), Reason: bridge.ReasonProtectedAddress},
				"hostile address":   {Order: refused(t, func(o *bridge.Order) { o.Task = bridge.BlockAddress{Address: "$(reboot)\n"} }), Reason: bridge.ReasonInvalid},
				"another task type": {Order: refused(t, func(o *bridge.Order) { o.Task = &bridge.TerminateProcess{} }), Reason: bridge.ReasonUnsupported},
			},
		}
	})
}

func TestNewReportsEveryProblem(t *testing.T) {
	t.Parallel()
	_, err := New(Config{Grace: -1, ExitDeadline: -1, MaxTargets: 5000})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"self:", "grace:", "exit_deadline:", "max_targets:"} {
		if !contains(err.Error(), want) {
			t.Errorf("error %q does not mention %s", err, want)
		}
	}
}

func TestCapabilitiesListsEveryTask(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	for i, s := range Capabilities() {
		if s.Task != bridge.Kinds()[i] {
			t.Errorf("row %d is %s, want %s", i, s.Task, bridge.Kinds()[i])
		}
		task, err := bridge.NewTask(s.Task)
		if err != nil {
			t.Fatal(err)
		}
		// What the table promises must be what Execute does with the zero task.
		_, err = a.Execute(t.Context(), order(task))
		ee, ok := errors.AsType[*bridge.ExecError](err)
		if !ok {
			t.Fatalf("%s: error = %v", s.Task, err)
		}
		if got, want := ee.Reason != bridge.ReasonUnsupported, s.Linux == "yes"; got != want {
			t.Errorf("%s: carried out = %v, the table says %q (%v)", s.Task, got, s.Linux, ee)
		}
	}
}

func TestProbeAnswersForEachNeed(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	var names []string
	for _, c := range newAgent(t).Probe(t.Context()) {
		names = append(names, c.Name)
		if c.Detail == "" {
			t.Errorf("%s has no detail", c.Name)
		}
		if !c.OK && (c.Name == "root" || c.Name == "pidfd") {
			t.Errorf("%s is not ok: %s", c.Name, c.Detail)
		}
	}
	if len(names) != 11 {
		t.Errorf("probed %v, want eleven needs", names)
	}
}
