package localagent

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

func TestTerminateEnds200ProcessesAtOnce(t *testing.T) {
	t.Parallel()
	const many = 200
	a := newAgent(t, func(c *Config) { c.MaxTargets = many })
	image := agenttest.Program(t, "sleep", "crowd")
	for name, run := range map[string]func(t *testing.T, vs []*victim){
		"one order each": func(t *testing.T, vs []*victim) {
			orders := make([]bridge.Order, len(vs))
			for i, v := range vs {
				orders[i] = about(t, a, v)
			}
			var wg sync.WaitGroup
			for _, o := range orders {
				wg.Go(func() {
					if r, err := a.Execute(t.Context(), o); err != nil || r.State != bridge.StateDone {
						t.Errorf("receipt = %+v, %v", r, err)
					}
				})
			}
			wg.Wait()
		},
		"one order for all": func(t *testing.T, _ []*victim) {
			done(t, a, order(bridge.TerminateProcess{Path: image}), "and 184 more")
		},
	} {
		t.Run(name, func(t *testing.T) {
			var vs []*victim
			for range many {
				vs = append(vs, sleeper(t, image))
			}
			begin := time.Now()
			run(t, vs)
			t.Logf("ended %d processes in %s", many, time.Since(begin))
			for _, v := range vs {
				if !v.dead() {
					t.Errorf("process %d lives", v.pid)
				}
			}
		})
	}
}

func TestOneStubbornProcessDoesNotHoldUpOtherOrders(t *testing.T) {
	t.Parallel()
	a := newAgent(t, func(c *Config) { c.Grace = 5 * time.Second })
	asked := filepath.Join(t.TempDir(), "asked")
	stubborn := start(t, exec.Command(agenttest.Program(t, "dash", "stubborn"), "-c",
		`trap ': > "$0"' TERM; : > "$0.ready"; while :; do sleep 0.05; done`, asked))
	agenttest.Eventually(t, "the child catches SIGTERM", func() bool { _, err := os.Stat(asked + ".ready"); return err == nil })
	quick := sleeper(t, agenttest.Program(t, "sleep", "quick"))
	slow, fast := about(t, a, stubborn), about(t, a, quick)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = a.Execute(ctx, slow) })
	begin := time.Now()
	done(t, a, fast, "ended pid ")
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("the second order took %s", took)
	}
	agenttest.Eventually(t, "the stubborn process was asked to end", func() bool { _, err := os.Stat(asked); return err == nil })
	// The end of ctx cuts the grace short.
	cancel()
	wg.Wait()
	if took := time.Since(begin); took > 4*time.Second {
		t.Errorf("the first order came back after %s in spite of the ended ctx", took)
	}
	agenttest.Eventually(t, "the stubborn process is dead", stubborn.dead)
}

func TestTerminateEndsAProcessAndItsForks(t *testing.T) {
	t.Parallel()
	a := newAgent(t, func(c *Config) { c.MaxTargets = 1000 })
	shell := agenttest.Program(t, "dash", "forker")
	v := start(t, exec.Command(shell, "-c", `n=0; while [ $n -lt 20 ]; do n=$((n+1)); (while :; do read x < /dev/zero; done) & done; wait`))
	agenttest.Eventually(t, "the children run", func() bool {
		b, _ := os.ReadFile("/proc/" + itoa(v.pid) + "/task/" + itoa(v.pid) + "/children")
		return len(strings.Fields(string(b))) == 20
	})
	done(t, a, order(bridge.TerminateProcess{Path: shell}), "ended pid ")
	done(t, a, order(bridge.TerminateProcess{Path: shell}), "no process matched")
}
