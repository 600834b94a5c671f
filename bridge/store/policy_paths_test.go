package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/store"
)

// path is a way by which an isolation of a host may come to the executors.
type path struct {
	mode string // of the rule
	// late says that the host is put on the never-touch list only when the order waits already.
	late bool
	walk func(h *house, host string)
}

// paths are all ways there are.
func paths() map[string]path {
	say := func(what string) step { return step{What: what, Who: "cli:bob"} }
	from := func(host string) step {
		return step{What: "alert", Alert: alert{Source: "bus", ID: "new", Level: "CRITICAL", Host: host}}
	}
	steps := func(h *house, list ...step) {
		for _, s := range list {
			h.play(s)
		}
	}
	return map[string]path{
		"an alert":                 {"enforce", false, func(h *house, host string) { steps(h, from(host)) }},
		"an alert delivered twice": {"enforce", false, func(h *house, host string) { steps(h, from(host), say("again")) }},
		"an order by hand": {"enforce", false, func(h *house, host string) {
			steps(h, step{What: "hand", Task: "isolate", Host: host, Who: "cli:alice", Via: bridge.ViaAuto})
		}},
		"an order by hand, permanent": {"enforce", false, func(h *house, host string) {
			steps(h, step{What: "hand", Task: "permanent", Host: host, Who: "cli:alice", Via: bridge.ViaKSC})
		}},
		"a dead letter read again": {"enforce", false, func(h *house, host string) {
			h.letter(from(host).Alert)
			steps(h, say("keeper"))
		}},
		"held, and resumed after the list was extended": {"enforce", true, func(h *house, host string) {
			steps(h, say("hold"), from(host), step{What: "restart", Bad: true}, say("resume"), say("keeper"))
		}},
		"by hand, held, and resumed after the list was extended": {"enforce", true, func(h *house, host string) {
			steps(h, say("hold"), step{What: "hand", Task: "isolate", Host: host, Who: "cli:alice", Via: bridge.ViaAuto}, step{What: "restart", Bad: true}, say("resume"), say("keeper"))
		}},
		"approved after the list was extended": {"approve", true, func(h *house, host string) {
			steps(h, from(host), step{What: "restart", Bad: true}, say("approve"), say("keeper"))
		}},
		"approved under hold before the list was extended": {"approve", true, func(h *house, host string) {
			steps(h, from(host), say("hold"), say("approve"), step{What: "restart", Bad: true}, say("resume"), say("keeper"))
		}},
		"queued while KSC is away, and taken up after the list was extended": {"enforce", true, func(h *house, host string) {
			h.site.answers = []answer{{"unreachable", 0}}
			steps(h, from(host), step{What: "restart", Bad: true})
		}},
		"sent without an answer, and not found after the list was extended": {"enforce", true, func(h *house, host string) {
			h.site.answers = []answer{{"gone", time.Minute}}
			steps(h, from(host), step{What: "restart", Bad: true}, step{What: "wait", Wait: 5 * time.Minute})
		}},
	}
}

// letter buries a document and has a person ask for another attempt.
func (h *house) letter(a alert) {
	a.ID = "buried"
	now := time.Now()
	doc := a.document(now)
	h.oracle.delivered(doc, delivered{a, now})
	id := bridge.LetterID(a.Source, "", doc)
	err := h.store.Bury(h.ctx, bridge.DeadLetter{ID: id, Source: a.Source, Document: doc, Error: "the preset was another one"})
	if err == nil {
		_, err = h.store.RetryLetter(h.ctx, id, "cli:alice")
	}
	if err != nil {
		h.failf("letter: %v", err)
	}
}

func TestA5ProtectedHostsAreRefusedOnEveryPath(t *testing.T) {
	t.Parallel()
	for name, target := range map[string]struct {
		host, entry string // the entry is empty where no setting is needed
	}{
		"domain controller by its name":          {"dc01.corp.local", "dc*"},
		"domain controller by another name":      {"10.0.5.10", "DC01"},
		"domain controller by its group":         {"0ecd7a1c-0003-4a5b-8c0d-000000000003", "group:Managed devices/Servers"},
		"KSC":                                    {"KSC01", "ksc01.corp.local"},
		"KSC by its address":                     {"ksc01.corp.local", "10.0.5.1"},
		"SIEM by its address":                    {"10.0.8.8", "10.0.8.0/24"},
		"SIEM by its name, listed by address":    {"SIEM.corp.local", "10.0.8.8"},
		"the bridge's own host":                  {"BRIDGE", ""},
		"the bridge's own host by its address":   {"10.0.9.9", ""},
		"the bridge's own host by the id at KSC": {"0ecd7a1c-0005-4a5b-8c0d-000000000005", ""},
	} {
		for way, p := range paths() {
			t.Run(name+"/"+way, func(t *testing.T) {
				t.Parallel()
				dir := quickDir(t)
				synctest.Test(t, func(t *testing.T) { refusedOn(t, dir, p, target.host, target.entry) })
			})
		}
	}
}

