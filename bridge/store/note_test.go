package store

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestHoldIsSeenByOtherProcesses(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), newClock()
	run, other := openTest(t, Config{Dir: dir, Now: c.now}), openTest(t, Config{Dir: dir, Now: c.now, Owner: OwnerSend})
	hold := func(s *Store) bridge.Hold {
		t.Helper()
		h, err := s.Hold(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	changed := func() uint64 {
		t.Helper()
		v, err := run.Changed(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if diff := cmp.Diff(bridge.Hold{}, hold(run)); diff != "" {
		t.Errorf("hold of a fresh store (-want +got):\n%s", diff)
	}
	before := changed()
	admitTest(t, run, numbered(t, 1))
	if changed() != before {
		t.Error("a commit of this store counts as a change by another")
	}
	want := bridge.Hold{Active: true, Reason: "too many", Actor: "cli:admin", Since: c.now()}
	if err := other.SetHold(t.Context(), bridge.Hold{Active: true, Reason: "too many", Actor: "cli:admin"}); err != nil {
		t.Fatal(err)
	}
	if changed() == before {
		t.Error("a commit of another store is not seen")
	}
	if diff := cmp.Diff(want, hold(run)); diff != "" {
		t.Errorf("hold set by another store (-want +got):\n%s", diff)
	}
	before = changed()
	if changed() != before {
		t.Error("the number changes by being asked for")
	}
	if err := run.SetHold(t.Context(), bridge.Hold{Actor: "cli:admin"}); err != nil {
		t.Fatal(err)
	}
	if hold(other).Active {
		t.Error("the hold is still active after resume")
	}
	recs, err := run.Audit(t.Context(), AuditFilter{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range recs {
		got = append(got, r.What+" "+r.Actor+" "+r.Detail)
	}
	if diff := cmp.Diff([]string{"admit  ", "hold cli:admin too many", "resume cli:admin "}, got); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
}

func TestSourcePositionIsKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openTest(t, Config{Dir: dir})
	if got, err := s.SourcePosition(t.Context(), "bus"); got != "" || err != nil {
		t.Errorf("position of a fresh store: %q, %v", got, err)
	}
	for _, id := range []string{"1-0", "2-0"} {
		if err := s.SetSourcePosition(t.Context(), "bus", id); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SetSourcePosition(t.Context(), "other", "9-0"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, Config{Dir: dir})
	if got, err := s.SourcePosition(t.Context(), "bus"); got != "2-0" || err != nil {
		t.Errorf("position: %q, %v, want 2-0", got, err)
	}
}

func TestNotesAreKeptWhole(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := openTest(t, Config{Now: c.now})
	if err := s.Note(t.Context(), bridge.Note{}); err == nil {
		t.Error("a note that says nothing was taken")
	}
	if err := s.Note(t.Context(), bridge.Note{What: bridge.NoteLoss, Source: "bus", Actor: "x", Count: 1 << 40, Detail: "why"}); err != nil {
		t.Fatal(err)
	}
	recs, err := s.Audit(t.Context(), AuditFilter{Since: c.now().Add(-time.Second)})
	if err != nil || len(recs) != 1 {
		t.Fatalf("audit: %d records, %v", len(recs), err)
	}
	want := AuditRecord{Seq: 1, Time: c.now(), What: bridge.NoteLoss, Source: "bus", Actor: "x", Count: 1 << 40, Detail: "why", Hash: recs[0].Hash}
	if diff := cmp.Diff(want, recs[0], cmp.AllowUnexported(AuditRecord{})); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}
