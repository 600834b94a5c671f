package store_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/store"
	"github.com/edr-bridge/edr-bridge/mapping"
)

// house is a bridge with everything real but the outside world: mapping, guards, pipeline, keeper and store. It lives in a bubble.
type house struct {
	t      *testing.T
	plan   *plan
	dir    string
	site   *site
	oracle *oracle
	mapper *mapping.Mapping
	ksc    bridge.Executor // in the place of the site; nil = the site

	// Of the process that runs.
	set    *setup
	store  *store.Store
	hold   *bridge.HoldSwitch
	pipe   *bridge.Pipeline
	ctx    context.Context
	stop   context.CancelFunc
	parts  sync.WaitGroup
	inbox  chan bridge.Delivery
	failed []string

	raws    []bridge.Alert // delivered, in the order they came
	settled map[string]bool
	mu      sync.Mutex // guards settled
	serial  int
}

// hear is the source of the house: all of its alerts come in through one.
type hear chan bridge.Delivery

func (h hear) Receive(ctx context.Context) (bridge.Delivery, error) {
	select {
	case d := <-h:
		return d, nil
	case <-ctx.Done():
		return bridge.Delivery{}, context.Cause(ctx)
	}
}

// openPolicyHouse moves in, into the empty folder or the store of a house before; it is called inside a bubble.
func openPolicyHouse(t *testing.T, dir string, old *store.Store, p *plan) *house {
	t.Helper()
	h := &house{t: t, plan: p, dir: dir, store: old, site: newSite(p.Answers, p.Finds, p.Follows), oracle: newOracle(p), settled: map[string]bool{}}
	h.site.judge, h.site.done = h.oracle.judge, h.oracle.done
	var err error
	h.mapper, err = mapping.New(mapping.Config{
		Files: []mapping.RuleFile{{Name: "rules.yaml", Data: []byte(p.yaml())}}, Ceiling: bridge.ModeEnforce, Window: p.Window, Location: time.UTC,
		Sources: map[string]mapping.Source{
			"bus": {Preset: "generic"}, "hook": {Preset: "generic", Tasks: p.HookTasks}, "legacy": {Preset: "python-edr", Host: machines()[ownMachine].netbios},
		},
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, p.yaml())
	}
	h.boot(&p.First)
	return h
}

func (h *house) failf(format string, args ...any) {
	h.failed = append(h.failed, fmt.Sprintf(format, args...))
}

func entries(patterns []string) []bridge.ProtectEntry {
	var out []bridge.ProtectEntry
	for _, p := range patterns {
		out = append(out, bridge.ProtectEntry{Pattern: p})
	}
	return out
}

