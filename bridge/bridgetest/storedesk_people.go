package bridgetest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// waiting admits an order that waits for a person, asked for by one.
func (d *desk) waiting(host, actor string) bridge.Order {
	d.t.Helper()
	o := d.kill(host)
	o.State, o.Reason = bridge.StateHeld, bridge.ReasonApproval
	if actor != "" {
		o.Rule, o.Actor = "", actor
	}
	return d.expect(d.enter(o), bridge.StateHeld, bridge.ReasonApproval)
}

func (d *desk) digest(o bridge.Order) string {
	d.t.Helper()
	sum, err := o.Digest()
	if err != nil {
		d.t.Fatal(err)
	}
	return sum
}

func deskBindsApproval(t *testing.T, d *desk) {
	d.open(bridge.Policy{})
	o, other := d.waiting("ws01", ""), d.waiting("ws02", "")
	word := bridge.Decision{Order: o.ID, Approve: true, Digest: d.digest(other), Actor: "cli:alice", Why: "seen"}
	_, err := d.Decide(t.Context(), word)
	d.wantErr(err, bridge.ErrNotApprovable, "digest")
	d.expect(d.standing(o), bridge.StateHeld, bridge.ReasonApproval)
	word.Order, word.Digest = o.ID[:20], d.digest(o)[:12]
	d.clock.add(30 * time.Minute)
	got, err := d.Decide(t.Context(), word)
	if err != nil {
		t.Fatal(err)
	}
	d.expect(got, bridge.StateQueued, "")
	want := bridge.Approval{By: "cli:alice", Why: "seen", At: d.clock.now(), Digest: d.digest(o)}
	if diff := cmp.Diff(want, got.Approval); diff != "" {
		t.Errorf("approval (-want +got):\n%s", diff)
	}
	if !got.NotAfter.After(d.clock.now()) || !got.Due.Equal(got.NotAfter) {
		t.Errorf("an approved order may begin until %v and is due at %v, the time is %v", got.NotAfter, got.Due, d.clock.now())
	}
	d.reopen()
	if diff := cmp.Diff(got, d.standing(o)); diff != "" {
		t.Errorf("order read back (-want +got):\n%s", diff)
	}
	if digest := d.digest(d.standing(o)); digest != want.Digest {
		t.Errorf("digest read back is %s, want %s", digest, want.Digest)
	}
	trail, err := d.Audit(t.Context(), bridge.AuditFilter{Order: o.ID})
	if err != nil || len(trail) != 2 || trail[1].Approver != "cli:alice" || !strings.Contains(trail[1].Detail, "seen") {
		t.Errorf("audit: %+v, %v, want the word of cli:alice", trail, err)
	}
	pending, _, err := d.Pending(t.Context(), time.Time{}, bridge.Page{})
	if diff := cmp.Diff([]string{o.ID}, idsOf(pending)); diff != "" || err != nil {
		t.Errorf("pending: %v (-want +got):\n%s", err, diff)
	}
	sent := d.turn(got, bridge.StateSending)
	if diff := cmp.Diff(want, sent.Approval); diff != "" {
		t.Errorf("approval of the order that was sent (-want +got):\n%s", diff)
	}
	_, err = d.Decide(t.Context(), word)
	d.wantErr(err, bridge.ErrNotApprovable, "sending")
	d.clock.add(time.Hour)
	word.Order, word.Digest = other.ID, d.digest(other)
	_, err = d.Decide(t.Context(), word)
	d.wantErr(err, bridge.ErrNotApprovable, "time to be approved")
}

func deskWantsFourEyes(t *testing.T, d *desk) {
	d.open(bridge.Policy{FourEyes: true})
	o := d.waiting("ws01", "cli:alice (INC-1)")
	word := bridge.Decision{Order: o.ID, Approve: true, Digest: d.digest(o), Actor: "socket:alice", Why: "seen"}
	_, err := d.Decide(t.Context(), word)
	d.wantErr(err, bridge.ErrNotApprovable, "four eyes")
	word.Actor = "socket:bob"
	got, err := d.Decide(t.Context(), word)
	if err != nil {
		t.Fatal(err)
	}
	d.expect(got, bridge.StateQueued, "")
}

