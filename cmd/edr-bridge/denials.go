package main

import (
	"fmt"
	"time"

	"github.com/edr-bridge/edr-bridge/localagent/prevention"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	// denialEvery is how often the same denial is told.
	denialEvery = time.Minute
	// maxDenials bounds what is remembered of them.
	maxDenials = 1024
)

// denials tells each kind of denial once a minute. It is used by one goroutine.
type denials struct {
	tell  func(text string, times int)
	known map[string]*toldDenial
}

type toldDenial struct {
	at    time.Time
	times int
}

func (d *denials) add(n prevention.Denial) {
	key := fmt.Sprint(n.Outcome, n.Rule, n.File, n.Caller.Exe, n.Open)
	known := d.known[key]
	if known == nil {
		if d.known == nil || len(d.known) >= maxDenials {
			d.known = make(map[string]*toldDenial)
		}
		known = &toldDenial{}
		d.known[key] = known
	}
	known.times++
	if n.Time.Sub(known.at) < denialEvery {
		return
	}
	d.tell(denialText(n), known.times)
	known.at, known.times = n.Time, 0
}

func denialText(n prevention.Denial) string {
	did := "execute"
	if n.Open {
		did = "open"
	}
	text := fmt.Sprintf("%s: process %d (%s, user %d) wanted to %s %s", n.Outcome, n.Caller.PID, verdict.Shown(n.Caller.Exe), n.Caller.UID, did, verdict.Shown(n.Path))
	if n.SHA256 != "" {
		text += ", sha256 " + n.SHA256
	}
	if n.Rule != "" {
		text += ", rule " + n.Rule
	}
	if n.Why != "" {
		text += ": " + n.Why
	}
	return text
}
