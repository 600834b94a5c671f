package kuma

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/kuma/kumatest"
)

func TestFeedbackClosesAnAlertWhenAllItsOrdersEndedDone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		do   func(c *chain)
		want bool
	}{
		{"one done", func(c *chain) {
			c.admit(terminate("o1", "a1", bridge.StateSending))
			c.move("o1", bridge.StateAccepted, bridge.StateDone)
		}, true},
		{"two done, of two events", func(c *chain) {
			c.admit(terminate("o1", "a1", bridge.StateSending))
			c.move("o1", bridge.StateDone)
			time.Sleep(30 * time.Second)
			c.admit(terminate("o2", "a2", bridge.StateSending))
			time.Sleep(10 * time.Minute)
			c.move("o2", bridge.StateDone)
		}, true},
		{"only accepted", func(c *chain) {
			c.admit(terminate("o1", "a1", bridge.StateSending))
			c.move("o1", bridge.StateAccepted)
		}, false},
		{"one failed", func(c *chain) {
			c.admit(terminate("o1", "a1", bridge.StateSending))
			c.admit(terminate("o2", "a1", bridge.StateSending))
			c.move("o1", bridge.StateFailed)
			c.move("o2", bridge.StateDone)
		}, false},
		{"one failed before the other came", func(c *chain) {
			c.admit(terminate("o1", "a1", bridge.StateSending))
			c.move("o1", bridge.StateFailed)
			time.Sleep(time.Hour)
			c.admit(terminate("o2", "a2", bridge.StateSending))
			c.move("o2", bridge.StateDone)
		}, false},
		{"one unknown", func(c *chain) {
			c.admit(terminate("o1", "a1", bridge.StateSending))
			c.move("o1", bridge.StateUnknown)
		}, false},
		{"one held", func(c *chain) {
			c.admit(terminate("o1", "a1", bridge.StateSending))
			c.admit(terminate("o2", "a1", bridge.StateHeld))
			c.move("o1", bridge.StateDone)
		}, false},
		{"held, then approved and done", func(c *chain) {
			c.admit(terminate("o2", "a1", bridge.StateHeld))
			time.Sleep(time.Minute)
			c.move("o2", bridge.StateQueued, bridge.StateSending, bridge.StateDone)
		}, true},
		{"shadow", func(c *chain) { c.admit(terminate("o1", "a1", bridge.StateShadow)) }, false},
		{"refused", func(c *chain) { c.admit(terminate("o1", "a1", bridge.StateRefused)) }, false},
		{"expired", func(c *chain) {
			c.admit(terminate("o1", "a1", bridge.StateQueued))
			c.move("o1", bridge.StateExpired)
		}, false},
		{"duplicate of one that is done", func(c *chain) {
			c.admit(terminate("o1", "other", bridge.StateSending))
			c.move("o1", bridge.StateDone)
			o := terminate("o2", "a1", bridge.StateDuplicate)
			o.Covers = "o1"
			c.admit(o)
		}, true},
		{"duplicate of one that becomes done", func(c *chain) {
			c.admit(terminate("o1", "other", bridge.StateSending))
			o := terminate("o2", "a1", bridge.StateDuplicate)
			o.Covers = "o1"
			c.admit(o)
			time.Sleep(time.Minute)
			c.move("o1", bridge.StateDone)
		}, true},
		{"duplicate of one that fails", func(c *chain) {
			c.admit(terminate("o1", "other", bridge.StateSending))
			o := terminate("o2", "a1", bridge.StateDuplicate)
			o.Covers = "o1"
			c.admit(o)
			time.Sleep(time.Minute)
			c.move("o1", bridge.StateFailed)
		}, false},
		{"not an alert of KUMA", func(c *chain) {
			o := terminate("o1", "a1", bridge.StateSending)
			o.Source = "bus"
			c.admit(o)
			c.move("o1", bridge.StateDone)
		}, false},
		{"by hand", func(c *chain) {
			c.admit(terminate("o1", "", bridge.StateSending))
			c.move("o1", bridge.StateDone)
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ch, w := newChain(), &fakeWriter{}
				ch.cases["a1"], ch.cases["a2"] = testID(1, 1), testID(1, 1)
				cfg := ch.config(w, &memo{}, plan())
				runFeedback(t, cfg)
				c.do(ch)
				time.Sleep(40 * time.Second)
				if closed, _, _ := w.state(); len(closed) != 0 {
					t.Errorf("closed within the pause: %v", closed)
				}
				time.Sleep(10 * time.Minute)
				closed, _, _ := w.state()
				if (closed[testID(1, 1)] == 1) != c.want || len(closed) > 1 {
					t.Errorf("closed %v, want %v", closed, c.want)
				}
			})
		})
	}
}

