package ksc_test

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/ksc"
	"github.com/edr-bridge/edr-bridge/ksc/ksctest"
)

func TestF19UnreadableAnswersLeaveTheOutcomeOpen(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]ksctest.Fault{
		"500 text":     {Kind: ksctest.FaultServerError},
		"502 html":     {Kind: ksctest.FaultHTML, Status: http.StatusBadGateway},
		"200 html":     {Kind: ksctest.FaultHTML},
		"200 empty":    {Kind: ksctest.FaultEmpty},
		"204":          {Kind: ksctest.FaultHTML, Status: http.StatusAccepted},
		"wrong types":  {Kind: ksctest.FaultWrongTypes},
		"gzip unasked": {Kind: ksctest.FaultGzip},
		"503":          {Kind: ksctest.FaultUnavailable},
	} {
		for _, stored := range []bool{true, false} {
			if f.Kind == ksctest.FaultWrongTypes && !stored || f.Kind == ksctest.FaultGzip && !stored {
				continue // these spoil an answer, so they carry the request out
			}
			t.Run(name+" stored="+strconv.FormatBool(stored), func(t *testing.T) {
				t.Parallel()
				s := startMock(t)
				e := newExecutor(t, newClient(t, s))
				f := f
				f.Method, f.Stored, f.Count = addIncident, stored, 1
				addFault(t, s, f)
				o := isolate(t, 0)
				_, err := e.Execute(t.Context(), o)
				wantClass(t, err, bridge.Unknown)
				if len(err.Error()) > 1000 || strings.ContainsAny(err.Error(), "\n\r\x1b") {
					t.Errorf("error is not fit for a log: %q", err)
				}
				if _, found, err := e.Reconcile(t.Context(), o); err != nil || found != stored {
					t.Fatalf("found %v, %v", found, err)
				}
			})
		}
	}
}

func TestF19ReadsSurviveBadAnswersThatPass(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]ksctest.Fault{
		"500":    {Kind: ksctest.FaultServerError},
		"html":   {Kind: ksctest.FaultHTML},
		"empty":  {Kind: ksctest.FaultEmpty},
		"cut":    {Kind: ksctest.FaultCut, At: 70},
		"reset":  {Kind: ksctest.FaultReset},
		"hangup": {Kind: ksctest.FaultHangUp},
		"503":    {Kind: ksctest.FaultUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startMock(t)
			e := newExecutor(t, newClient(t, s))
			f.Method, f.Count = findHosts, 2
			addFault(t, s, f)
			m, err := e.Resolve(t.Context(), "ws-01")
			if err != nil || len(m) != 1 || m[0].ID != hostA {
				t.Fatalf("%v, %v", m, err)
			}
			f.Count = 0
			addFault(t, s, f)
			if _, err := e.Resolve(t.Context(), "ws-02"); err == nil && f.Kind != ksctest.FaultHangUp {
				t.Error("an answer that stays bad must end in an error")
			}
		})
	}
}

func TestF20RefusalByTheApplicationIsPermanentAndNotRepeated(t *testing.T) {
	t.Parallel()
	s := startMock(t)
	e := newExecutor(t, newClient(t, s))
	addFault(t, s, ksctest.Fault{Kind: ksctest.FaultApplication, Method: addIncident, Text: "licence expired\x1b[31m\nsecond line"})
	_, err := e.Execute(t.Context(), isolate(t, 0))
	wantClass(t, err, bridge.Permanent)
	vendor, ok := errors.AsType[*ksc.Error](err)
	if !ok || vendor.Method != addIncident || vendor.Code == 0 || vendor.Module == "" || !strings.Contains(vendor.Message, "licence expired") {
		t.Fatalf("got %#v", vendor)
	}
	if strings.ContainsAny(err.Error(), "\n\x1b") {
		t.Errorf("control characters in %q", err)
	}
	if n := s.Requests()[addIncident]; n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

func TestF22RetryAfterAnHourRespectsTheContext(t *testing.T) {
	t.Parallel()
	s := startMock(t)
	c := newClient(t, s)
	if err := c.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	addFault(t, s, ksctest.Fault{Kind: ksctest.FaultUnavailable, RetryAfter: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begun := time.Now()
	_, err := newExecutor(t, c).Resolve(ctx, "ws-01")
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 20*time.Second {
		t.Errorf("got %v after %s", err, time.Since(begun))
	}
	begun = time.Now()
	_, err = newExecutor(t, c).Execute(t.Context(), isolate(t, 0))
	wantClass(t, err, bridge.Unknown)
	if time.Since(begun) > 20*time.Second {
		t.Errorf("AddIncident waited %s for a repetition it must not make", time.Since(begun))
	}
}

func TestF26SearchThatFailsNeverSaysNotFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault ksctest.Fault
		want  bridge.Class
	}{
		"refused":       {ksctest.Fault{Kind: ksctest.FaultApplication, Method: findIncidents}, bridge.Unknown},
		"500":           {ksctest.Fault{Kind: ksctest.FaultServerError, Method: findIncidents}, bridge.Retry},
		"html":          {ksctest.Fault{Kind: ksctest.FaultHTML, Method: findIncidents}, bridge.Retry},
		"wrong types":   {ksctest.Fault{Kind: ksctest.FaultWrongTypes, Method: findIncidents}, bridge.Retry},
		"count fails":   {ksctest.Fault{Kind: ksctest.FaultServerError, Method: "ChunkAccessor.GetItemsCount"}, bridge.Retry},
		"chunk fails":   {ksctest.Fault{Kind: ksctest.FaultWrongTypes, Method: "ChunkAccessor.GetItemsChunk"}, bridge.Retry},
		"chunk refused": {ksctest.Fault{Kind: ksctest.FaultApplication, Method: "ChunkAccessor.GetItemsChunk"}, bridge.Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startMock(t)
			e := newExecutor(t, newClient(t, s))
			o := isolate(t, 0)
			if _, err := e.Execute(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			addFault(t, s, c.fault)
			_, found, err := e.Reconcile(t.Context(), o)
			if found {
				t.Fatal("found by a search that failed")
			}
			wantClass(t, err, c.want)
			s.Faults().Clear()
			if n := s.OpenAccessors(); n != 0 && name != "wrong types" { // whose answer did not tell the accessor
				t.Errorf("%d result sets were left behind", n)
			}
		})
	}
	t.Run("down", func(t *testing.T) {
		t.Parallel()
		s := startMock(t)
		e := newExecutor(t, newClient(t, s))
		s.Down()
		_, _, err := e.Reconcile(t.Context(), isolate(t, 0))
		wantClass(t, err, bridge.Retry) // never Unreachable: that would let another executor act as well
	})
}

func TestF26RequestThatArrivesLateIsFoundByTheNextSearch(t *testing.T) {
	t.Parallel()
	s := startMock(t)
	c := newClient(t, s)
	e := newExecutor(t, c)
	o := isolate(t, 0)
	if r, found, err := e.Reconcile(t.Context(), o); err != nil || found {
		t.Fatalf("before it arrived: found %v %+v, %v", found, r, err)
	}
	first, err := newExecutor(t, c).Execute(t.Context(), o) // the first request arrives late
	if err != nil {
		t.Fatal(err)
	}
	r, found, err := e.Reconcile(t.Context(), o)
	if err != nil || !found || r.Ref != first.Ref {
		t.Fatalf("found %v %+v, %v; want incident %s", found, r, err, first.Ref)
	}
	if n := s.Requests()[findIncidents]; n != 2 {
		t.Errorf("%d searches, want 2", n)
	}
}
