package bridge_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// hung is a follower that does not answer before until, or before its context ends.
type hung struct {
	until <-chan struct{}
	ends  chan error // what its contexts ended with
}

func (f hung) Follow(ctx context.Context, orders []bridge.Order) ([]bridge.Progress, error) {
	select {
	case <-f.until:
		return nil, execErr(bridge.Retry)
	case <-ctx.Done():
		f.ends <- ctx.Err()
		return []bridge.Progress{{OrderID: orders[0].ID, State: bridge.StateRunning, Detail: "seen before"}}, execErr(bridge.Retry)
	}
}

// deaf does not even hear its context.
type deaf struct{ until <-chan struct{} }

func (f deaf) Follow(context.Context, []bridge.Order) ([]bridge.Progress, error) {
	<-f.until
	return nil, execErr(bridge.Retry)
}

func TestAFollowerThatHangsHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	for name, hangs := range map[string]func(until <-chan struct{}) bridge.Follower{
		"until its context ends": func(until <-chan struct{}) bridge.Follower { return hung{until, make(chan error, 100)} },
		"for good":               func(until <-chan struct{}) bridge.Follower { return deaf{until} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				until := make(chan struct{})
				eyes := &scout{answer: func([]bridge.Order) ([]bridge.Progress, error) { return nil, nil }}
				h := openHouse(t, houseConfig{sleeping: true, seed: func(c *cabinet) {
					c.seed(t, stored(kill("o", "WS-1"), bridge.StateAccepted))
					local := stored(kill("here", "here"), bridge.StateAccepted)
					local.Executor = bridge.ExecutorLocal
					c.seed(t, local)
				}})
				h.keepAlone(t, bridge.KeeperConfig{
					FollowEvery: 5 * time.Second,
					Followers:   map[string]bridge.Follower{bridge.ExecutorLocal: hangs(until), bridge.ExecutorKSC: eyes},
				})
				t.Cleanup(func() { close(until) }) // before the keeper is waited for
				time.Sleep(61 * time.Second)
				synctest.Wait()
				eyes.mu.Lock()
				defer eyes.mu.Unlock()
				if n := len(eyes.asked); n != 12 {
					t.Errorf("the other executor was asked %d times in a minute, want 12", n)
				}
			})
		})
	}
}

func TestAFollowerIsTakenItsTimeAndAskedAgain(t *testing.T) {
	t.Parallel()
	for name, every := range map[string]time.Duration{"short": 5 * time.Second, "longer than the patience": 20 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := hung{ends: make(chan error, 100)}
				h := openHouse(t, houseConfig{sleeping: true, seed: func(c *cabinet) {
					c.seed(t, stored(kill("o", "WS-1"), bridge.StateAccepted))
				}})
				h.keepAlone(t, bridge.KeeperConfig{FollowEvery: every, Followers: atKSC(f)})
				began := time.Now()
				for range 2 {
					select {
					case err := <-f.ends:
						if !errors.Is(err, context.DeadlineExceeded) {
							t.Errorf("its context ended with %v, want a deadline", err)
						}
					case <-time.After(2 * time.Hour):
						t.Fatal("a follower that hangs was left alone with its turn")
					}
				}
				if took, most := time.Since(began), 2*max(every, 5*time.Minute)+2*every; took > most {
					t.Errorf("two turns took %s, want at most %s", took, most)
				}
				synctest.Wait()
				h.wantState(t, "o", bridge.StateRunning) // what it had learned was written down
			})
		})
	}
}