func TestFeedbackKeepsTheActiveListInStep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ch, w := newChain(), &fakeWriter{}
		ch.cases["a1"] = testID(1, 1)
		runFeedback(t, ch.config(w, &memo{}, plan()))
		at := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }
		check := func(what, host string, want ...string) {
			t.Helper()
			time.Sleep(11 * time.Second)
			if _, rows, _ := w.state(); !slices.Equal(rows[host], want) {
				t.Errorf("%s: %v, want %v", what, rows[host], want)
			}
		}
		until := time.Now().Add(time.Hour)
		ch.leases = []bridge.Lease{{Order: "o1", Host: "ws-017", Until: until}}
		ch.admit(isolate("o1", "a1", "WS-017", bridge.IsolationOn, bridge.StateSending))
		check("sending", "WS-017")
		ch.move("o1", bridge.StateAccepted)
		check("accepted", "WS-017", "isolated", "accepted", until.UTC().Format(time.RFC3339))
		ch.move("o1", bridge.StateDone)
		check("done", "WS-017", "isolated", "isolated", until.UTC().Format(time.RFC3339))
		longer := isolate("o2", "a1", "ws-017", bridge.IsolationOn, bridge.StateDuplicate)
		longer.Covers, longer.Reason = "o1", bridge.ReasonLease
		ch.leases = append(ch.leases, bridge.Lease{Order: "o2", Host: "ws-017", Until: until.Add(time.Hour)})
		ch.admit(longer)
		check("a reason more", "WS-017", "isolated", "isolated", until.Add(time.Hour).UTC().Format(time.RFC3339))
		renew := isolate("o3", "", "ws-017", bridge.IsolationOn, bridge.StateSending)
		renew.Actor = bridge.ActorLease
		ch.admit(renew)
		ch.move("o3", bridge.StateFailed)
		check("a renewal that failed", "WS-017", "isolated", "isolated", until.Add(time.Hour).UTC().Format(time.RFC3339))
		ch.leases = nil
		release := isolate("o4", "", "ws-017", bridge.IsolationOff, bridge.StateSending)
		release.Actor = bridge.ActorLease
		ch.admit(release)
		ch.move("o4", bridge.StateAccepted)
		ended := at(0)
		check("release accepted", "WS-017", "isolated", "releasing", ended)
		ch.move("o4", bridge.StateDone)
		ended = at(0)
		check("released", "WS-017", "isolated", "released", ended)

		ch.leases = []bridge.Lease{{Order: "o5", Host: "srv-1"}}
		ch.admit(isolate("o5", "a1", "srv-1", bridge.IsolationOn, bridge.StateDone))
		check("without an end", "srv-1", "isolated", "isolated", "permanent")
		ch.leases = nil
		ch.note(bridge.NoteLapsed, "srv-1: the product has ended the isolation of order o5 by itself")
		ended = at(0)
		check("ended by the product", "srv-1", "isolated", "released", ended)

		ch.admit(isolate("o6", "a1", "ws-9@branch", bridge.IsolationOn, bridge.StateSending))
		ch.move("o6", bridge.StateAccepted, bridge.StateFailed)
		ended = at(0)
		check("failed on the host", "ws-9", "isolated", "failed", ended)
		ch.admit(isolate("o7", "a1", "=cmd|calc", bridge.IsolationOn, bridge.StateDone))
		check("a hostile name", "=cmd|calc")
	})
}

