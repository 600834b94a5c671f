package store

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// lived fills a store with n orders, an hour apart, each with a document; every one is done before the next comes, but those whose
// number open picks stay queued.
func lived(t *testing.T, s *Store, c *clock, n int, open ...int) []bridge.Order {
	t.Helper()
	var out []bridge.Order
	for i := range n {
		o := numbered(t, i)
		o.NotAfter = c.now().Add(1000 * time.Hour)
		o.Intent = bridge.Intent{Target: o.Host}
		admitted, err := s.Admit(t.Context(), bridge.Admission{
			Alerts: []bridge.Alert{
				{ID: o.AlertID, Source: o.Source, Received: c.now(), Raw: fmt.Appendf(nil, `{"n":%d}`, i)},
				{ID: "twin", Source: o.Source, Received: c.now(), Raw: fmt.Appendf(nil, `{"n":%d}`, i)},
			},
			Orders: []bridge.Order{o},
		})
		if err != nil {
			t.Fatal(err)
		}
		o = admitted[0].Order
		if !slices.Contains(open, i) {
			for _, to := range []bridge.State{bridge.StateSending, bridge.StateDone} {
				o = moveTest(t, s, o, to)
			}
		}
		out = append(out, o)
		c.add(time.Hour)
	}
	return out
}