func deskRejects(t *testing.T, d *desk) {
	d.open(bridge.Policy{})
	o := d.waiting("ws01", "")
	_, err := d.Decide(t.Context(), bridge.Decision{Order: o.ID, Actor: "cli:alice"})
	d.wantErr(err, bridge.ErrNotApprovable, "why")
	got, err := d.Decide(t.Context(), bridge.Decision{Order: o.ID, Actor: "cli:alice", Why: "a test"})
	if err != nil {
		t.Fatal(err)
	}
	d.expect(got, bridge.StateRefused, bridge.ReasonApproval)
	trail, err := d.Audit(t.Context(), bridge.AuditFilter{Order: o.ID})
	if err != nil || len(trail) != 2 || trail[1].Approver != "cli:alice" {
		t.Errorf("audit: %+v, %v, want the word of cli:alice", trail, err)
	}
}

func deskAsksOnce(t *testing.T, d *desk) {
	d.open(bridge.Policy{AskEvery: time.Hour})
	ask := func(host string, want bool) {
		t.Helper()
		o := d.kill(host)
		o.State, o.Reason = bridge.StateHeld, bridge.ReasonApproval
		if out := admit(t, d, o, o); out[0].Asked != want || out[1].Asked {
			t.Errorf("asked about %s: %v, and %v for the redelivery, want %v and false", host, out[0].Asked, out[1].Asked, want)
		}
	}
	ask("ws01", true)
	ask("WS01", false)
	ask("ws02", true)
	d.reopen()
	d.clock.add(59 * time.Minute)
	ask("ws01", false)
	d.clock.add(time.Minute)
	ask("ws01", true)
	notes := d.notes(bridge.NoteAsk)
	if len(notes) != 3 || !strings.Contains(notes[0].Detail, "ws01") || notes[0].Source != "" {
		t.Errorf("notes %+v, want 3", notes)
	}
}

func deskCancels(t *testing.T, d *desk) {
	d.open(bridge.Policy{})
	for _, state := range bridge.States() {
		o := d.bring(state)
		got, err := d.Cancel(t.Context(), o.ID, "cli:alice", "not needed")
		if state != bridge.StateHeld && state != bridge.StateQueued {
			d.wantErr(err, bridge.ErrStale, string(state))
			d.expect(d.standing(o), state, "")
			continue
		}
		if err != nil {
			t.Errorf("cancel a %s order: %v", state, err)
			continue
		}
		d.expect(got, bridge.StateCancelled, "")
		trail, err := d.Audit(t.Context(), bridge.AuditFilter{Order: o.ID})
		if err != nil || len(trail) != 2 || trail[1].Approver != "cli:alice" || !strings.Contains(trail[1].Detail, "not needed") {
			t.Errorf("audit: %+v, %v, want who cancelled and why", trail, err)
		}
	}
	o := d.bring(bridge.StateQueued)
	if _, err := d.Cancel(t.Context(), o.ID, "", ""); err == nil {
		t.Error("an order was cancelled by nobody")
	}
}

func deskWantsOneID(t *testing.T, d *desk) {
	d.open(bridge.Policy{})
	o := d.waiting("ws01", "")
	for i, id := range []string{"ox1", "ox2"} {
		other := d.kill(fmt.Sprint("ws", i))
		other.ID, other.State = id, bridge.StateQueued
		d.enter(other)
	}
	for id, is := range map[string]error{"": bridge.ErrNotFound, "none": bridge.ErrNotFound, "ox": bridge.ErrAmbiguous} {
		_, err := d.Decide(t.Context(), bridge.Decision{Order: id, Approve: true, Digest: d.digest(o), Actor: "cli:alice", Why: "seen"})
		d.wantErr(err, is, id)
		_, err = d.Cancel(t.Context(), id, "cli:alice", "")
		d.wantErr(err, is, id)
		_, err = d.Order(t.Context(), id)
		d.wantErr(err, is, id)
	}
}

