package store

import (
	"database/sql/driver"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// scanHost finds the orders of a host without lists, newest first.
func scanHost(t *testing.T, s *Store, host, cond string) []string {
	t.Helper()
	out := []string{}
	err := s.read(t.Context(), func(c *conn) error {
		return c.each(t.Context(), `SELECT id FROM orders NOT INDEXED WHERE host = ? `+cond+` ORDER BY seq DESC`, []driver.Value{host},
			func(row []driver.Value) (bool, error) {
				out = append(out, asText(row[0]))
				return true, nil
			})
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestOrdersOfAHostAreFoundThroughItsLists(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const old = 2*hostBlock - 50
	buildBig(t, dir, old, func(i int) bridge.State {
		if i%7 == 0 {
			return bridge.StateFailed
		}
		return bridge.StateDone
	})
	s := openTest(t, Config{Dir: dir})
	check := func(blocks string) {
		t.Helper()
		if got, err := s.setting(t.Context(), settingHosts); got != blocks || err != nil {
			t.Fatalf("%s blocks have lists, %v, want %s", got, err, blocks)
		}
		for _, host := range []string{"ws000.corp.local", "ws042.corp.local", "ws1", "nowhere"} {
			all := scanHost(t, s, host, "")
			for name, tc := range map[string]struct {
				filter bridge.OrderFilter
				want   []string
			}{
				"all":    {bridge.OrderFilter{Limit: maxLimit}, all},
				"limit":  {bridge.OrderFilter{Limit: 7}, all[:min(7, len(all))]},
				"state":  {bridge.OrderFilter{State: bridge.StateFailed, Limit: maxLimit}, scanHost(t, s, host, "AND state = 'failed'")},
				"since":  {bridge.OrderFilter{Since: time.Now().Add(-time.Minute)}, scanHost(t, s, host, fmt.Sprint("AND seq > ", old))},
				"no one": {bridge.OrderFilter{Rule: "no such rule"}, []string{}},
			} {
				tc.filter.Host = host
				got, err := s.Orders(t.Context(), tc.filter)
				if diff := cmp.Diff(tc.want, ids(got)); diff != "" || err != nil {
					t.Errorf("%s, %s: %v (-want +got):\n%s", host, name, err, diff)
				}
			}
			if len(all) > 20 {
				got, err := s.Orders(t.Context(), bridge.OrderFilter{Host: host, Before: all[10], Limit: 5})
				if diff := cmp.Diff(all[11:16], ids(got)); diff != "" || err != nil {
					t.Errorf("%s before an order: %v (-want +got):\n%s", host, err, diff)
				}
				recs, err := s.Audit(t.Context(), AuditFilter{Host: host, Limit: maxLimit})
				seen := map[string]bool{}
				for _, r := range recs {
					seen[r.Order] = true
				}
				if len(seen) != len(all) || err != nil || !slices.IsSortedFunc(recs, func(a, b AuditRecord) int { return int(a.Seq - b.Seq) }) {
					t.Errorf("%s: audit of %d orders, %v, want %d", host, len(seen), err, len(all))
				}
			}
		}
	}
	check("1")
	var fresh []bridge.Order
	for i := range 100 {
		fresh = append(fresh, numbered(t, i))
	}
	admitTest(t, s, fresh[:40]...)
	check("1")
	admitTest(t, s, fresh[40:]...)
	if _, err := s.Changed(t.Context()); err != nil { // the writer has made the lists once it answers again
		t.Fatal(err)
	}
	check("2")
	sound(t, s)
}

func TestOrdersOfABusyHostComeOnceEach(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	buildBig(t, dir, hostBlock+100, func(int) bridge.State { return bridge.StateDone })
	s := openTest(t, Config{Dir: dir})
	tamper(t, s, `UPDATE orders SET host = 'busy' WHERE seq % 3 = 0`, `DELETE FROM hosts`, `DELETE FROM settings WHERE name = 'hosts'`)
	if _, err := s.Changed(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, f := range []bridge.OrderFilter{{Limit: maxLimit}, {Limit: 1500}, {Limit: maxLimit, State: bridge.StateDone}} {
		want := scanHost(t, s, "busy", "")
		f.Host = "busy"
		got, err := s.Orders(t.Context(), f)
		if diff := cmp.Diff(want[:min(f.Limit, len(want))], ids(got)); diff != "" || err != nil || len(want) < 2000 {
			t.Errorf("%+v: %d orders, %v, want %d", f, len(got), err, len(want))
		}
	}
}

func TestSendLeavesTheListsToTheBridge(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	buildBig(t, dir, hostBlock-1, func(int) bridge.State { return bridge.StateDone })
	for _, tc := range []struct{ owner, want string }{{OwnerSend, ""}, {OwnerRun, "1"}} {
		s := openTest(t, Config{Dir: dir, Owner: tc.owner})
		admitTest(t, s, numbered(t, len(tc.owner)))
		if _, err := s.Changed(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, err := s.setting(t.Context(), settingHosts); got != tc.want || err != nil {
			t.Errorf("%s: %q blocks have lists, %v, want %q", tc.owner, got, err, tc.want)
		}
	}
}
