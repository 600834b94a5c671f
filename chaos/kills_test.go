package main

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestDeckHitsEachCrashPointOftenEnoughAlthoughSomeAreMissed(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, seed))
			d := newDeck(random, 200, crashHits)
			hits, atRandom := map[string]int{}, 0
			for range 200 {
				point, passes := d.deal()
				missed := point != "" && passes > 0 && random.IntN(8) == 0
				d.dealt(point, missed)
				switch {
				case point == "":
					atRandom++
				case !missed:
					hits[point]++
				}
			}
			for _, p := range bridge.CrashPoints() {
				if hits[p] != crashHits {
					t.Errorf("%s was hit %d times, want %d", p, hits[p], crashHits)
				}
			}
			if atRandom == 0 {
				t.Error("no kill came at a random instant")
			}
		})
	}
}

func TestDeckPassesAMissedPointLessOften(t *testing.T) {
	t.Parallel()
	d := newDeck(rand.New(rand.NewPCG(1, 1)), 100, 1)
	for range 5 {
		d.dealt(bridge.CrashAdmitted, true)
	}
	for range 50 {
		if n := d.passes(bridge.CrashAdmitted); n != 0 {
			t.Fatalf("got %d passes, want 0 after five misses", n)
		}
	}
}
