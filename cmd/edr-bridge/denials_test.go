package main

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/prevention"
)

// heard counts what was told.
type heard struct {
	mu    sync.Mutex
	lines int
	times map[prevention.Outcome]int
}

// wants checks how many lines were told, and how often an outcome was counted in them.
func (h *heard) wants(t *testing.T, lines int, o prevention.Outcome, times int) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lines != lines || h.times[o] != times {
		t.Errorf("told %d times: %v, want %d and %d %s", h.lines, h.times, lines, times, o)
	}
}

func (h *heard) denials() *denials {
	h.times = make(map[prevention.Outcome]int)
	return &denials{tell: func(n prevention.Denial, _ string, times int) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.lines++
		h.times[n.Outcome] += times
	}}
}

func denial(o prevention.Outcome, exe string) prevention.Denial {
	return prevention.Denial{Outcome: o, Rule: "p1", Path: "/x/evil", Caller: prevention.Caller{PID: 7, Start: 99, Exe: exe}}
}

func TestEveryDenialIsCountedAlthoughFewAreTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h heard
		d := h.denials()
		for range 500 {
			d.add(denial(prevention.Denied, "/bin/sh"))
			time.Sleep(10 * time.Millisecond)
		}
		h.wants(t, 1, prevention.Denied, 1)
		time.Sleep(2 * denialEvery)
		h.wants(t, 2, prevention.Denied, 500)
		d.add(denial(prevention.Denied, "/bin/sh"))
		h.wants(t, 3, prevention.Denied, 501) // what comes again after a while is told at once
		d.add(denial(prevention.Denied, "/bin/sh"))
		d.close()
		h.wants(t, 4, prevention.Denied, 502)
	})
}

func TestDenialsAreToldAlthoughTheClockOfTheMachineGoesBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h heard
		d := h.denials()
		now := time.Now()
		for i := range 10 {
			n := denial(prevention.Denied, "/bin/sh")
			n.Time = now.Add(-time.Duration(i) * 24 * time.Hour)
			d.add(n)
			time.Sleep(2 * denialEvery)
		}
		h.wants(t, 10, prevention.Denied, 10)
		d.close()
	})
}

func TestManyCallersFillNeitherLogNorAudit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h heard
		d := h.denials()
		for i := range 5000 {
			d.add(denial(prevention.Denied, fmt.Sprintf("/tmp/%d", i)))
			d.add(denial(prevention.Undecided, fmt.Sprintf("/tmp/%d", i)))
		}
		time.Sleep(2 * denialEvery)
		d.close()
		h.wants(t, maxDenials+2, prevention.Denied, 5000)
		h.wants(t, maxDenials+2, prevention.Undecided, 5000)
	})
}

func TestOnlyWhatWasDeniedIsRecordedAsPrevented(t *testing.T) {
	t.Parallel()
	for o, want := range map[prevention.Outcome]string{
		prevention.Denied: bridge.NotePrevented, prevention.Broken: bridge.NoteRuleStopped, prevention.Logged: bridge.NoteNotPrevented,
		prevention.Shielded: bridge.NoteNotPrevented, prevention.Own: bridge.NoteNotPrevented, prevention.Undecided: bridge.NoteNotPrevented,
	} {
		if what, message := denialWords(o); what != want || (message == "execution prevented") != (o == prevention.Denied) {
			t.Errorf("%s is recorded as %s: %s", o, what, message)
		}
	}
}

func TestADenialNamesItsCallerForGood(t *testing.T) {
	t.Parallel()
	n := denial(prevention.Denied, "/bin/sh")
	n.Time = time.Date(2026, 11, 21, 7, 0, 0, 0, time.UTC)
	n.MD5, n.SHA256 = "m5", "s256"
	n.Caller.PPID, n.Caller.UID, n.Caller.Cmdline = 5, 1000, "sh -c \x1b[2J"+strings.Repeat("x", 9000)
	text := denialText(n)
	for _, want := range []string{"process 7 ", "2026-11-21T07:00:00Z", "started 99 ticks", "parent 5", "user 1000", `sh -c \x1b[2J`, "md5 m5", "sha256 s256", "rule p1"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %q", want, text)
		}
	}
	if len(text) > 2000 {
		t.Errorf("the text has %d bytes", len(text))
	}
}
