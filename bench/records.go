package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/store"
	"github.com/edr-bridge/edr-bridge/ksc/ksctest"
)

const (
	admitters    = 64
	admitAlerts  = 40_000
	aloneTries   = 400
	oldOrders    = 1_000_000
	oldBatch     = 2_000
	backlog      = 100_000
	recordBytes  = 500
	recordRounds = 3
)

// admission is an alert with one order that begins at once, as a stream delivers it.
func admission(i int) bridge.Admission {
	id := fmt.Sprintf("a%d", i)
	o := bridge.Order{
		ID: fmt.Sprintf("o%024x", i), AlertID: id, Source: "bus", Rule: "all", At: "rules.yaml:2", Host: hostName(i), State: bridge.StateSending,
		Task: bridge.TerminateProcess{Path: fmt.Sprintf("/opt/bench/%d", i)}, Executor: bridge.ExecutorKSC, Mode: bridge.ModeEnforce,
		NotAfter: time.Now().Add(15 * time.Minute), Dedupe: "k" + id, Window: 15 * time.Minute,
	}
	o.Intent = bridge.Intent{Target: o.Host, Second: time.Now().UTC(), Body: fmt.Sprintf(`{"task":"terminateProcess","params":{"path":"/opt/bench/%d"}}`, i)}
	return bridge.Admission{
		Alerts: []bridge.Alert{{ID: id, Source: "bus", Preset: "generic", Received: time.Now().UTC(), Raw: streamAlert(i)}}, Orders: []bridge.Order{o},
	}
}

func hostName(i int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", i%streamHosts) }

// admitMany admits n alerts from many goroutines and returns alerts a second.
func admitMany(ctx context.Context, st *store.Store, from, n int) (float64, error) {
	var next atomic.Int64
	errs := make([]error, admitters)
	var wg sync.WaitGroup
	begin := time.Now()
	for w := range admitters {
		wg.Go(func() {
			for errs[w] == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				_, errs[w] = st.Admit(ctx, admission(from+i))
			}
		})
	}
	wg.Wait()
	return float64(n) / time.Since(begin).Seconds(), errors.Join(errs...)
}

// policy has one limit about another task and no budget at KSC, as most orders meet it.
func policy() bridge.Policy {
	return bridge.Policy{Limits: []bridge.Limit{{Task: bridge.KindIsolateHost, Max: 5, Per: time.Hour}}}
}

func (s *stage) openStore(ctx context.Context, name string) (*store.Store, error) {
	return store.Open(ctx, store.Config{Dir: filepath.Join(s.dir, name), Policy: policy()})
}

// measureAdmission compares durable admissions with an appended and synced file.
func (s *stage) measureAdmission(ctx context.Context) ([]row, error) {
	var many, alone, synced sample
	for i := range recordRounds {
		st, err := s.openStore(ctx, fmt.Sprintf("admit-%d", i))
		if err != nil {
			return nil, err
		}
		rate, err := admitMany(ctx, st, 0, admitAlerts)
		if err != nil {
			return nil, errors.Join(err, st.Close())
		}
		many = append(many, rate)
		for k := range aloneTries {
			begin := time.Now()
			if _, err := st.Admit(ctx, admission(admitAlerts+k)); err != nil {
				return nil, errors.Join(err, st.Close())
			}
			alone.add(time.Since(begin))
		}
		if err := st.Close(); err != nil {
			return nil, err
		}
		if err := syncs(filepath.Join(s.dir, "synced"), &synced); err != nil {
			return nil, err
		}
	}
	return []row{
		{name: "admission, durable with audit, 64 at once", ours: many, unit: "alerts/s", target: "≥ 10,000/s", higher: true},
		{name: "admission of one alert alone", limit: synced, ours: alone, unit: "ms", target: "≤ 0.5 ms above an fdatasync", note: "limit: 500 bytes appended and synced"},
	}, nil
}

// syncs appends records of the usual size to a file, each with a sync.
func syncs(path string, into *sample) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	record := make([]byte, recordBytes)
	for range aloneTries {
		begin := time.Now()
		if _, err := f.Write(record); err != nil {
			return errors.Join(err, f.Close())
		}
		if err := f.Sync(); err != nil {
			return errors.Join(err, f.Close())
		}
		into.add(time.Since(begin))
	}
	return f.Close()
}

