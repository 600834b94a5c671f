package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// roundTrip checks decode(encode(v)) == v through the bytes of the wire.
func roundTrip[T, W any](t *testing.T, encode func(T) (W, error), decode func(W) (T, error)) {
	t.Helper()
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		want := drawn[T](rt, rapid.IntRange(0, 3).Draw(rt, "full") == 0)
		wire, err := encode(want)
		if err != nil {
			rt.Fatal(err)
		}
		doc, err := encodeJSON(wire)
		if err != nil {
			rt.Fatal(err)
		}
		if err := bridge.CheckJSON(doc); err != nil {
			rt.Fatalf("the server would refuse %s: %v", doc, err)
		}
		var back W
		if err := json.Unmarshal(doc, &back); err != nil {
			rt.Fatalf("%s: %v", doc, err)
		}
		got, err := decode(back)
		if err != nil {
			rt.Fatalf("%s: %v", doc, err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			rt.Fatalf("-want +got\n%s", diff)
		}
	})
}

func TestOrderOfAnyKindComesBackAsItWas(t *testing.T) {
	roundTrip(t, encodeOrder, order.decode)
}

func TestLeaseComesBackAsItWas(t *testing.T) { roundTrip(t, encodeLease, lease.decode) }

func TestDeadLetterComesBackAsItWas(t *testing.T) { roundTrip(t, encodeLetter, letter.decode) }

func TestAuditRecordComesBackAsItWas(t *testing.T) { roundTrip(t, encodeRecord, record.decode) }

func TestAuditReportComesBackAsItWas(t *testing.T) { roundTrip(t, encodeReport, auditReport.decode) }

func TestHoldComesBackAsItWas(t *testing.T) { roundTrip(t, encodeHold, hold.decode) }

func TestStatusComesBackAsItWas(t *testing.T) { roundTrip(t, encodeStatus, status.decode) }

func TestAnchorComesBackAsItWas(t *testing.T) {
	roundTrip(t, func(a bridge.Anchor) (anchor, error) { return encodeAnchor(a), nil }, anchor.decode)
}

func TestFiltersComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	t.Run("orders", func(t *testing.T) {
		roundTrip(t, func(f bridge.OrderFilter) (orderFilter, error) { return encodeOrderFilter(f), nil },
			func(w orderFilter) (bridge.OrderFilter, error) { return w.decode(), nil })
	})
	t.Run("audit", func(t *testing.T) {
		roundTrip(t, func(f bridge.AuditFilter) (auditFilter, error) { return encodeAuditFilter(f), nil },
			func(w auditFilter) (bridge.AuditFilter, error) { return w.decode(), nil })
	})
}

func TestFullDrawsLeaveNoFieldOut(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		checkFull(t, drawn[bridge.Order](rt, true))
		checkFull(t, drawn[bridge.AuditRecord](rt, true))
		checkFull(t, drawn[bridge.Lease](rt, true))
	})
}

func TestWireFormIsTheDocumentedOne(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 678, time.FixedZone("MSK", 3*3600))
	w, err := encodeOrder(bridge.Order{
		ID: "o1", Host: "WS\xff", Task: bridge.StartProcess{ExecutablePath: `C:\a&b.exe`}, For: 4 * time.Hour, Created: at,
		State: bridge.StateHeld, Reason: bridge.ReasonApproval, Actor: "cli:ann",
	})
	if err != nil {
		t.Fatal(err)
	}
	doc, err := encodeJSON(w)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"id":"o1","task":"startProcess","params":{"executablePath":"C:\\a&b.exe"},"host":{"base64":"V1P/"},"state":"held",` +
		`"reason":"approval","actor":"cli:ann","for":"4h0m0s","created":"2026-01-02T00:04:05.000000678Z"}`
	if got := strings.TrimSpace(string(doc)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestHashOfAnotherLengthIsRefused(t *testing.T) {
	t.Parallel()
	for _, hash := range []string{"00", strings.Repeat("0", 66)} {
		var a anchor
		if err := json.Unmarshal([]byte(`{"seq":1,"hash":"`+hash+`"}`), &a); err != nil {
			t.Fatal(err)
		}
		if _, err := a.decode(); err == nil {
			t.Errorf("a hash of %d digits was taken", len(hash))
		}
	}
}

func TestOrderWithATaskNobodyKnowsIsRefused(t *testing.T) {
	t.Parallel()
	for name, w := range map[string]order{
		"unknown task":        {ID: "o1", Task: "formatDisk", Params: json.RawMessage(`{}`)},
		"params without task": {ID: "o1", Params: json.RawMessage(`{}`)},
		"no action":           {ID: "o1", Task: bridge.KindIsolateHost, Params: json.RawMessage(`{}`)},
		"unknown parameter":   {ID: "o1", Task: bridge.KindIsolateHost, Params: json.RawMessage(`{"action":1,"x":2}`)},
	} {
		if o, err := w.decode(); err == nil {
			t.Errorf("%s: taken as %+v", name, o)
		}
	}
}

func TestErrorsCrossTheWireAsTheyAre(t *testing.T) {
	t.Parallel()
	sentinels := []error{bridge.ErrNotFound, bridge.ErrAmbiguous, bridge.ErrStale, bridge.ErrNotApprovable}
	exec := &bridge.ExecError{
		Executor: "ksc", OrderID: "o1", Class: bridge.Unreachable, Reason: bridge.ReasonHostAmbiguous, Err: errors.New("two hosts"),
	}
	tests := []error{errors.New("disk full"), exec, fmt.Errorf("send: %w", exec), fs.ErrPermission}
	for _, s := range sentinels {
		tests = append(tests, s, fmt.Errorf("order o1: %w: it is done", s), fmt.Errorf("%w: %w", s, exec))
	}
	for _, c := range []bridge.Class{bridge.Permanent, bridge.Retry, bridge.Unknown, bridge.Class(77)} {
		tests = append(tests, &bridge.ExecError{Executor: "local", Class: c, Err: fmt.Errorf("x: %w", bridge.ErrStale)})
	}
	for _, want := range tests {
		f, status := encodeFailure(want)
		doc, err := encodeJSON(f)
		if err != nil {
			t.Fatal(err)
		}
		var back failure
		if err := json.Unmarshal(doc, &back); err != nil {
			t.Fatal(err)
		}
		got := back.decode()
		if status < 400 || got.Error() != want.Error() {
			t.Errorf("status %d, got %q, want %q", status, got, want)
		}
		for _, s := range sentinels {
			if errors.Is(got, s) != errors.Is(want, s) {
				t.Errorf("%q: errors.Is %q: got %v, want %v", want, s, errors.Is(got, s), errors.Is(want, s))
			}
		}
		wantExec, is := errors.AsType[*bridge.ExecError](want)
		gotExec, was := errors.AsType[*bridge.ExecError](got)
		if is != was {
			t.Errorf("%q: ExecError: got %v, want %v", want, was, is)
		}
		if !is || !was {
			continue
		}
		wantClass := wantExec.Class
		if wantClass > bridge.Unreachable {
			wantClass = bridge.Unknown
		}
		if gotExec.Class != wantClass || gotExec.Reason != wantExec.Reason || gotExec.Executor != wantExec.Executor ||
			gotExec.OrderID != wantExec.OrderID || gotExec.Err.Error() != wantExec.Err.Error() {
			t.Errorf("got %+v, want %+v", gotExec, wantExec)
		}
	}
}
