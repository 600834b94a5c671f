package kuma

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/bridgetest"
)

func TestPollIsADurableSource(t *testing.T) {
	t.Parallel()
	bridgetest.TestSource(t, func(t *testing.T) bridgetest.SourceUnderTest {
		t.Helper()
		return openPoll(t, startKuma(t, nil), &memo{}, new(int))
	})
}

func TestPollDeliversOldestFirstAndAGrownAlertAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core := &fakeCore{}
		for i := range 5 {
			core.put(fakeAlert(4-i, time.Now().Add(time.Duration(-i)*time.Second)))
		}
		p := runPoll(t, core, &memo{}, nil)
		for i := range 5 {
			d := receive(t, p)
			if d.Alert.Case != testID(1, i) || d.Alert.Tenant != testID(9, 1) || !strings.HasPrefix(d.Alert.ID, testID(1, i)+"/") {
				t.Fatalf("delivery %d is %+v", i, d.Alert)
			}
			settle(t, d, nil)
		}
		silent(t, p, time.Minute)
		core.put(fakeAlert(2, time.Now()))
		d := receive(t, p)
		if d.Alert.Case != testID(1, 2) {
			t.Errorf("the grown alert is %s", d.Alert.Case)
		}
		settle(t, d, nil)
		silent(t, p, 10*time.Minute)
	})
}

func TestPollWatermarkStaysBeforeWhatIsNotSettled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core, m := &fakeCore{}, &memo{}
		begin := time.Now()
		for i := range 3 {
			core.put(fakeAlert(i, begin.Add(time.Duration(i)*time.Hour)))
		}
		p := runPoll(t, core, m, nil)
		var held []bridge.Delivery
		for range 3 {
			held = append(held, receive(t, p))
		}
		settle(t, held[2], nil)
		settle(t, held[1], nil)
		time.Sleep(5 * time.Second)
		if err := p.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(m.text, `"mark":"`+begin.UTC().Format(time.RFC3339Nano)+`"`) {
			t.Errorf("watermark is %s, want %s", m.text, begin.UTC())
		}
		if err := held[0].Settle(context.Background(), nil); !errors.Is(err, bridge.ErrClosed) {
			t.Errorf("late settle: %v", err)
		}
		again := runPoll(t, core, m, nil)
		d := receive(t, again)
		if d.Alert.Case != testID(1, 0) {
			t.Errorf("after a restart came %s, want the one that was not settled", d.Alert.Case)
		}
		settle(t, d, nil)
		silent(t, again, time.Minute)
	})
}

func TestPollTakesAnAlertThatShowsUpLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core := &fakeCore{}
		p := runPoll(t, core, &memo{}, nil)
		core.put(fakeAlert(1, time.Now()))
		settle(t, receive(t, p), nil)
		core.put(fakeAlert(2, time.Now().Add(-90*time.Second)))
		settle(t, receive(t, p), nil)
		silent(t, p, time.Minute)
	})
}

func TestPollWalksPastPagesThatMoveWhileItReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core := &fakeCore{}
		begin := time.Now()
		const n = 2*AlertPage + 50
		for i := range n {
			core.put(fakeAlert(i, begin.Add(500*time.Microsecond+time.Duration(i)*300*time.Microsecond))) // several in one millisecond
		}
		looks := 0
		core.before = func(q AlertQuery) {
			if len(q.IDs) == 0 {
				if looks++; looks == 2 {
					core.put(fakeAlert(n-1, begin.Add(time.Minute))) // it grows and leaves the first page
				}
			}
		}
		p := runPoll(t, core, &memo{}, func(c *PollConfig) { c.MaxPending = 64 })
		got := map[string]bool{}
		for range n {
			d := receive(t, p)
			if got[d.Alert.Case] {
				t.Fatalf("%s came twice", d.Alert.Case)
			}
			got[d.Alert.Case] = true
			settle(t, d, nil)
		}
		silent(t, p, time.Minute)
	})
}

func TestPollWalksThroughManyAlertsOfOneMillisecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core := &fakeCore{}
		for i := range 2*AlertPage + 7 {
			core.put(fakeAlert(i, time.Now()))
		}
		p := runPoll(t, core, &memo{}, nil)
		for range 2*AlertPage + 7 {
			settle(t, receive(t, p), nil)
		}
		silent(t, p, time.Minute)
	})
}

func TestPollDoesNotTakeWhatWasSettledDuringTheLook(t *testing.T) {
	t.Parallel()
	var b pollBook
	b.init(time.Minute, 10)
	heads := []Alert{fakeAlert(1, testStart()), fakeAlert(2, testStart().Add(time.Second))}
	b.take(heads)
	it, _ := b.next(testStart())
	b.settle(it)
	b.take(heads)
	if len(b.hand) != 1 || b.mark != heads[1].LastSeen {
		t.Errorf("%d in hand, watermark %s", len(b.hand), b.mark)
	}
}

