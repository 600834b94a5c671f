package main

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/prevention"
)

// heard counts what was told.
type heard struct {
	lines int
	times map[prevention.Outcome]int
	texts []string
}

func (h *heard) denials() *denials {
	h.times = make(map[prevention.Outcome]int)
	return &denials{tell: func(n prevention.Denial, text string, times int) {
		h.lines++
		h.times[n.Outcome] += times
		h.texts = append(h.texts, text)
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
		if h.lines != 1 {
			t.Errorf("%d are told at once", h.lines)
		}
		time.Sleep(2 * denialEvery)
		if h.lines != 2 || h.times[prevention.Denied] != 500 {
			t.Errorf("told %d times: %v", h.lines, h.times)
		}
		d.add(denial(prevention.Denied, "/bin/sh"))
		if h.lines != 3 {
			t.Error("what comes again after a while is not told at once")
		}
		d.add(denial(prevention.Denied, "/bin/sh"))
		d.close()
		if h.lines != 4 || h.times[prevention.Denied] != 502 {
			t.Errorf("at the end told %d times: %v", h.lines, h.times)
		}
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
		if h.lines != 10 || h.times[prevention.Denied] != 10 {
			t.Errorf("told %d times: %v", h.lines, h.times)
		}
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
		if h.lines > maxDenials+2 || h.times[prevention.Denied] != 5000 || h.times[prevention.Undecided] != 5000 {
			t.Errorf("told %d times: %v", h.lines, h.times)
		}
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
