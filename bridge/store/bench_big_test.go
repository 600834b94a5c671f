package store

import (
	"context"
	"database/sql/driver"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// bigOrders is how many orders the large store of the benchmarks has.
const bigOrders = 1_000_000

// buildBig fills the store of a folder with orders in the states given, their documents and audit records, an order a second, some
// 25,000 a second. What the package itself keeps beside the tables (lists of hosts) is made as the writer makes it.
func buildBig(tb testing.TB, dir string, orders int, state func(i int) bridge.State) {
	tb.Helper()
	ctx := context.Background()
	s, err := Open(ctx, Config{Dir: dir})
	if err != nil {
		tb.Fatal(err)
	}
	if err := s.Close(); err != nil {
		tb.Fatal(err)
	}
	c, err := openConn(ctx, s.path, false)
	if err != nil {
		tb.Fatal(err)
	}
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	// Nothing reads it meanwhile, and a half-made one is thrown away: no log, no syncs, indexes at the end.
	must(c.script(ctx, "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-200000; PRAGMA temp_store=MEMORY"))
	var drop, create string
	must(c.each(ctx, `SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN ('orders', 'alerts', 'audit')`, nil,
		func(row []driver.Value) (bool, error) {
			drop, create = drop+"DROP INDEX "+asText(row[0])+";", create+asText(row[1])+";"
			return true, nil
		}))
	must(c.script(ctx, drop))
	w := &writer{store: s, conn: c, seal: newSeal(nil)}
	at := time.Now().Add(-time.Duration(orders+86400) * time.Second)
	t := &tx{ctx: ctx, conn: c, w: w}
	insert := insertOrder[:len(insertOrder)-len(" ON CONFLICT (id) DO NOTHING")]
	for i := 0; i < orders; {
		must(c.script(ctx, "BEGIN"))
		clear(w.records)
		w.records = w.records[:0]
		for end := min(orders, i+5000); i < end; i++ {
			t.now = at.Add(time.Duration(i) * time.Second)
			must(t.putOld(benchAdmission(tb, int64(i)), insert, int64(i+1), state(i)))
		}
		must(t.end(nil))
	}
	must(c.script(ctx, create))
	t.lastOrder = int64(orders)
	for {
		block, err := t.nextBlock()
		must(err)
		if t.lastOrder < (block+1)*hostBlock {
			break
		}
		must(t.listHosts())
	}
	must(c.script(ctx, "PRAGMA journal_mode=WAL"))
	must(c.close())
}

// putOld writes an order as it stands at the end of its life.
func (t *tx) putOld(a bridge.Admission, insert string, seq int64, to bridge.State) error {
	ready, err := prepareAdmission(a, OwnerRun)
	if err != nil {
		return err
	}
	al, r := &ready.alerts[0], &ready.orders[0]
	if _, err := t.run(insertAlert, seq, al.Source, al.ID, al.Preset, nil, nil, nanos(t.now), nil, al.Raw); err != nil {
		return err
	}
	o := &r.order
	r.seq, r.alertSeq, r.trail, o.Updated, o.Created = seq, seq, t.nextAudit(), t.now, t.now
	o.Intent.Second, o.NotAfter = t.now.Truncate(time.Second), t.now.Add(15*time.Minute)
	rec := r.record(AuditAdmit, "", o.State)
	rec.Alert = al.digest
	args := r.insertArgs()
	t.audit(rec)
	if from := o.State; to != from {
		o.State = to
		if to == bridge.StateQueued {
			o.Due, o.NotAfter = t.now.Add(1000*time.Hour), t.now.Add(1000*time.Hour)
			o.Intent.Second, o.Intent.Body = time.Time{}, ""
			r.seal()
		}
		args = r.insertArgs()
		args[len(args)-1] = fmt.Sprint(r.trail, ",", t.nextAudit())
		t.audit(r.record(AuditMove, from, to))
	}
	_, err = t.run(insert, args...)
	return err
}

// bigDir returns a folder with the large store: EDR_BENCH_STORE, made there if it is not, or one for this run alone.
func bigDir(b *testing.B) string {
	b.Helper()
	dir := os.Getenv("EDR_BENCH_STORE")
	if dir == "" {
		dir = b.TempDir()
	}
	if _, err := os.Stat(dir + "/" + FileName); err != nil {
		buildBig(b, dir, bigOrders, func(int) bridge.State { return bridge.StateDone })
	}
	return dir
}

func openBig(b *testing.B) *Store {
	b.Helper()
	s, err := Open(b.Context(), Config{Dir: bigDir(b)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

// BenchmarkBig measures a store with a million finished orders (aims: open ≤ 1 s, host ≤ 20 ms).
func BenchmarkBig(b *testing.B) {
	dir := bigDir(b)
	b.Setenv("EDR_BENCH_STORE", dir)
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			s, err := Open(b.Context(), Config{Dir: dir})
			if err != nil {
				b.Fatal(err)
			}
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	s := openBig(b)
	for name, f := range map[string]bridge.OrderFilter{
		"host":           {Host: "ws042.corp.local"},
		"host-all":       {Host: "ws042.corp.local", Limit: maxLimit},
		"host-none":      {Host: "nowhere"},
		"host-and-state": {Host: "ws042.corp.local", State: bridge.StateFailed},
		"rule-none":      {Rule: "no such rule"},
		"newest":         {},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := s.Orders(b.Context(), f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("audit-of-host", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Audit(b.Context(), AuditFilter{Host: "ws042.corp.local"}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkPending walks over 100,000 queued orders as a start after a crash does.
func BenchmarkPending(b *testing.B) {
	dir := b.TempDir()
	buildBig(b, dir, 100_000, func(int) bridge.State { return bridge.StateQueued })
	s, err := Open(b.Context(), Config{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for b.Loop() {
		start, page, n := time.Now(), bridge.Page{Limit: 1000}, 0
		for {
			orders, next, err := s.Pending(b.Context(), time.Now().Add(-time.Minute), page)
			if err != nil {
				b.Fatal(err)
			}
			if n == 0 {
				b.ReportMetric(float64(time.Since(start).Microseconds()), "µs-first-page")
			}
			if len(orders) == 0 {
				break
			}
			n, page = n+len(orders), next
		}
		if n != 100_000 {
			b.Fatalf("%d orders, want 100000", n)
		}
	}
}