// shape is how much is in a store.
func shape(t *testing.T, s *Store) (out struct{ Orders, Alerts, Records int64 }) {
	t.Helper()
	err := s.read(t.Context(), func(c *conn) error {
		row, err := c.first(t.Context(), `SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM alerts), (SELECT count(*) FROM audit)`)
		if err == nil {
			out.Orders, out.Alerts, out.Records = asInt(row[0]), asInt(row[1]), asInt(row[2])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sound fails the test unless chain, pages and trails of the store hold.
func sound(t *testing.T, s *Store) AuditReport {
	t.Helper()
	rep, err := s.VerifyAudit(t.Context(), nil)
	if err != nil || rep.FirstBad != 0 {
		t.Fatalf("audit: %+v, %v", rep, err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	return rep
}

// archives returns the content of all archives of a folder in the order of their records.
func archives(t *testing.T, dir string) (all []byte, names []string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "audit-*.jsonl.gz"))
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(found, func(a, b string) int { return first(t, a) - first(t, b) })
	for _, path := range found {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all, names = append(all, raw...), append(names, filepath.Base(path))
	}
	return all, names
}

func first(t *testing.T, path string) (n int) {
	t.Helper()
	if _, err := fmt.Sscanf(filepath.Base(path), "audit-%d-", &n); err != nil {
		t.Fatal(path, err)
	}
	return n
}

func TestArchiveKeepsTheChain(t *testing.T) {
	t.Parallel()
	for name, key := range map[string][]byte{"plain": nil, "keyed": []byte("0123456789abcdef")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, dir := newClock(), filepath.Join(t.TempDir(), "archive")
			cfg := Config{Now: c.now}
			if key != nil {
				cfg.AuditKey = keyOf(key)
			}
			s := openTest(t, cfg)
			orders := lived(t, s, c, 40)
			before := sound(t, s)
			// Ten orders a step, as a daily call would do it.
			for step := 1; step <= 3; step++ {
				rep, err := s.Archive(t.Context(), newClock().at.Add(time.Duration(step)*10*time.Hour-time.Minute), dir)
				if err != nil {
					t.Fatal(err)
				}
				if rep.Orders != 10 || rep.Alerts != 20 || rep.Stays == "" || rep.First != int64(first(t, rep.File)) {
					t.Errorf("step %d: %+v, want 10 orders and 20 documents", step, rep)
				}
				if info, err := os.Stat(rep.File); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("archive: %v, %v, want mode 0600", info.Mode(), err)
				}
				sound(t, s)
				again, err := s.Archive(t.Context(), newClock().at.Add(time.Duration(step)*10*time.Hour-time.Minute), dir)
				if err != nil || again.File != "" || again.Records != 0 {
					t.Errorf("the same again: %+v, %v, want nothing to do", again, err)
				}
			}
			if got := shape(t, s); got.Orders != 10 || got.Alerts != 20 {
				t.Errorf("left in the store: %+v, want 10 orders and 20 documents", got)
			}
			after := sound(t, s)
			if after.First != 91 {
				t.Errorf("the chain begins with %d, want 91", after.First)
			}
			all, names := archives(t, dir)
			rep, err := VerifyExport(bytes.NewReader(all), key, nil)
			if err != nil || rep.FirstBad != 0 || rep.First != 1 || rep.Head.Seq != after.First-1 {
				t.Errorf("archives %v: %+v, %v", names, rep, err)
			}
			// An anchor from before is good for what is left, a wrong one is found in the archive or in the store.
			if rep, err := s.VerifyAudit(t.Context(), &before.Head); err != nil || rep.FirstBad != 0 {
				t.Errorf("the anchor of before: %+v, %v", rep, err)
			}
			if _, err := s.Order(t.Context(), orders[0].ID); !errors.Is(err, bridge.ErrNotFound) {
				t.Errorf("an archived order: %v, want ErrNotFound", err)
			}
			if got, err := s.Audit(t.Context(), AuditFilter{Order: orders[35].ID}); err != nil || len(got) != 3 {
				t.Errorf("audit of an order that stayed: %d records, %v, want 3", len(got), err)
			}
			admitTest(t, s, numbered(t, 99))
			sound(t, s)
		})
	}
}

func keyOf(key []byte) func(ctx context.Context) ([]byte, error) {
	return func(context.Context) ([]byte, error) { return key, nil }
}

func TestArchiveHoldsTheOrdersAndDocumentsItTakes(t *testing.T) {
	t.Parallel()
	c, dir := newClock(), t.TempDir()
	s := openTest(t, Config{Now: c.now})
	orders := lived(t, s, c, 5)
	// A document that led to no order goes too.
	if _, err := s.Admit(t.Context(), bridge.Admission{Alerts: []bridge.Alert{{ID: "lone", Source: "bus", Received: c.now(), Raw: []byte("lone")}}}); err != nil {
		t.Fatal(err)
	}
	lived2 := numbered(t, 50)
	admitTest(t, s, lived2)
	if _, err := s.Admit(t.Context(), bridge.Admission{Alerts: []bridge.Alert{{ID: "last", Source: "bus", Received: c.now(), Raw: []byte("last")}}}); err != nil {
		t.Fatal(err)
	}
	rep, err := s.Archive(t.Context(), c.now().Add(time.Second), dir)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(rep.File)
	if err != nil {
		t.Fatal(err)
	}
	var gotOrders, gotAlerts []string
	docs := map[int64]string{}
	if err := readLines(bytes.NewReader(raw), lineReader{
		order: func(o orderJSON) error {
			gotOrders = append(gotOrders, fmt.Sprint(o.ID, " ", o.State, " ", docs[o.Alert], " ", string(o.Params)))
			return nil
		},
		alert: func(a alertJSON) error {
			docs[a.Seq] = string(a.Raw)
			if a.RawOf > 0 {
				docs[a.Seq] = docs[a.RawOf]
			}
			gotAlerts = append(gotAlerts, a.ID+" "+docs[a.Seq])
			return nil
		},
	}); err != nil {
		t.Fatal(err)
	}
	var wantOrders, wantAlerts []string
	for i, o := range orders {
		params, err := bridge.EncodeParams(o.Task)
		if err != nil {
			t.Fatal(err)
		}
		wantOrders = append(wantOrders, fmt.Sprintf(`%s done {"n":%d} %s`, o.ID, i, params))
		wantAlerts = append(wantAlerts, fmt.Sprintf(`%s {"n":%d}`, o.AlertID, i), fmt.Sprintf(`twin {"n":%d}`, i))
	}
	wantAlerts = append(wantAlerts, "lone lone")
	slices.Sort(gotAlerts)
	slices.Sort(wantAlerts)
	if diff := cmp.Diff(wantOrders, gotOrders); diff != "" {
		t.Errorf("orders (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wantAlerts, gotAlerts); diff != "" {
		t.Errorf("documents (-want +got):\n%s", diff)
	}
	if got := shape(t, s); got.Orders != 1 || got.Alerts != 1 {
		t.Errorf("left in the store: %+v, want the last order and the last document", got)
	}
	sound(t, s)
}

func TestArchiveLeavesADocumentThatAnotherAlertStandsFor(t *testing.T) {
	t.Parallel()
	c, dir := newClock(), t.TempDir()
	s := openTest(t, Config{Now: c.now})
	// One delivery of two alerts, whose document is stored once, with the first; the order of the second is not done.
	var a bridge.Admission
	for i := range 2 {
		o := numbered(t, i)
		o.NotAfter = c.now().Add(100 * time.Hour)
		a.Orders = append(a.Orders, o)
		a.Alerts = append(a.Alerts, bridge.Alert{ID: o.AlertID, Source: o.Source, Received: c.now(), Raw: []byte("both")})
	}
	a.Orders[0].State = bridge.StateShadow
	out, err := s.Admit(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	if rep, err := s.Archive(t.Context(), c.now().Add(time.Hour), dir); err != nil || rep.Orders != 1 || rep.Records != 1 {
		t.Fatalf("archive: %+v, %v, want the first order", rep, err)
	}
	got, err := s.AlertOf(t.Context(), out[1].Order.ID)
	if string(got.Raw) != "both" || err != nil {
		t.Errorf("the document of the order that stayed: %q, %v", got.Raw, err)
	}
	sound(t, s)
}

func TestKeyedChainStaysKeyedBehindItsArchive(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := openTest(t, Config{Now: c.now, AuditKey: keyOf([]byte(testKey))})
	lived(t, s, c, 10)
	rep, err := s.Archive(t.Context(), c.now(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	forged := AuditRecord{Seq: rep.Last + 1, Time: c.now(), What: bridge.NoteArchive, Ref: FormatAnchor(rep.Head), Prev: rep.Head.Hash}
	forged.Hash = newSeal(nil).sum(&forged)
	tamper(t, s, `DELETE FROM audit`, fmt.Sprintf(`INSERT INTO audit (seq, time, what, ref, hash) VALUES (%d, %d, '%s', '%s', x'%x')`,
		forged.Seq, forged.Time.UnixNano(), forged.What, forged.Ref, forged.Hash))
	if got, err := s.VerifyAudit(t.Context(), nil); err != nil || got.FirstBad != forged.Seq || !strings.Contains(got.Problem, "not keyed any more") {
		t.Errorf("%+v, %v, want record %d: not keyed any more", got, err, forged.Seq)
	}
}

func TestArchiveStopsAtWhatMustStay(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		open []int
		sql  string // %s is the id of order 5
		want int64  // orders that go
		why  string
	}{
		"everything ended":     {nil, "", 9, "it is the last one"},
		"an order waits":       {[]int{5}, "", 5, "it is queued"},
		"its window is open":   {nil, `UPDATE orders SET dedupe = 'x', dedupe_until = 4e18 WHERE id = '%s'`, 5, "its window is open"},
		"its window is closed": {nil, `UPDATE orders SET dedupe = 'x', dedupe_until = 4 WHERE id = '%s'`, 9, "it is the last one"},
		"it covers others": {
			nil, `UPDATE orders SET dedupe = 'x', dedupe_until = 4000000000000000000, covers = '%s' WHERE seq = 10`, 5, "it covers others in an open window",
		},
		"a lease rests on it": {nil, `INSERT INTO leases (order_id, effect, open) VALUES ('x', '%s', 1)`, 5, "a lease rests on it"},
		"a lease that ended":  {nil, `INSERT INTO leases (order_id, effect) VALUES ('x', '%s')`, 9, "it is the last one"},
		"a guard counts it":   {nil, `INSERT INTO facts (what, order_id, at, until) VALUES ('charge', '%s', 1, 4000000000000000000)`, 5, "a guard counts it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, dir := newClock(), t.TempDir()
			s := openTest(t, Config{Now: c.now})
			orders := lived(t, s, c, 10, tc.open...)
			if tc.sql != "" {
				tamper(t, s, fmt.Sprintf(tc.sql, orders[5].ID))
			}
			rep, err := s.Archive(t.Context(), c.now().Add(time.Hour), dir)
			if err != nil || rep.Orders != tc.want || !strings.Contains(rep.Stays, tc.why) {
				t.Errorf("%d orders went, the next stays because %q, %v; want %d, %q", rep.Orders, rep.Stays, err, tc.want, tc.why)
			}
			if got := shape(t, s); got.Orders != 10-tc.want {
				t.Errorf("%d orders are left, want %d", got.Orders, 10-tc.want)
			}
			if _, err := s.AlertOf(t.Context(), orders[tc.want].ID); err != nil {
				t.Errorf("the document of the first order that stays: %v", err)
			}
			sound(t, s)
		})
	}
}

func TestArchiveTakesAnOrderWithItsLastRecord(t *testing.T) {
	t.Parallel()
	c, dir := newClock(), t.TempDir()
	s := openTest(t, Config{Now: c.now})
	long := numbered(t, 100)
	long.NotAfter = c.now().Add(100 * time.Hour)
	long = admitTest(t, s, long)[0]
	lived(t, s, c, 10)
	long = moveTest(t, s, moveTest(t, s, long, bridge.StateSending), bridge.StateDone)
	admitTest(t, s, numbered(t, 101))
	rep, err := s.Archive(t.Context(), newClock().at.Add(5*time.Hour-time.Minute), dir)
	if err != nil || rep.Records != 16 || rep.Orders != 5 {
		t.Errorf("archive: %+v, %v, want 16 records, 5 orders", rep, err)
	}
	if got, err := s.Audit(t.Context(), AuditFilter{Order: long.ID}); err != nil || len(got) != 2 {
		t.Errorf("%d records of the order that took long, %v, want the 2 later ones", len(got), err)
	}
	sound(t, s)
	if rep, err = s.Archive(t.Context(), c.now().Add(time.Hour), dir); err != nil || rep.Orders != 6 {
		t.Errorf("the next archive: %+v, %v, want 6 orders", rep, err)
	}
	sound(t, s)
}

func TestArchiveInterruptedAnywhereLosesNothing(t *testing.T) {
	t.Parallel()
	crash := errors.New("crash")
	points := []string{stopBegun, stopWritten, stopRenamed, stopNoted, stopPiece, stopRecords, stopFinished}
	for _, point := range points {
		for nth := 1; nth <= 2; nth++ {
			t.Run(fmt.Sprint(point, nth), func(t *testing.T) {
				t.Parallel()
				c, dir, out := newClock(), t.TempDir(), t.TempDir()
				s, err := Open(t.Context(), Config{Dir: dir, Now: c.now})
				if err != nil {
					t.Fatal(err)
				}
				lived(t, s, c, 30)
				all := map[int64]AuditRecord{}
				if err := s.ExportAudit(t.Context(), 0, func(r AuditRecord) error { all[r.Seq] = r; return nil }); err != nil {
					t.Fatal(err)
				}
				until, hits := newClock().at.Add(20*time.Hour-time.Minute), 0
				_, err = (&archiver{store: s, dir: out, before: until, stop: func(p string) error {
					if p == point {
						if hits++; hits == nth {
							return crash
						}
					}
					return nil
				}}).run(t.Context())
				if hits >= nth != errors.Is(err, crash) {
					t.Fatalf("ended with %v after %d hits", err, hits)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = openTest(t, Config{Dir: dir, Now: c.now})
				if err := s.Check(t.Context()); err != nil {
					t.Errorf("after the crash: %v", err)
				}
				holds(t, s, out, all)
				if _, err := s.Archive(t.Context(), until, out); err != nil {
					t.Fatal(err)
				}
				sound(t, s)
				holds(t, s, out, all)
				if got := shape(t, s); got.Orders != 10 || got.Alerts != 20 {
					t.Errorf("left after all: %+v, want 10 orders and 20 documents", got)
				}
				if left, err := s.setting(t.Context(), settingArchiving); left != "" || err != nil {
					t.Errorf("the archive is not finished: %q, %v", left, err)
				}
			})
		}
	}
}

// holds fails the test unless every record is in the store or in a whole archive.
func holds(t *testing.T, s *Store, dir string, want map[int64]AuditRecord) {
	t.Helper()
	got := map[int64]AuditRecord{}
	_, names := archives(t, dir)
	for _, name := range names {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := readLines(f, lineReader{record: func(r AuditRecord) error { got[r.Seq] = r; return nil }}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.ExportAudit(t.Context(), 0, func(r AuditRecord) error { got[r.Seq] = r; return nil }); err != nil {
		t.Fatal(err)
	}
	for seq, r := range want {
		if diff := cmp.Diff(r, got[seq]); diff != "" {
			t.Errorf("record %d (-want +got):\n%s", seq, diff)
		}
	}
}

func TestArchiveThatVanishedIsMadeAnewFromWhatIsLeft(t *testing.T) {
	t.Parallel()
	c, out := newClock(), t.TempDir()
	s := openTest(t, Config{Now: c.now})
	lived(t, s, c, 30)
	crash := errors.New("crash")
	until := c.now().Add(-time.Hour)
	rep, err := (&archiver{store: s, dir: out, before: until, stop: func(p string) error {
		if p == stopNoted {
			return crash
		}
		return nil
	}}).run(t.Context())
	if !errors.Is(err, crash) {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(rep.File)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if err := os.WriteFile(rep.File, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	left := shape(t, s)
	again, err := s.Archive(t.Context(), until, out)
	if err != nil || again.First <= 1 || again.File == rep.File {
		t.Fatalf("archive after the first was damaged: %+v, %v", again, err)
	}
	if got := shape(t, s); left.Records-got.Records != again.Records-1 { // a note came
		t.Errorf("%d records went, %d are in the archive", left.Records-got.Records, again.Records)
	}
	sound(t, s)
}

func TestArchiveDoesNotWriteOverThatOfAnotherStore(t *testing.T) {
	t.Parallel()
	out := t.TempDir()
	var files []string
	for i := range 2 {
		c := newClock()
		c.add(time.Duration(i) * time.Second)
		s := openTest(t, Config{Now: c.now})
		lived(t, s, c, 3)
		rep, err := s.Archive(t.Context(), c.now(), out)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, filepath.Base(rep.File))
	}
	if files[0] != "audit-1-6.jsonl.gz" || files[1] == files[0] {
		t.Errorf("archives %v, want two", files)
	}
}

func TestArchiveRefusesAChainThatDoesNotHold(t *testing.T) {
	t.Parallel()
	c, out := newClock(), t.TempDir()
	s := openTest(t, Config{Now: c.now})
	lived(t, s, c, 10)
	tamper(t, s, `UPDATE audit SET detail = 'x' WHERE seq = 7`)
	if _, err := s.Archive(t.Context(), c.now(), out); err == nil {
		t.Error("a chain with an edited record was archived")
	}
	if got := shape(t, s); got.Orders != 10 || got.Records != 30 {
		t.Errorf("left: %+v, want everything", got)
	}
	if left, err := os.ReadDir(out); len(left) != 0 || err != nil {
		t.Errorf("files left behind: %v, %v", left, err)
	}
}

func TestVerifyFindsAForgedArchiveHead(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := openTest(t, Config{Now: c.now, AuditKey: keyOf([]byte("0123456789abcdef"))})
	lived(t, s, c, 10)
	recs, err := s.Audit(t.Context(), AuditFilter{})
	if err != nil {
		t.Fatal(err)
	}
	// Somebody with write access deletes the beginning and says that it was archived.
	value, err := encodeHead(head{Anchor: Anchor{Seq: 12, Hash: recs[11].Hash}, Keyed: true})
	if err != nil {
		t.Fatal(err)
	}
	tamper(t, s, `DELETE FROM audit WHERE seq <= 12`, fmt.Sprintf(`INSERT INTO settings VALUES ('%s', '%s')`, settingArchived, value))
	if rep, err := s.VerifyAudit(t.Context(), nil); err != nil || rep.FirstBad != 12 {
		t.Errorf("%+v, %v, want record 12 missing", rep, err)
	}
}

func TestVerifyExportNamesTheFirstBadLine(t *testing.T) {
	t.Parallel()
	s := openTest(t, Config{})
	for i := range 10 {
		o := numbered(t, i)
		o.Detail = "<&> \u2028 \x00 \xff"
		admitTest(t, s, o)
	}
	var lines []string
	var last Anchor
	if err := s.ExportAudit(t.Context(), 0, func(r AuditRecord) error {
		line, err := EncodeRecord(r)
		lines, last = append(lines, string(line)), Anchor{Seq: r.Seq, Hash: r.Hash}
		back, derr := DecodeRecord(line)
		if diff := cmp.Diff(r, back); diff != "" || derr != nil {
			t.Errorf("record %d after a round trip: %v (-want +got):\n%s", r.Seq, derr, diff)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		lines []string
		want  int64
	}{
		"as it is":         {lines, 0},
		"from the middle":  {lines[4:], 0},
		"an edit":          {append(slices.Clone(lines[:3]), append([]string{strings.Replace(lines[3], `"host":"ws0"`, `"host":"ws1"`, 1)}, lines[4:]...)...), 4},
		"a deletion":       {append(slices.Clone(lines[:3]), lines[4:]...), 4},
		"an exchange":      {append(slices.Clone(lines[:3]), append([]string{lines[4], lines[3]}, lines[5:]...)...), 4},
		"a cut tail":       {lines[:8], 9},
		"a cut line":       {append(slices.Clone(lines[:8]), lines[8][:40]), 9},
		"a field too much": {append(slices.Clone(lines[:8]), strings.Replace(lines[8], `{"seq"`, `{"x":1,"seq"`, 1)), 9},
		"rubbish":          {[]string{"rubbish"}, 1},
		"nothing":          {nil, 1},
	} {
		text := strings.Join(tc.lines, "\n") + "\n"
		rep, err := VerifyExport(strings.NewReader(text), nil, []Anchor{last})
		if err != nil || rep.FirstBad != tc.want || (rep.Problem == "") != (tc.want == 0) {
			t.Errorf("%s: first bad record %d (%s), %v, want %d", name, rep.FirstBad, rep.Problem, err, tc.want)
		}
	}
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	if _, err := io.WriteString(zip, strings.Join(lines, "\n")); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	if rep, err := VerifyExport(bytes.NewReader(packed.Bytes()), nil, nil); err != nil || rep.FirstBad != 0 || rep.Head != last {
		t.Errorf("compressed: %+v, %v", rep, err)
	}
	if rep, err := VerifyExport(bytes.NewReader(packed.Bytes()[:packed.Len()-20]), nil, nil); err != nil || rep.FirstBad == 0 {
		t.Errorf("compressed and cut: %+v, %v, want a bad record", rep, err)
	}
}
