package bridgetest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func storeFindsDuplicates(t *testing.T, s bridge.Store) {
	first := withKey(NewOrder(t, "a1", "ws01"), "k", time.Hour)
	second := withKey(NewOrder(t, "a2", "ws01"), "k", time.Hour)
	other := withKey(NewOrder(t, "a3", "ws01"), "other", time.Hour)
	none := NewOrder(t, "a4", "ws01")
	got := admit(t, s, first, second, other, none)
	wantState(t, got[0].Order, bridge.StateQueued, "")
	wantState(t, got[1].Order, bridge.StateDuplicate, first.ID)
	wantState(t, got[2].Order, bridge.StateQueued, "")
	wantState(t, got[3].Order, bridge.StateQueued, "")
	wantState(t, stored(t, s, second), bridge.StateDuplicate, first.ID)
	move(t, s, move(t, s, got[0].Order, bridge.StateSending), bridge.StateDone)
	third := withKey(NewOrder(t, "a5", "ws01"), "k", time.Hour)
	wantState(t, admit(t, s, third)[0].Order, bridge.StateDuplicate, first.ID)
	refused := withState(withKey(NewOrder(t, "a6", "ws01"), "k", time.Hour), bridge.StateRefused)
	wantState(t, admit(t, s, refused)[0].Order, bridge.StateRefused, "")
}

func storeOpensNoWindowForNothing(t *testing.T, s bridge.Store) {
	for i, state := range []bridge.State{bridge.StateRefused, bridge.StateShadow, bridge.StateDuplicate} {
		admit(t, s, withState(withKey(NewOrder(t, fmt.Sprint("n", i), "ws01"), "k", time.Hour), state))
	}
	wantState(t, admit(t, s, withKey(NewOrder(t, "a1", "ws01"), "k", time.Hour))[0].Order, bridge.StateQueued, "")
	held := withState(withKey(NewOrder(t, "h1", "ws01"), "h", time.Hour), bridge.StateHeld)
	admit(t, s, held)
	wantState(t, admit(t, s, withKey(NewOrder(t, "h2", "ws01"), "h", time.Hour))[0].Order, bridge.StateDuplicate, held.ID)
}

func storeForgetsFailedCover(t *testing.T, s bridge.Store) {
	for _, end := range []bridge.State{bridge.StateFailed, bridge.StateExpired, bridge.StateCancelled, bridge.StateRefused} {
		key := string(end)
		first := admit(t, s, withKey(NewOrder(t, key+"1", "ws01"), key, time.Hour))[0].Order
		move(t, s, first, end)
		second := withKey(NewOrder(t, key+"2", "ws01"), key, time.Hour)
		wantState(t, admit(t, s, second)[0].Order, bridge.StateQueued, "")
		wantState(t, admit(t, s, withKey(NewOrder(t, key+"3", "ws01"), key, time.Hour))[0].Order, bridge.StateDuplicate, second.ID)
	}
}

func storeEndsWindow(t *testing.T, s bridge.Store) {
	const window = 20 * time.Millisecond
	first := withKey(NewOrder(t, "a0", "ws01"), "k", window)
	admit(t, s, first)
	// The window is fixed at its first order: duplicates do not make it longer.
	for i, end := 1, time.Now().Add(10*time.Second); time.Now().Before(end); i++ {
		if admit(t, s, withKey(NewOrder(t, fmt.Sprint("a", i), "ws01"), "k", window))[0].Order.State == bridge.StateQueued {
			return
		}
	}
	t.Errorf("a window of %v has not ended after 10 s", window)
}

func storeAdmitsOneOfMany(t *testing.T, s bridge.Store) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	states := map[bridge.State]int{}
	covers := map[string]int{}
	var queued string
	for i := range 64 {
		wg.Go(func() {
			out, err := s.Admit(t.Context(), bridge.Admission{Orders: []bridge.Order{withKey(NewOrder(t, fmt.Sprint("a", i), "ws01"), "k", time.Hour)}})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("admit: %v", err)
				return
			}
			o := out[0].Order
			states[o.State]++
			if o.State == bridge.StateQueued {
				queued = o.ID
				return
			}
			covers[o.Covers]++
		})
	}
	wg.Wait()
	if states[bridge.StateQueued] != 1 || states[bridge.StateDuplicate] != 63 || covers[queued] != 63 {
		t.Errorf("states %v, covered by %v, want 1 queued (%s) that covers 63 duplicates", states, covers, queued)
	}
}
