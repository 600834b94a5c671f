package api

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// me is the actor the server makes of the user who runs the tests.
func me(t testing.TB) string {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		return fmt.Sprintf("socket:uid%d", os.Getuid())
	}
	return "socket:" + u.Username
}

// said is what a desk answered to one question.
type said struct {
	Question string
	Value    any
	Error    string
	Is       map[string]bool
	Class    string
	Reason   bridge.Reason
}

// interview asks a desk about everything it can do.
func interview(t testing.TB, d bridge.Desk) []said {
	t.Helper()
	ctx := t.Context()
	actor := me(t) + " (INC-311 (b))"
	var all []said
	note := func(question string, value any, err error) {
		s := said{Question: question, Value: value, Is: map[string]bool{}}
		if err != nil {
			s.Error = err.Error()
			for _, sentinel := range []error{bridge.ErrNotFound, bridge.ErrAmbiguous, bridge.ErrStale, bridge.ErrNotApprovable} {
				s.Is[sentinel.Error()] = errors.Is(err, sentinel)
			}
			s.Class = bridge.ClassOf(err).String()
			if ee, ok := errors.AsType[*bridge.ExecError](err); ok {
				s.Reason = ee.Reason
			}
		}
		all = append(all, s)
	}
	for _, f := range []bridge.OrderFilter{{}, {Host: "ws0\xff"}, {State: bridge.StateHeld}, {Host: "none"}, {Since: fakeNow()}} {
		list, err := d.Orders(ctx, f)
		note(fmt.Sprintf("orders %+v", f), list, err)
	}
	for _, id := range []string{"o00", "o0", "o1", "zz", "", "../x", "\x00"} {
		o, err := d.Order(ctx, id)
		note("order "+id, o, err)
		l, err := d.Letter(ctx, id)
		note("letter "+id, l, err)
	}
	records, err := d.Audit(ctx, bridge.AuditFilter{After: 1, Order: "o00"})
	note("audit", records, err)
	report, err := d.VerifyAudit(ctx, nil)
	note("verify", report, err)
	report, err = d.VerifyAudit(ctx, &bridge.Anchor{Seq: 2, Hash: [32]byte{7}})
	note("verify against another anchor", report, err)
	leases, err := d.Leases(ctx)
	note("leases", leases, err)
	var page bridge.Page
	for range 3 {
		letters, next, err := d.Letters(ctx, page)
		note(fmt.Sprintf("letters %+v → %+v", page, next), letters, err)
		page = next
	}

	note("hold", nil, d.SetHold(ctx, bridge.Hold{Active: true, Reason: "drill\n<b>", Actor: actor, Since: fakeNow()}))
	h, err := d.Hold(ctx)
	note("hold?", h, err)

	held := all[2].Value.([]bridge.Order)[0]
	digest, err := held.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for name, w := range map[string]bridge.Decision{
		"without a reason":    {Order: "o10", Approve: true, Digest: digest, Actor: actor},
		"with another digest": {Order: "o10", Approve: true, Digest: "00000000", Actor: actor, Why: "x"},
		"about a queued one":  {Order: "o20", Approve: true, Digest: digest, Actor: actor, Why: "x"},
	} {
		o, err := d.Decide(ctx, w)
		all = append(all, said{Question: name}) // a map has no order
		note("decide", o, err)
	}
	o, err := d.Decide(ctx, bridge.Decision{Order: "o10", Approve: true, Digest: digest, Actor: actor, Why: "seen"})
	note("approve", o, err)
	o, err = d.Cancel(ctx, "o20", actor, "wrong host")
	note("cancel", o, err)
	o, err = d.Cancel(ctx, "o20", actor, "wrong host")
	note("cancel again", o, err)
	for _, host := range []string{"ws9", "dark"} {
		done, err := d.Send(ctx, []bridge.Order{
			{ID: "o9" + host, Host: host, Task: bridge.IsolateHost{Action: 1}, Actor: actor, Via: bridge.ViaKSC, Mode: bridge.ModeEnforce},
			{ID: "o9" + host + "2", Host: "ws8", Task: bridge.TerminateProcess{}, Actor: actor, Subject: bridge.Process{PID: 7}},
		})
		note("send to "+host, done, err)
	}
	l, err := d.RetryLetter(ctx, "l", actor)
	note("retry", l, err)
	l, err = d.DropLetter(ctx, "l", actor, "noise")
	note("drop", l, err)
	l, err = d.DropLetter(ctx, "x", actor, "noise")
	note("drop unknown", l, err)
	return all
}

func TestDeskAnswersAlikeDirectlyAndOverTheSocket(t *testing.T) {
	t.Parallel()
	direct, behind := newFakeDesk(t), newFakeDesk(t)
	client := serveDesk(t, behind)
	want, got := interview(t, direct), interview(t, client)
	byQuestion := cmpopts.SortSlices(func(a, b said) bool { return a.Question+a.Error < b.Question+b.Error })
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), byQuestion); diff != "" {
		t.Errorf("-directly +over the socket\n%s", diff)
	}
	if diff := cmp.Diff(direct.orders, behind.orders); diff != "" {
		t.Errorf("what the desks hold: -directly +over the socket\n%s", diff)
	}
	if len(want) < 30 || want[5].Error != "" {
		t.Errorf("the interview is empty: %+v", want)
	}
}

// serveDesk serves d on a socket of its own until the test ends.
func serveDesk(t *testing.T, d bridge.Desk) *Client {
	t.Helper()
	client, _ := serveServer(t, newServer(t, d))
	return client
}

func newServer(t *testing.T, d bridge.Desk) *Server {
	t.Helper()
	s, err := NewServer(ServerConfig{Desk: d, Status: func(context.Context) (Status, error) {
		return Status{Version: "1.2.3", PID: os.Getpid(), Mode: bridge.ModeShadow, Counts: Counts{Held: 3, Leases: 1}}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serveServer runs s; stop ends it and returns what Serve did.
func serveServer(t *testing.T, s *Server) (client *Client, stop func() error) {
	t.Helper()
	path := socketPath(t)
	if err := s.Listen(t.Context(), path, ""); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	var once bool
	stop = func() error {
		if once {
			return nil
		}
		once = true
		cancel()
		return <-ended
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	client, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return client, stop
}
