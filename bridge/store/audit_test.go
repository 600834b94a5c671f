package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestEveryChangeHasItsAuditRecord(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := openTest(t, Config{Now: c.now})
	o := numbered(t, 1)
	o.State, o.Actor, o.Intent.Body = bridge.StateSending, "cli:admin", `{"task":"x"}`
	raw := []byte(`{"a":1}`)
	admitted, err := s.Admit(t.Context(), bridge.Admission{Alerts: []bridge.Alert{{ID: o.AlertID, Source: o.Source, Raw: raw}}, Orders: []bridge.Order{o, o}})
	if err != nil {
		t.Fatal(err)
	}
	next := admitted[0].Order
	next.Detail, next.Reason = "no answer", bridge.ReasonUnreachable
	moveTest(t, s, next, bridge.StateFailed)
	got, err := s.Audit(t.Context(), AuditFilter{Order: o.ID})
	if err != nil || len(got) != 2 {
		t.Fatalf("audit of the order: %d records, %v, want 2", len(got), err)
	}
	doc, body := sha256.Sum256(raw), sha256.Sum256([]byte(o.Intent.Body))
	want := []AuditRecord{
		{
			Seq: 1, Time: c.now(), What: AuditAdmit, Order: o.ID, To: bridge.StateSending, Rule: "rule", Task: bridge.KindTerminateProcess,
			Host: o.Host, Source: "bus", Actor: "cli:admin", Alert: doc[:], Payload: body[:], Hash: got[0].Hash,
		},
		{
			Seq: 2, Time: c.now(), What: AuditMove, Order: o.ID, From: bridge.StateSending, To: bridge.StateFailed, Rule: "rule",
			Task: bridge.KindTerminateProcess, Host: o.Host, Source: "bus", Actor: "cli:admin", Payload: body[:], Reason: bridge.ReasonUnreachable,
			Detail: "no answer", Prev: got[0].Hash, Hash: got[1].Hash,
		},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(AuditRecord{})); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	byHost, err := s.Audit(t.Context(), AuditFilter{Host: o.Host, After: 1})
	if err != nil || len(byHost) != 1 || byHost[0].Seq != 2 {
		t.Errorf("audit of the host after record 1: %d records, %v", len(byHost), err)
	}
	if none, err := s.Audit(t.Context(), AuditFilter{Host: "elsewhere"}); len(none) != 0 || err != nil {
		t.Errorf("audit of another host: %d records, %v", len(none), err)
	}
}

