package ksc_test

import (
	"fmt"
	"testing"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/bridgetest"
	"github.com/edr-bridge/edr-bridge/ksc/ksctest"
)

func TestExecutorKeepsTheContract(t *testing.T) {
	t.Parallel()
	bridgetest.TestExecutor(t, func(t *testing.T) bridgetest.ExecutorUnderTest {
		s := startMock(t, func(c *ksctest.Config) {
			c.BackgroundConnection = true
			for i := range 32 {
				c.Hosts = append(c.Hosts, ksctest.Host{ID: fmt.Sprintf("00000000-0000-0000-0000-%012d", i), NetBIOS: fmt.Sprintf("PC-%02d", i)})
			}
		})
		n := 0
		order := func(host string, task bridge.Task) bridge.Order {
			n++
			return bridge.Order{ID: fmt.Sprintf("o%024d", n), Host: host, Task: task}
		}
		on := bridge.IsolateHost{Action: bridge.IsolationOn}
		intended := isolate(t, 0)
		intended.Task = bridge.BlockAddress{Address: "203.0.113.7"}
		return bridgetest.ExecutorUnderTest{
			Executor: newExecutor(t, newClient(t, s)), Name: bridge.ExecutorKSC,
			Good:    func(*testing.T) bridge.Order { return order(fmt.Sprintf("PC-%02d", n), on) },
			Effects: func(*testing.T) int { return int(s.AddedIncidents()) },
			Refused: map[string]bridgetest.RefusedOrder{
				"without intent":        {Order: order(hostA, on), Class: bridge.Permanent, Reason: bridge.ReasonInvalid},
				"task of the agent":     {Order: intended, Class: bridge.Permanent, Reason: bridge.ReasonUnsupported},
				"SHA-256 to prevent":    {Order: order(hostA, bridge.PreventExecution{Hash: sha256Hash}), Class: bridge.Permanent, Reason: bridge.ReasonUnsupported},
				"path alone to prevent": {Order: order(hostA, bridge.PreventExecution{Path: `C:\a.exe`}), Class: bridge.Permanent, Reason: bridge.ReasonInvalid},
			},
		}
	})
}