func deskBuries(t *testing.T, d *desk) {
	d.open(bridge.Policy{})
	doc := []byte("{\"half\x00\xff\x1b[31m</script>")
	first := d.clock.now()
	l := bridge.DeadLetter{ID: bridge.LetterID("bus", "1-0", doc), Source: "bus", Entry: "1-0", Document: doc, Error: "unexpected end"}
	for i := range 3 {
		l.Error = fmt.Sprint("unexpected end ", i)
		if err := d.Bury(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		d.clock.add(time.Minute)
	}
	if err := d.Bury(t.Context(), bridge.DeadLetter{ID: bridge.LetterID("hook", "", nil), Source: "hook", Error: "empty"}); err != nil {
		t.Fatal(err)
	}
	d.reopen()
	want := l
	want.Attempts, want.First, want.Last = 3, first, first.Add(2*time.Minute)
	got, err := d.Letter(t.Context(), l.ID)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("letter: %v (-want +got):\n%s", err, diff)
	}
	all, next, err := d.Letters(t.Context(), bridge.Page{Limit: 1})
	if err != nil || len(all) != 1 || all[0].ID != l.ID {
		t.Errorf("first page of letters: %+v, %v", all, err)
	}
	if all, next, err = d.Letters(t.Context(), next); err != nil || len(all) != 1 || all[0].Source != "hook" {
		t.Errorf("second page of letters: %+v, %v", all, err)
	}
	if all, _, err = d.Letters(t.Context(), next); err != nil || len(all) != 0 {
		t.Errorf("last page of letters: %+v, %v, want nothing", all, err)
	}
	sum := sha256.Sum256(doc)
	notes := d.notes(bridge.NoteDeadLetter)
	if len(notes) != 4 || !bytes.Equal(notes[2].Alert, sum[:]) || notes[2].Source != "bus" || !strings.Contains(notes[2].Detail, "unexpected end 2") {
		t.Errorf("notes %+v, want 4 with source, error and digest", notes)
	}
}

func deskRetries(t *testing.T, d *desk) {
	d.open(bridge.Policy{})
	var ids []string
	for i := range 3 {
		doc := fmt.Append(nil, "doc ", i)
		l := bridge.DeadLetter{ID: fmt.Sprint("l", i, "x"), Source: "bus", Document: doc, Error: "bad"}
		if err := d.Bury(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, l.ID)
	}
	retries := func() []string {
		t.Helper()
		letters, err := d.Retries(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		out := []string{}
		for _, l := range letters {
			out = append(out, l.ID)
		}
		return out
	}
	got, err := d.RetryLetter(t.Context(), "l1", "cli:alice")
	if err != nil || got.By != "cli:alice" || !got.Retry.Equal(d.clock.now()) {
		t.Errorf("retry: %+v, %v", got, err)
	}
	if diff := cmp.Diff(ids[1:2], retries()); diff != "" {
		t.Errorf("retries (-want +got):\n%s", diff)
	}
	if err := d.Bury(t.Context(), bridge.DeadLetter{ID: ids[1], Source: "bus", Document: []byte("doc 1"), Error: "still bad"}); err != nil {
		t.Fatal(err)
	}
	if got := retries(); len(got) != 0 {
		t.Errorf("retries after the attempt: %v, want none", got)
	}
	if _, err := d.RetryLetter(t.Context(), ids[1], "cli:alice"); err != nil {
		t.Fatal(err)
	}
	if err := d.Unbury(t.Context(), ids[1]); err != nil {
		t.Fatal(err)
	}
	_, err = d.Letter(t.Context(), ids[1])
	d.wantErr(err, bridge.ErrNotFound, ids[1])
	if _, err := d.DropLetter(t.Context(), "l2", "cli:bob", "a probe"); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"l2", "", "nothing"} {
		_, err = d.DropLetter(t.Context(), id, "cli:bob", "")
		d.wantErr(err, bridge.ErrNotFound, id)
		_, err = d.RetryLetter(t.Context(), id, "cli:bob")
		d.wantErr(err, bridge.ErrNotFound, id)
	}
	drops, asks := d.notes(bridge.NoteDrop), d.notes(bridge.NoteRetry)
	if len(drops) != 1 || drops[0].Actor != "cli:bob" || !strings.Contains(drops[0].Detail, "a probe") || len(drops[0].Alert) == 0 {
		t.Errorf("notes of the drop: %+v", drops)
	}
	if len(asks) != 2 || asks[0].Actor != "cli:alice" {
		t.Errorf("notes of the retries: %+v", asks)
	}
}