// tamper changes the file as somebody with write access to it would.
func tamper(t *testing.T, s *Store, sql ...string) {
	t.Helper()
	err := s.do(t.Context(), func(tx *tx) error {
		for _, stmt := range sql {
			if _, err := tx.run(stmt); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestA11VerifyNamesTheFirstBadRecord(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		sql  []string
		want int64
	}{
		"nothing changed":            {nil, 0},
		"a detail edited":            {[]string{`UPDATE audit SET detail = 'x' WHERE seq = 5`}, 5},
		"a state edited":             {[]string{`UPDATE audit SET state_to = 'done' WHERE seq = 1`}, 1},
		"a time edited":              {[]string{`UPDATE audit SET time = time + 1 WHERE seq = 12`}, 12},
		"a digest edited":            {[]string{`UPDATE audit SET payload = zeroblob(32) WHERE seq = 7`}, 7},
		"a hash edited":              {[]string{`UPDATE audit SET hash = zeroblob(32) WHERE seq = 7`}, 7},
		"a field moved to the next":  {[]string{`UPDATE audit SET rule = substr(rule, 2), reason = substr(rule, 1, 1) WHERE seq = 3`}, 3},
		"the order's id edited":      {[]string{`UPDATE audit SET order_id = 'o1' WHERE seq = 9`}, 9},
		"an approver added":          {[]string{`UPDATE audit SET approver = 'x' WHERE seq = 9`}, 9},
		"attempts edited":            {[]string{`UPDATE audit SET attempts = 2 WHERE seq = 9`}, 9},
		"a ref edited":               {[]string{`UPDATE audit SET ref = '4711' WHERE seq = 9`}, 9},
		"a policy edited":            {[]string{`UPDATE audit SET policy = x'00' WHERE seq = 9`}, 9},
		"a record deleted":           {[]string{`DELETE FROM audit WHERE seq = 6`}, 6},
		"the first deleted":          {[]string{`DELETE FROM audit WHERE seq = 1`}, 1},
		"deleted and closed up":      {[]string{`DELETE FROM audit WHERE seq = 6`, `UPDATE audit SET seq = seq - 1 WHERE seq > 6`}, 6},
		"two exchanged":              {[]string{`UPDATE audit SET seq = -1 WHERE seq = 4`, `UPDATE audit SET seq = 4 WHERE seq = 5`, `UPDATE audit SET seq = 5 WHERE seq = -1`}, 4},
		"one inserted":               {[]string{`INSERT INTO audit SELECT 0, time, what, order_id, state_from, state_to, reason, rule, task, host, source, actor, approver, count, attempts, ref, detail, alert, payload, policy, keyed, hash FROM audit WHERE seq = 1`}, 1},
		"the tail cut off":           {[]string{`DELETE FROM audit WHERE seq > 17`}, 18},
		"everything deleted":         {[]string{`DELETE FROM audit`}, 1},
		"a record appended unlinked": {[]string{`INSERT INTO audit (seq, time, what, hash) VALUES (21, 1, 'start', zeroblob(32))`}, 21},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openTest(t, Config{})
			for i := range 20 {
				admitTest(t, s, numbered(t, i))
			}
			before, err := s.VerifyAudit(t.Context(), nil)
			if err != nil || before.FirstBad != 0 || before.Records != 20 || before.Head.Seq != 20 {
				t.Fatalf("an untouched chain: %+v, %v", before, err)
			}
			tamper(t, s, tc.sql...)
			got, err := s.VerifyAudit(t.Context(), &before.Head)
			if err != nil || got.FirstBad != tc.want || (got.Problem == "") != (tc.want == 0) {
				t.Errorf("first bad record %d (%s), %v, want %d", got.FirstBad, got.Problem, err, tc.want)
			}
			if tc.want == 18 {
				if got, err := s.VerifyAudit(t.Context(), nil); got.FirstBad != 0 || got.Head.Seq != 17 || err != nil {
					t.Errorf("without an anchor a cut tail cannot be seen, but: %+v, %v", got, err)
				}
			}
		})
	}
}

func TestVerifyFindsARecordWithItsHashMadeAnew(t *testing.T) {
	t.Parallel()
	s := openTest(t, Config{})
	for i := range 5 {
		admitTest(t, s, numbered(t, i))
	}
	recs, err := s.Audit(t.Context(), AuditFilter{})
	if err != nil {
		t.Fatal(err)
	}
	bad := recs[2]
	bad.Detail = "nothing happened"
	bad.Hash = newSeal(nil).sum(&bad)
	tamper(t, s, fmt.Sprintf(`UPDATE audit SET detail = '%s', hash = x'%x' WHERE seq = 3`, bad.Detail, bad.Hash))
	if got, err := s.VerifyAudit(t.Context(), nil); got.FirstBad != 4 || err != nil {
		t.Errorf("%+v, %v, want record 4, which does not follow", got, err)
	}
}

func TestVerifyFindsAChainWrittenAnew(t *testing.T) {
	t.Parallel()
	s := openTest(t, Config{})
	for i := range 5 {
		admitTest(t, s, numbered(t, i))
	}
	rep, err := s.VerifyAudit(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	tamper(t, s, `DELETE FROM audit`)
	for range 6 {
		if err := s.Note(t.Context(), bridge.Note{What: bridge.NoteStart}); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.VerifyAudit(t.Context(), nil); got.FirstBad != 0 || err != nil {
		t.Errorf("the new chain does not hold by itself: %+v, %v", got, err)
	}
	if got, err := s.VerifyAudit(t.Context(), &rep.Head); got.FirstBad != 5 || err != nil {
		t.Errorf("against the anchor: %+v, %v, want record 5", got, err)
	}
}

func TestTwoStoresShareOneChain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := openTest(t, Config{Dir: dir}), openTest(t, Config{Dir: dir, Owner: OwnerSend})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 100 {
			admitTest(t, a, numbered(t, 2*i))
		}
	}()
	for i := range 100 {
		admitTest(t, b, numbered(t, 2*i+1))
	}
	<-done
	rep, err := a.VerifyAudit(t.Context(), nil)
	if err != nil || rep.FirstBad != 0 || rep.Records != 200 {
		t.Errorf("chain written by two stores: %+v, %v, want 200 good records", rep, err)
	}
	if err := b.Check(t.Context()); err != nil {
		t.Errorf("check: %v", err)
	}
}

func TestCheckFindsAnOrderChangedBehindTheAudit(t *testing.T) {
	t.Parallel()
	s := openTest(t, Config{})
	o := admitTest(t, s, numbered(t, 1))[0]
	moveTest(t, s, admitTest(t, s, numbered(t, 2))[0], bridge.StateFailed)
	if err := s.Check(t.Context()); err != nil {
		t.Fatalf("an untouched store: %v", err)
	}
	tamper(t, s, `UPDATE orders SET state = 'held' WHERE id = '`+o.ID+`'`)
	if err := s.Check(t.Context()); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), o.ID) {
		t.Errorf("check: %v, want ErrDamaged that names %s", err, o.ID)
	}
}

func TestF29CheckFindsAFlippedByte(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openTest(t, Config{Dir: dir})
	for i := range 200 {
		o := numbered(t, i)
		o.Detail = fmt.Sprint("detail", i)
		admitTest(t, s, o)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	for name, where := range map[string]int{
		"in a text of an audit record": strings.LastIndex(string(whole), "detail150") + 6,
		"in an order's id":             strings.Index(string(whole), numbered(t, 150).ID) + 3,
		"in the head of a page":        8192*3 + 3,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := append([]byte(nil), whole...)
			bad[where] ^= 0x04
			dir := t.TempDir()
			if err := os.WriteFile(dir+"/"+FileName, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := Open(t.Context(), Config{Dir: dir})
			if err != nil {
				return // found at once
			}
			defer s.Close()
			if err := s.Check(t.Context()); !errors.Is(err, ErrDamaged) {
				t.Errorf("check: %v, want ErrDamaged", err)
			}
		})
	}
}