// fillOld admits finished orders, many in one transaction.
func fillOld(ctx context.Context, st *store.Store, n int, state bridge.State) error {
	for from := 0; from < n; from += oldBatch {
		var a bridge.Admission
		for i := from; i < min(from+oldBatch, n); i++ {
			one := admission(i)
			o := one.Orders[0]
			o.State, o.Intent, o.Dedupe = state, bridge.Intent{}, ""
			a.Orders = append(a.Orders, o)
		}
		if _, err := st.Admit(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// measureOld looks how a store with a million finished orders behaves beside an empty one.
func (s *stage) measureOld(ctx context.Context) ([]row, error) {
	st, err := s.openStore(ctx, "old")
	if err != nil {
		return nil, err
	}
	if err := fillOld(ctx, st, oldOrders, bridge.StateRefused); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	if err := st.Close(); err != nil {
		return nil, err
	}
	var opens, lists, full, empty sample
	for i := range recordRounds {
		begin := time.Now()
		if st, err = s.openStore(ctx, "old"); err != nil {
			return nil, err
		}
		opens.add(time.Since(begin))
		for k := range 20 {
			begin := time.Now()
			if _, err := st.Orders(ctx, bridge.OrderFilter{Host: hostName(37 * k)}); err != nil {
				return nil, errors.Join(err, st.Close())
			}
			lists.add(time.Since(begin))
		}
		rate, err := admitMany(ctx, st, oldOrders+i*admitAlerts, admitAlerts)
		if err = errors.Join(err, st.Close()); err != nil {
			return nil, err
		}
		full = append(full, rate)
		fresh, err := s.openStore(ctx, fmt.Sprintf("young-%d", i))
		if err != nil {
			return nil, err
		}
		rate, err = admitMany(ctx, fresh, 0, admitAlerts)
		if err = errors.Join(err, fresh.Close()); err != nil {
			return nil, err
		}
		empty = append(empty, rate)
	}
	return []row{
		{name: "admission with 1,000,000 finished orders", limit: empty, ours: full, unit: "alerts/s", target: "≥ 80 % of an empty store", higher: true, note: "limit: the same with an empty store"},
		{name: "opening that store", ours: opens, unit: "ms", target: "≤ 1 s"},
		{name: "its orders of one host", ours: lists, unit: "ms", target: "≤ 20 ms"},
	}, nil
}

// measureRecovery starts the bridge on a store that holds 100,000 queued orders.
func (s *stage) measureRecovery(ctx context.Context) ([]row, error) {
	if err := s.startKSC(ctx, 0); err != nil {
		return nil, err
	}
	dir, err := s.streamSettings("recovery")
	if err != nil {
		return nil, err
	}
	st, err := store.Open(ctx, store.Config{Dir: filepath.Join(dir, "state"), Policy: policy()})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(fillOld(ctx, st, backlog, bridge.StateQueued), st.Close()); err != nil {
		return nil, err
	}
	first, done := make(chan time.Time, 1), make(chan time.Time, 1)
	var count atomic.Int64
	seen := func(ksctest.Incident) {
		switch count.Add(1) {
		case 1:
			first <- time.Now()
		case backlog:
			done <- time.Now()
		}
	}
	s.onIncident.Store(&seen)
	defer s.onIncident.Store(nil)
	begin := time.Now()
	c, err := s.startStream(ctx, true, "recovery", dir)
	if err != nil {
		return nil, err
	}
	var sent sample
	var rate float64
	for range 2 {
		select {
		case at := <-first:
			sent.add(at.Sub(begin))
		case at := <-done:
			rate = backlog / at.Sub(begin).Seconds()
		case <-time.After(3 * time.Minute):
			return nil, errors.Join(fmt.Errorf("%d of %d orders after 3 min: %s", count.Load(), backlog, c.output()), c.stop())
		}
	}
	rss := c.peakRSS()
	return []row{{name: "start with 100,000 queued orders → first send", ours: sent, unit: "ms", target: "≤ 2 s, RSS ≤ 256 MiB", note: fmt.Sprintf(
		"peak RSS %.0f MiB, all sent at %.0f orders/s", rss, rate)}}, c.stop()
}
