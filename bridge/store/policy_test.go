package store_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/edr-bridge/edr-bridge/bridge/store"
)

const (
	// policyShards times the checks of one rapid.Check are the cases.
	policyShards = 100
)

// quickDir makes a folder in memory where there is one: what is on disk is tested elsewhere.
func quickDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join("/dev/shm", fmt.Sprintf("edr-bridge-policy-%d-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "-")))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// outcome is what became of a plan.
type outcome struct {
	problems []string
	seen     map[string]int
}

// stage is a bubble in which plans are played one after the other, in the same folder.
type stage struct {
	plans    chan plan
	outcomes chan outcome
	first    string // what went wrong first
}

// openStage opens a stage; it closes with the test. Nothing of the stage but its channels may be touched from outside.
func openStage(t *testing.T, play func(h *house)) *stage {
	t.Helper()
	s := &stage{plans: make(chan plan), outcomes: make(chan outcome)}
	dir := quickDir(t)
	var bubble sync.WaitGroup
	bubble.Go(func() {
		defer close(s.outcomes)
		synctest.Test(t, func(t *testing.T) {
			var st *store.Store
			defer func() {
				if st != nil {
					_ = st.Close()
				}
			}()
			for p := range s.plans {
				// A clock that begins in the year 2000 is taken for none; a Friday night shows whether days are kept apart.
				first := time.Date(2001, 1, 5, 23, 40, 0, 0, time.UTC)
				const week = 7 * 24 * time.Hour
				time.Sleep(time.Until(first.Add((max(0, time.Since(first))/week + 1) * week)))
				h := openPolicyHouse(t, dir, st, &p)
				play(h)
				h.check()
				h.end()
				st = h.store
				h.oracle.seen["effects"] = len(h.oracle.effects)
				out := outcome{append(h.failed, h.oracle.problems...), h.oracle.seen}
				if len(out.problems) > 0 {
					out.problems = append(out.problems, h.trail()...)
				}
				s.outcomes <- out
			}
		})
	})
	t.Cleanup(func() {
		close(s.plans)
		bubble.Wait()
		if t.Failed() {
			// Where goroutines meet, a plan may fail only once, and rapid shows nothing then.
			t.Logf("the first failure: %s", s.first)
		}
	})
	return s
}

// show has the plan played and returns its figures. The check fails with the plan and what went wrong.
func (s *stage) show(t *rapid.T, p plan) map[string]int {
	s.plans <- p
	out, ok := <-s.outcomes
	switch {
	case !ok:
		t.Fatal("the stage broke down")
	case len(out.problems) > 0:
		text := p.String() + "\n" + strings.Join(out.problems, "\n")
		if s.first == "" {
			s.first = text
		}
		// The text changes from run to run, which a message of Fatal may not.
		t.Log(text)
		t.FailNow()
	}
	return out.seen
}

// playHistory plays the steps of the plan and lets the keeper clear up behind them.
func (h *house) playHistory() {
	for _, s := range h.plan.Steps {
		h.play(s)
	}
	h.play(step{What: "keeper"})
}

// TestNothingGetsPastThePolicy is promise P5: no alert, rule set and history lets an order through to a protected target, over a
// budget, under hold, or without an audit record.
func TestNothingGetsPastThePolicy(t *testing.T) {
	t.Parallel()
	var cases atomic.Int64
	var mu sync.Mutex // guards total
	total := map[string]int{}
	t.Run("cases", func(t *testing.T) {
		for shard := range policyShards / policyShare {
			t.Run(fmt.Sprint(shard), func(t *testing.T) {
				t.Parallel()
				s := openStage(t, (*house).playHistory)
				rapid.Check(t, func(rt *rapid.T) {
					seen := s.show(rt, rapid.Custom(drawPlan).Draw(rt, "plan"))
					cases.Add(1)
					mu.Lock()
					defer mu.Unlock()
					for word, n := range seen {
						total[word] += n
					}
				})
			})
		}
	})
	t.Logf("%d cases", cases.Load())
	for _, word := range slices.Sorted(maps.Keys(total)) {
		t.Logf("%8d %s", total[word], word)
	}
}