func TestFeedbackUsesTheListOfTheTenant(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ch, w := newChain(), &fakeWriter{}
		ch.cases["a1"] = testID(1, 1)
		p := plan()
		p.Lists = append(p.Lists, FeedbackList{Tenant: testID(9, 1), Correlator: testID(5, 2), List: "branch"})
		runFeedback(t, ch.config(w, &memo{}, p))
		ch.admit(isolate("o1", "a1", "ws-1", bridge.IsolationOn, bridge.StateDone))
		ch.admit(isolate("o2", "", "ws-2", bridge.IsolationOn, bridge.StateDone))
		time.Sleep(time.Minute)
		if _, rows, _ := w.state(); rows["ws-1"][0] != "branch" || rows["ws-2"][0] != "isolated" {
			t.Errorf("rows are %v", rows)
		}
	})
}

func TestFeedbackGoesOnWhereItStoodAndRepeatsNothingThatWasWritten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ch, w, m := newChain(), &fakeWriter{}, &memo{}
		ch.cases["a1"], ch.cases["old"] = testID(1, 1), testID(1, 9)
		ch.admit(terminate("o0", "old", bridge.StateDone)) // before the first start
		time.Sleep(time.Second)
		_, stop := runFeedback(t, ch.config(w, m, plan()))
		ch.admit(terminate("o1", "a1", bridge.StateSending))
		ch.admit(isolate("o2", "a1", "ws-1", bridge.IsolationOn, bridge.StateDone))
		time.Sleep(10 * time.Second)
		stop()
		ch.move("o1", bridge.StateDone)
		runFeedback(t, ch.config(w, m, plan()))
		time.Sleep(5 * time.Minute)
		closed, rows, writes := w.state()
		if closed[testID(1, 1)] != 1 || closed[testID(1, 9)] != 0 || len(rows) != 1 || writes != 2 {
			t.Errorf("closed %v, rows %v, %d writes", closed, rows, writes)
		}
	})
}

func TestFeedbackGivesUpAfterADayAndNeverHoldsUpOthers(t *testing.T) {
	t.Parallel()
	for name, cause := range map[string]error{
		"refused":     &APIError{Status: 404, Message: "alert not found"},
		"credentials": &APIError{Status: 403, Message: "access denied"},
		"lost":        errors.New("connection reset"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ch, w := newChain(), &fakeWriter{}
				w.fail = func(_, key string) error {
					if key == testID(1, 1) {
						return cause
					}
					return nil
				}
				for i := range 5 {
					ch.cases[fmt.Sprint("a", i)] = testID(1, i)
				}
				var logs lockedText
				cfg := ch.config(w, &memo{}, plan())
				cfg.Logger = slog.New(slog.NewTextHandler(&logs, nil))
				f, _ := runFeedback(t, cfg)
				ch.admit(terminate("o1", "a1", bridge.StateDone))
				time.Sleep(2 * time.Minute)
				for i := range 5 {
					ch.admit(terminate(fmt.Sprint("o1", i), fmt.Sprint("a", i), bridge.StateDone))
				}
				time.Sleep(20 * time.Minute)
				if closed, _, _ := w.state(); len(closed) != 4 {
					t.Errorf("after 20 minutes %d are closed, want 4", len(closed))
				}
				if f.Pending() != 1 {
					t.Errorf("%d pending, want 1", f.Pending())
				}
				time.Sleep(26 * time.Hour)
				_, _, writes := w.state()
				if text := logs.String(); strings.Count(text, "level=ERROR") != 1 || !strings.Contains(text, "order=o11") || f.Pending() != 0 {
					t.Errorf("%d pending, log is %s", f.Pending(), text)
				}
				if writes > 80 {
					t.Errorf("%d writes in a day", writes)
				}
			})
		})
	}
}

func TestFeedbackWaitsForTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ch, w, m := newChain(), &fakeWriter{}, &memo{err: errors.New("the store is out")}
		ch.cases["a1"] = testID(1, 1)
		runFeedback(t, ch.config(w, m, plan()))
		time.Sleep(10 * time.Minute)
		m.set("", nil)
		time.Sleep(2 * time.Minute)
		ch.mu.Lock()
		ch.err = errors.New("busy")
		ch.mu.Unlock()
		ch.admit(terminate("o1", "a1", bridge.StateDone))
		time.Sleep(10 * time.Minute)
		ch.mu.Lock()
		ch.err = nil
		ch.mu.Unlock()
		time.Sleep(5 * time.Minute)
		if closed, _, _ := w.state(); closed[testID(1, 1)] != 1 {
			t.Errorf("closed %v", closed)
		}
	})
}

func TestFeedbackRefusesWrongSettings(t *testing.T) {
	t.Parallel()
	good := newChain().config(&fakeWriter{}, &memo{}, plan())
	for want, change := range map[string]func(*FeedbackConfig){
		"required":         func(c *FeedbackConfig) { c.Records = nil },
		"nothing":          func(c *FeedbackConfig) { c.Plan = FeedbackPlan{} },
		"plan.close":       func(c *FeedbackConfig) { c.Plan.Close = "false positive" },
		"plan.lists[0]":    func(c *FeedbackConfig) { c.Plan.Lists = []FeedbackList{{Correlator: "x", List: "y"}} },
		"plan.lists[1]":    func(c *FeedbackConfig) { c.Plan.Lists = append(c.Plan.Lists[:1:1], c.Plan.Lists[0]) },
		"every":            func(c *FeedbackConfig) { c.Every = time.Hour },
		"plan.close_after": func(c *FeedbackConfig) { c.Plan.CloseAfter = -1 },
	} {
		cfg := good
		change(&cfg)
		if _, err := NewFeedback(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestFeedbackReachesTheMockCore(t *testing.T) {
	t.Parallel()
	srv := startKuma(t, nil)
	putAlert(t, srv, testAlert(1, 1, "ws-017"))
	ch := newChain()
	ch.cases["a1"] = testID(1, 1)
	p := plan()
	p.CloseAfter = time.Millisecond
	cfg := ch.config(newTestClient(t, srv, nil), &memo{text: `{"begin":"2026-01-01T00:00:00Z"}`}, p)
	cfg.Every = 100 * time.Millisecond
	f, err := NewFeedback(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = f.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	srv.Inject(kumatest.Fault{Path: "alerts/close", CutAfter: true, Times: 1})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	ch.admit(isolate("o1", "a1", "ws-017", bridge.IsolationOn, bridge.StateDone))
	for {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("nothing was written")
		}
		status, _, _ := srv.AlertState(testID(1, 1))
		if rows := srv.ListRows(testID(5, 1), "isolated"); status == "closed" && len(rows) == 1 && rows[0]["host"] == "ws-017" && f.Pending() == 0 {
			return
		}
	}
}

func FuzzFeedbackState(f *testing.F) {
	f.Add(`{"after":7,"begin":"2026-11-20T20:00:00Z","cases":{"a":{"open":{"o1":true},"seen":"2026-11-20T20:00:00Z"}},"hosts":{"h":{"host":"H","state":"isolated","order":"o","since":"2026-11-20T20:00:00Z"}},"writes":[{"kind":"list","key":"h","first":"2026-11-20T20:00:00Z","due":"2026-11-20T20:00:00Z"}]}`)
	f.Add(`{"begin":"2026-11-20T20:00:00Z","cases":{"a":null},"writes":[null]}`)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := restoreFeedback(text, testStart())
		if err != nil {
			return
		}
		s.forget(testStart())
		out, err := s.text()
		if err != nil {
			return
		}
		if _, err := restoreFeedback(out, testStart()); err != nil {
			t.Errorf("%q becomes %q, which cannot be read: %v", text, out, err)
		}
	})
}
