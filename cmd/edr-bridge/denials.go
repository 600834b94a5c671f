package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/edr-bridge/edr-bridge/localagent/prevention"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	// denialEvery is how often the same denial is told.
	denialEvery = time.Minute
	// maxDenials is how many different ones are told within denialEvery; the others are counted by their outcome.
	maxDenials = 64
	// maxDenialLine bounds the command line in a text.
	maxDenialLine = 512
)

// denials tells of each kind of denial at once, then at most once a minute how often it came since; no denial is left out of the counts.
// Minutes are those of a timer: the clock of the machine may jump. It may be used by many goroutines.
type denials struct {
	tell func(n prevention.Denial, text string, times int)

	// mu guards the rest, and makes tell see one after the other.
	mu sync.Mutex
	// known are the kinds told, with what came since; more are those beyond maxDenials, by outcome.
	known map[denialKind]*sameDenials
	more  map[prevention.Outcome]int
	timer *time.Timer
}

// denialKind is what makes two denials the same.
type denialKind struct {
	outcome   prevention.Outcome
	rule, exe string
	path      string
	uid       uint32
	open      bool
}

type sameDenials struct {
	last  prevention.Denial
	times int
}

func (d *denials) add(n prevention.Denial) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer == nil {
		d.known, d.more = make(map[denialKind]*sameDenials), make(map[prevention.Outcome]int)
		d.timer = time.AfterFunc(denialEvery, d.flush)
	}
	kind := denialKind{n.Outcome, n.Rule, n.Caller.Exe, n.Path, n.Caller.UID, n.Open}
	if same := d.known[kind]; same != nil {
		same.last = n
		same.times++
		return
	}
	if len(d.known) >= maxDenials {
		d.more[n.Outcome]++
		return
	}
	d.known[kind] = &sameDenials{}
	d.tell(n, denialText(n), 1)
}

// flush tells what was only counted. Kinds that did not come again are forgotten.
func (d *denials) flush() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer == nil {
		return
	}
	for kind, same := range d.known {
		if same.times == 0 {
			delete(d.known, kind)
			continue
		}
		d.tell(same.last, denialText(same.last), same.times)
		same.times = 0
	}
	for outcome, times := range d.more {
		d.tell(prevention.Denial{Outcome: outcome}, fmt.Sprintf("%s: other processes and files than those told of one by one", outcome), times)
	}
	clear(d.more)
	if len(d.known) == 0 {
		d.timer = nil
		return
	}
	d.timer.Reset(denialEvery)
}

// close tells what was only counted, for the last time.
func (d *denials) close() {
	d.flush()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

// denialText says who wanted what, when, and what became of it. The command line of a process is its own word.
func denialText(n prevention.Denial) string {
	did := "execute"
	if n.Open {
		did = "open"
	}
	c := n.Caller
	text := fmt.Sprintf("%s: at %s process %d", n.Outcome, n.Time.UTC().Format(time.RFC3339Nano), c.PID)
	if c.Start != 0 {
		line := c.Cmdline
		if len(line) > maxDenialLine {
			line = line[:maxDenialLine]
		}
		text += fmt.Sprintf(" (started %d ticks after boot, parent %d, user %d, %s, command line %s)", c.Start, c.PPID, c.UID, verdict.Shown(c.Exe), verdict.Shown(line))
	} else {
		text += " (gone before it was looked at)"
	}
	text += fmt.Sprintf(" wanted to %s %s", did, verdict.Shown(n.Path))
	if n.SHA256 != "" {
		text += ", sha256 " + n.SHA256
	}
	if n.MD5 != "" {
		text += ", md5 " + n.MD5
	}
	if n.Rule != "" {
		text += ", rule " + n.Rule
	}
	if n.Why != "" {
		text += ": " + n.Why
	}
	return text
}