// boot starts a process with the settings and waits until it has nothing left to do.
func (h *house) boot(s *setup) {
	h.t.Helper()
	protect, err := bridge.NewProtect(bridge.ProtectConfig{
		Hosts: entries(s.Hosts), Processes: entries(s.Processes), Paths: entries(s.Paths), Addresses: entries(s.Addresses),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.set, h.hold, h.site.groups = s, &bridge.HoldSwitch{}, protect.NamesGroups()
	guard, err := bridge.NewGuard(bridge.GuardConfig{
		Protect: protect, Hold: h.hold, Self: ownIdentity(), Ceiling: s.Ceiling, MaxAge: s.MaxAge, MaxAgePID: s.MaxAgePID, MaxAgeOf: s.MaxAgeOf,
		Approve: s.Approve, FourEyes: s.FourEyes, Hours: s.Hours,
	})
	if err != nil {
		h.t.Fatal(err)
	}
	cfg := store.Config{
		Dir: h.dir, Now: time.Now, NotAfter: guard.DeadlineFrom, OnHold: h.heard,
		Policy: bridge.Policy{
			Limits: s.Limits, FlapMax: s.FlapMax, FlapWithin: s.FlapWithin, UndoMax: s.UndoMax, UndoPer: s.UndoPer, Live: s.Live, Lease: s.Lease,
			AskEvery: time.Hour, FourEyes: s.FourEyes, Known: func() (int, bool) { return s.Known, s.Known > 0 },
		},
	}
	if h.store == nil {
		h.store, err = store.Open(context.Background(), cfg)
	} else {
		err = store.Renew(h.store, cfg)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	held, err := h.store.Hold(context.Background())
	if err != nil {
		h.t.Fatal(err)
	}
	h.hold.Set(held)
	head, err := h.store.Anchor(context.Background())
	if err != nil {
		h.t.Fatal(err)
	}
	h.oracle.starts(s, h.store, head.Seq)
	router := bridge.Router{Self: ownIdentity(), Fallback: s.Fallback}
	if s.KSC {
		router.KSC = server{h.site}
	}
	if h.ksc != nil {
		router.KSC = h.ksc
	}
	if s.Local {
		router.Local, router.Processes = agent{h.site}, agent{h.site}
	}
	h.pipe, err = bridge.NewPipeline(bridge.PipelineConfig{Mapper: h.mapper, Store: h.store, Guard: guard, Router: router, InFlight: h.plan.InFlight})
	if err != nil {
		h.t.Fatal(err)
	}
	h.inbox = make(chan bridge.Delivery)
	h.ctx, h.stop = context.WithCancel(context.Background())
	page := bridge.Page{}
	foreign := time.Now().Add(-5 * time.Minute)
	h.parts.Go(func() {
		err := h.pipe.Run(h.ctx, []bridge.NamedSource{{Name: "all", Source: hear(h.inbox)}}, func(ctx context.Context) (orders []bridge.Order, err error) {
			orders, page, err = h.store.Pending(ctx, foreign, page)
			return orders, err
		})
		if err != nil && !errors.Is(err, context.Canceled) {
			h.failf("run: %v", err)
		}
	})
	synctest.Wait()
}

// heard is told of the hold by the store.
func (h *house) heard(to bridge.Hold) {
	h.hold.Set(to)
	if to.Active && (to.Actor == bridge.ActorGuard || to.Actor == bridge.ActorUndo) {
		h.oracle.latch(time.Now(), to.Actor == bridge.ActorUndo)
	}
}

// end stops the process as far as the store.
func (h *house) end() {
	h.stop()
	h.parts.Wait()
}

// shut ends the process.
func (h *house) shut() {
	h.end()
	if err := h.store.Close(); err != nil {
		h.failf("close: %v", err)
	}
	h.store = nil
}

// play does one step and waits until nobody has anything to do any more.
func (h *house) play(s step) {
	switch s.What {
	case "alert":
		h.alert(s.Alert)
	case "again":
		if n := len(h.raws); n > 0 {
			h.deliver(h.raws[n-1-s.N%n])
		}
	case "hand":
		h.hand(s)
	case "hold", "resume":
		h.oracle.press(s.What == "hold", func() {
			if err := h.store.SetHold(h.ctx, bridge.Hold{Active: s.What == "hold", Actor: "cli:alice", Reason: "test"}); err != nil {
				h.failf("hold: %v", err)
			}
		})
	case "approve", "reject", "cancel":
		h.decide(s)
	case "wait":
		time.Sleep(s.Wait)
	case "keeper":
		h.keep()
	case "restart":
		h.shut()
		next := h.set
		if s.Bad {
			next = &h.plan.Other
		}
		h.boot(next)
	}
	synctest.Wait()
}

// alert delivers a document for the first time.
func (h *house) alert(a alert) {
	if h.serial++; a.ID == "new" {
		a.ID = fmt.Sprint("a", h.serial)
	}
	if a.Source == "legacy" {
		a.User, a.File = "", "" // its documents do not tell
	}
	now := time.Now()
	raw := bridge.Alert{Source: a.Source, Received: now, Raw: a.document(now)}
	h.oracle.delivered(raw.Raw, delivered{a, now})
	h.raws = append(h.raws, raw)
	h.deliver(raw)
}

func (h *house) deliver(raw bridge.Alert) {
	d := bridge.Delivery{Alert: raw, Settle: func(_ context.Context, err error) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if err == nil {
			h.settled[string(raw.Raw)] = true
		}
		return nil
	}}
	h.parts.Go(func() {
		select {
		case h.inbox <- d:
		case <-h.ctx.Done():
		}
	})
}

// hand enters an order as the command line does.
func (h *house) hand(s step) {
	o := templates()[s.Task].hand
	o.Host, o.Mode, o.Via, o.Actor = s.Host, bridge.ModeEnforce, s.Via, s.Who
	if bridge.IsIsolation(o.Task) && o.For == 0 {
		o.For = h.set.Lease.Default
	}
	h.serial++
	var err error
	if o.ID, err = bridge.NewOrderID("cli", fmt.Sprint(h.serial), "", o.Task, o.Host); err != nil {
		h.failf("order id: %v", err)
		return
	}
	pipe, ctx := h.pipe, h.ctx
	h.parts.Go(func() {
		if _, err := pipe.Submit(ctx, []bridge.Order{o}); err != nil && ctx.Err() == nil {
			h.oracle.failf("submit: %v", err)
		}
	})
}

// decide takes the word of a person about the nth of the newest orders that could need one.
func (h *house) decide(s step) {
	orders, err := h.store.Orders(h.ctx, bridge.OrderFilter{Limit: 50})
	if err != nil {
		h.failf("orders: %v", err)
		return
	}
	if s.What != "cancel" {
		orders = slices.DeleteFunc(orders, func(o bridge.Order) bool { return o.State != bridge.StateHeld })
	}
	if len(orders) == 0 {
		return
	}
	o := orders[s.N%len(orders)]
	if s.What == "cancel" {
		_, _ = h.store.Cancel(h.ctx, o.ID, s.Who, "test") // most have begun already
		return
	}
	digest, err := o.Digest()
	if err != nil {
		h.failf("digest of %s: %v", o.ID, err)
		return
	}
	if s.Bad {
		digest = hex.EncodeToString([]byte(digest[:32]))
	}
	decided, err := h.store.Decide(h.ctx, bridge.Decision{Order: o.ID, Approve: s.What == "approve", Digest: digest[:12], Actor: s.Who, Why: "test"})
	if err != nil || decided.State != bridge.StateQueued {
		return
	}
	if s.Bad {
		h.failf("order %s was approved by a digest that is not its own", o.ID)
	}
	h.oracle.agreed(o, s.Who)
	_ = h.pipe.Resume(h.ctx, []bridge.Order{decided}) // the keeper finds it otherwise
}

// keep lets a keeper do one turn of everything it does.
func (h *house) keep() {
	cfg := bridge.KeeperConfig{Cabinet: h.store, Pipe: h.pipe, Hold: h.hold, Tick: 5 * time.Second, Poll: 11 * time.Second, FollowEvery: 4 * time.Second}
	if h.set.KSC {
		cfg.Followers = map[string]bridge.Follower{bridge.ExecutorKSC: server{h.site}}
	}
	k, err := bridge.NewKeeper(cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(h.ctx, 11*time.Second)
	defer stop()
	k.Run(ctx)
}

// check looks at what is left in the store when everything is over.
func (h *house) check() {
	ctx := context.Background()
	report, err := h.store.VerifyAudit(ctx, nil)
	if err != nil || report.FirstBad != 0 {
		h.failf("audit chain: %+v, %v", report, err)
	}
	records, err := h.store.Audit(ctx, bridge.AuditFilter{Limit: 10_000})
	if err != nil {
		h.failf("audit: %v", err)
	}
	last := map[string]bridge.AuditRecord{}
	for _, r := range records {
		if r.Order == "" {
			continue
		}
		if before, is := last[r.Order]; is && before.To != r.From || !is && r.What != bridge.AuditAdmit {
			h.failf("order %s: record %d says it came from %q, it was %q", r.Order, r.Seq, r.From, before.To)
		}
		last[r.Order] = r
	}
	orders, err := h.store.Orders(ctx, bridge.OrderFilter{Limit: 10_000})
	if err != nil {
		h.failf("orders: %v", err)
	}
	there := map[string]bool{}
	for _, o := range orders {
		there[o.ID] = true
		if last[o.ID].To != o.State {
			h.failf("order %s is %s, its last record says %q", o.ID, o.State, last[o.ID].To)
		}
		h.oracle.count(o)
	}
	if len(orders) != len(last) {
		h.failf("%d orders, %d of them in the audit chain", len(orders), len(last))
	}
	for _, raw := range h.raws {
		if !h.settled[string(raw.Raw)] {
			continue
		}
		mapped, err := h.mapper.Map(raw)
		if err != nil {
			h.failf("an alert that cannot be read was taken: %v", err)
			continue
		}
		for _, o := range slices.Concat(mapped[0].Orders, mapped[0].Refused) {
			if !there[o.ID] {
				h.failf("an alert was acknowledged without its order %s (%s)", o.ID, o.Rule)
			}
		}
	}
}

// trail shows the audit records, a line each.
func (h *house) trail() (lines []string) {
	records, err := h.store.Audit(context.Background(), bridge.AuditFilter{Limit: 10_000})
	if err != nil {
		return []string{err.Error()}
	}
	for _, r := range records {
		lines = append(lines, fmt.Sprintf("%s %4d %s %s %s %s %s→%s %s %s %s %s", r.Time.Format("Mon 15:04:05"), r.Seq, r.What, r.Order, r.Task, r.Host, r.From, r.To, r.Reason, r.Rule, r.Actor, r.Detail))
	}
	return lines
}
