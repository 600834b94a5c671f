package localagent

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
	"github.com/edr-bridge/edr-bridge/localagent/firewall"
)

func TestTheReleaseOfALeaseLeavesAClaimStandingAndAPersonsDoesNot(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	a := newAgent(t)
	on := order(bridge.IsolateHost{Action: bridge.IsolationOn})
	on.For = time.Minute
	off := order(bridge.IsolateHost{Action: bridge.IsolationOff})
	off.Actor = bridge.ActorLease
	isolate := func() {
		t.Helper()
		done(t, a, on, "isolated")
		if _, err := a.wall.Isolate(t.Context(), firewall.Isolation{OrderID: "scan", For: time.Hour, Claim: true}); err != nil {
			t.Fatal(err)
		}
	}
	isolate()
	done(t, a, off, "the isolation goes on until")
	if st, err := a.Isolated(t.Context()); err != nil || !st.On || time.Until(st.Until) < 50*time.Minute {
		t.Errorf("after the lease: %+v, %v", st, err)
	}
	off.Actor = "somebody"
	done(t, a, off, "released")
	done(t, a, on, "isolated")
	off.Actor = bridge.ActorLease
	done(t, a, off, "released")
	isolate()
	if r, err := a.Release(t.Context()); err != nil || !strings.Contains(r.Detail, "released") {
		t.Errorf("release by hand: %+v, %v", r, err)
	}
	if st, err := a.Isolated(t.Context()); err != nil || st.On {
		t.Errorf("after the release by hand: %+v, %v", st, err)
	}
}

func TestAResidentAgentIsolatesAgainBeforeItIsReady(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	state := t.TempDir()
	agent := func(resident bool) *Agent {
		return newAgent(t, func(c *Config) { c.State = state; c.Resident = resident })
	}
	done(t, agent(false), order(bridge.IsolateHost{Action: bridge.IsolationOn}), "isolated")
	// A reboot loses every rule.
	if out, err := exec.Command("/usr/sbin/nft", "flush", "ruleset").CombinedOutput(); err != nil {
		t.Skipf("this test needs nft: %v %s", err, out)
	}
	a := agent(true)
	if err := a.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st, err := a.Isolated(t.Context()); err != nil || !st.On {
		t.Errorf("isolated as %+v, %v", st, err)
	}
}