// refusedOn walks the path with an order about a protected host and looks that it ends refused.
func refusedOn(t *testing.T, dir string, p path, host, entry string) {
	t.Helper()
	time.Sleep(time.Until(time.Date(2026, 5, 8, 12, 0, 0, 0, time.UTC)))
	open := setup{
		Ceiling: bridge.ModeEnforce, MaxAge: time.Hour, MaxAgePID: time.Minute, Known: 10, KSC: true, Local: true, Fallback: true, Lease: bridge.LeasePolicy{Default: time.Hour},
	}
	listed := open
	if entry != "" {
		listed.Hosts = []string{entry}
	}
	pl := plan{First: listed, Other: listed, InFlight: 2, Rules: []rule{{Name: "r", Mode: p.mode, Match: "{}", Do: []string{"isolate"}}}}
	if p.late {
		pl.First = open
	}
	h := openPolicyHouse(t, dir, nil, &pl)
	p.walk(h, host)
	orders, err := h.store.Orders(h.ctx, bridge.OrderFilter{})
	if err != nil || len(orders) != 1 {
		t.Fatalf("%d orders, %v, want one", len(orders), err)
	}
	if o := orders[0]; o.State != bridge.StateRefused || o.Reason != bridge.ReasonProtectedHost {
		t.Errorf("the order is %s (%s): %s\n%v", o.State, o.Reason, o.Detail, h.trail())
	}
	if len(h.site.last) > 0 {
		t.Errorf("a host was isolated: %v", h.site.last)
	}
	h.check()
	h.shut()
	for _, problem := range append(h.failed, h.oracle.problems...) {
		t.Error(problem)
	}
}

// anyone is a KSC that knows every host and takes a while for each task.
type anyone struct {
	takes time.Duration

	mu   sync.Mutex // guards sent
	sent []time.Time
}

func (a *anyone) Intend(_ context.Context, o bridge.Order, _ bool) (bridge.Intent, bool, error) {
	return bridge.Intent{Target: "id-" + o.Host, Names: []string{o.Host}, Second: time.Now().UTC().Truncate(time.Second), Body: o.Host}, true, nil
}

func (a *anyone) Execute(ctx context.Context, _ bridge.Order) (bridge.Receipt, error) {
	a.mu.Lock()
	a.sent = append(a.sent, time.Now())
	a.mu.Unlock()
	select {
	case <-time.After(a.takes):
	case <-ctx.Done():
	}
	return bridge.Receipt{State: bridge.StateAccepted, Ref: "1"}, nil
}

func (a *anyone) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.sent)
}

// TestA4AFloodOfOneSourceStopsAtItsBudget has a valid source isolate 1000 hosts: its budget lets five through, the hold is latched, the
// rest is held and nothing lost, and other sources have to wait too. What goes on after a resume stops within a second when somebody
// says hold in another process.
func TestA4AFloodOfOneSourceStopsAtItsBudget(t *testing.T) {
	t.Parallel()
	dir := quickDir(t)
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, 5, 8, 12, 0, 0, 0, time.UTC)))
		const hosts, budget = 1000, 5
		p := plan{
			First: setup{
				Ceiling: bridge.ModeEnforce, MaxAge: time.Hour, MaxAgePID: time.Minute, KSC: true, Lease: bridge.LeasePolicy{Default: 4 * time.Hour},
				Limits: []bridge.Limit{{Task: bridge.KindIsolateHost, Max: budget, Per: time.Hour, By: bridge.LimitBySource}},
			},
			InFlight: 1, Rules: []rule{{Name: "r", Mode: "enforce", Match: "{}", Do: []string{"isolate"}}},
		}
		h := openPolicyHouse(t, dir, nil, &p)
		defer h.shut()
		ksc := &anyone{takes: 10 * time.Second}
		h.use(ksc)
		for i := range hosts {
			h.alert(alert{Source: "bus", ID: "new", Host: fmt.Sprintf("ws%d", i)})
		}
		synctest.Wait()
		time.Sleep(10 * time.Minute)
		if got := ksc.count(); got != budget {
			t.Fatalf("%d hosts were isolated, want %d", got, budget)
		}
		h.want(t, map[bridge.State]int{bridge.StateAccepted: budget, bridge.StateHeld: hosts - budget})
		if on, err := h.store.Hold(h.ctx); err != nil || !on.Active || on.Actor != bridge.ActorGuard {
			t.Errorf("hold %+v, %v, want it latched by the guard", on, err)
		}
		h.alert(alert{Source: "hook", ID: "new", Host: "another"})
		synctest.Wait()
		h.want(t, map[bridge.State]int{bridge.StateAccepted: budget, bridge.StateHeld: hosts - budget + 1})

		keeper, err := bridge.NewKeeper(bridge.KeeperConfig{Cabinet: h.store, Pipe: h.pipe, Hold: h.hold})
		if err != nil {
			t.Fatal(err)
		}
		h.parts.Go(func() { keeper.Run(h.ctx) })
		time.Sleep(time.Second)
		h.play(step{What: "resume"})
		time.Sleep(15 * time.Second)
		other, err := store.Open(h.ctx, store.Config{Dir: dir, Now: time.Now, Owner: store.OwnerSend})
		if err != nil {
			t.Fatal(err)
		}
		if err := other.SetHold(h.ctx, bridge.Hold{Active: true, Actor: "cli:bob", Reason: "stop"}); err != nil {
			t.Fatal(err)
		}
		at := time.Now()
		if err := other.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		again := 0
		ksc.mu.Lock()
		for _, sent := range ksc.sent[budget:] {
			if again++; sent.After(at.Add(time.Second)) {
				t.Errorf("a host was isolated %s after somebody said hold", sent.Sub(at))
			}
		}
		ksc.mu.Unlock()
		if again == 0 || again > budget {
			t.Errorf("%d hosts were isolated between resume and hold, want some and at most %d", again, budget)
		}
		h.check()
		for _, problem := range h.failed {
			t.Error(problem)
		}
	})
}

// use puts another KSC in the place of the site.
func (h *house) use(ksc bridge.Executor) {
	h.shut()
	h.ksc = ksc
	h.boot(h.set)
}

// want compares how many orders stand in each state.
func (h *house) want(t *testing.T, want map[bridge.State]int) {
	t.Helper()
	got := map[bridge.State]int{}
	orders, err := h.store.Orders(h.ctx, bridge.OrderFilter{Limit: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range orders {
		got[o.State]++
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("orders %v, want %v", got, want)
	}
}