func TestPollStopsWhenKUMARepeatsItself(t *testing.T) {
	t.Parallel()
	core := &fakeCore{}
	for i := range AlertPage {
		core.put(fakeAlert(i, testStart()))
	}
	p, err := NewPoll(PollConfig{Name: "kuma", Client: repeating{core}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.list(t.Context()); err == nil {
		t.Error("a walk that leads nowhere ended well")
	}
}

func TestPollBacksOffAndRecovers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		err  error
		want []time.Duration
	}{
		{"passing", errors.New("connection refused"), []time.Duration{1, 2, 4, 8, 16, 32, 60, 60}},
		{"credentials", &APIError{Status: 403, Message: "access denied"}, []time.Duration{60, 120, 240, 300, 300}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				core := &fakeCore{}
				p := runPoll(t, core, &memo{}, nil)
				<-p.Ready()
				if !p.Connected() || p.Err() != nil {
					t.Error("not connected at first")
				}
				core.fail(c.err)
				time.Sleep(40 * time.Minute)
				looks := core.times()
				for i, want := range c.want {
					if got := looks[i+1].Sub(looks[i]); got != want*time.Second {
						t.Errorf("pause %d is %s, want %s", i, got, want*time.Second)
					}
				}
				if p.Connected() || !errors.Is(p.Err(), c.err) {
					t.Errorf("connected %v, err %v", p.Connected(), p.Err())
				}
				core.fail(nil)
				core.put(fakeAlert(1, time.Now()))
				time.Sleep(5 * time.Minute)
				settle(t, receive(t, p), nil)
				if !p.Connected() {
					t.Error("not connected after it recovered")
				}
			})
		})
	}
}

func TestPollSaysWhenAnAlertIsLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core := &fakeCore{}
		var mu sync.Mutex
		var notes []bridge.Note
		gone := fakeAlert(1, time.Now())
		core.put(gone)
		core.put(Alert{ID: "../x", LastSeen: time.Now(), Document: []byte(`{"id":"../x"}`)})
		core.put(fakeAlert(2, time.Now()))
		core.before = func(q AlertQuery) {
			if len(q.IDs) > 0 && q.IDs[0] == gone.ID {
				core.mu.Lock()
				core.alerts = core.alerts[1:]
				core.mu.Unlock()
			}
		}
		p := runPoll(t, core, &memo{}, func(c *PollConfig) {
			c.OnNote = func(n bridge.Note) { mu.Lock(); defer mu.Unlock(); notes = append(notes, n) }
		})
		d := receive(t, p)
		if d.Alert.Case != testID(1, 2) {
			t.Errorf("delivered %s", d.Alert.Case)
		}
		settle(t, d, nil)
		silent(t, p, time.Hour)
		mu.Lock()
		defer mu.Unlock()
		if len(notes) != 2 || notes[0].What != bridge.NoteLoss || notes[1].Count != 1 || notes[0].Source != "kuma" {
			t.Errorf("notes are %+v, want two losses", notes)
		}
	})
}

func TestPollRemembersThroughADamagedOrMissingWatermark(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core, m := &fakeCore{}, &memo{text: `{"mark":7}`}
		core.put(fakeAlert(1, time.Now().Add(-10*time.Minute)))
		core.put(fakeAlert(2, time.Now().Add(-30*time.Minute)))
		p := runPoll(t, core, m, nil)
		if d := receive(t, p); d.Alert.Case != testID(1, 1) {
			t.Errorf("delivered %s", d.Alert.Case)
		}
		silent(t, p, time.Minute)
	})
	synctest.Test(t, func(t *testing.T) {
		core, m := &fakeCore{}, &memo{err: errors.New("the store is out")}
		core.put(fakeAlert(1, time.Now()))
		p := runPoll(t, core, m, nil)
		silent(t, p, 50*time.Second)
		if p.Connected() {
			t.Error("connected although the watermark is not known")
		}
		m.set("", nil)
		settle(t, receive(t, p), nil)
	})
}

func TestPollRefusesWrongSettings(t *testing.T) {
	t.Parallel()
	core := &fakeCore{}
	for want, cfg := range map[string]PollConfig{
		"name":     {Client: core},
		"client":   {Name: "a"},
		"every":    {Name: "a", Client: core, Every: time.Millisecond},
		"overlap":  {Name: "a", Client: core, Overlap: -1},
		"load":     {Name: "a", Client: core, Load: (&memo{}).load},
		"status":   {Name: "a", Client: core, Statuses: []string{"open"}},
		"tenant":   {Name: "a", Client: core, Tenants: []string{"Main"}},
		"negative": {Name: "a", Client: core, Retry: -1},
	} {
		if _, err := NewPoll(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func FuzzPollWatermark(f *testing.F) {
	f.Add(`{"mark":"2026-11-20T20:00:00Z","done":{"00ff":1795204800000}}`)
	f.Add(`{"mark":"9999-12-31T23:59:59Z"}`)
	f.Fuzz(func(t *testing.T, text string) {
		var b pollBook
		b.init(time.Minute, 4)
		if b.restore(text, testStart()) == nil && text != "" {
			out, _ := b.text()
			var c pollBook
			c.init(time.Minute, 4)
			if err := c.restore(out, testStart()); err != nil || !c.mark.Equal(b.mark) || len(c.done) != len(b.done) {
				t.Errorf("%q becomes %q (%v)", text, out, err)
			}
		}
	})
}
