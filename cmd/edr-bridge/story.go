package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// story tells what happens in the lab, a line each.
type story struct {
	app     *app
	started time.Time
	seen    chan bridge.Order

	mu sync.Mutex // one line at a time
}

// storyLine is one line for programs: milliseconds since the start, who acts and what happens.
type storyLine struct {
	MS   float64 `json:"ms"`
	Who  string  `json:"who"`
	Text string  `json:"text"`
}

func (s *story) tell(who, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line := storyLine{float64(time.Since(s.started).Microseconds()) / 1000, who, printable(fmt.Sprintf(format, args...))}
	switch s.app.output {
	case "json", "jsonl":
		_ = s.app.printJSON(line)
	case "yaml":
		_ = s.app.printYAML([]storyLine{line})
	default:
		_, _ = fmt.Fprintf(s.app.std.out, "%7.1f ms  %-7s %s\n", line.MS, line.Who, line.Text)
	}
}

func (s *story) act(title string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.app.output == "table" {
		_, _ = fmt.Fprintf(s.app.std.out, "\n%s\n", title)
	}
}

// order passes an order on to whoever waits; nobody waiting is no reason to stand still.
func (s *story) order(o bridge.Order) {
	select {
	case s.seen <- o:
	default:
	}
}

// told is a store that tells of every change once it is committed.
type told struct {
	bridge.Store
	story *story
}

// Admit tells of the alert, the rule and the order.
func (t *told) Admit(ctx context.Context, a bridge.Admission) ([]bridge.Admitted, error) {
	out, err := t.Store.Admit(ctx, a)
	if err != nil {
		return out, err
	}
	for _, al := range a.Alerts {
		t.story.tell("alert", "%s %q, process %d", al.Level, al.Title, al.Process.PID)
	}
	for _, ad := range out {
		o := ad.Order
		if o.Task == nil {
			t.tellOrder(o)
			continue
		}
		t.story.tell("rule", "%s (%s) asks for %s on %s", o.Rule, o.At, o.Task.Kind(), o.Host)
		t.tellOrder(o)
	}
	return out, nil
}

// Move tells how the order goes on.
func (t *told) Move(ctx context.Context, o bridge.Order, from bridge.State) (bridge.Order, error) {
	moved, err := t.Store.Move(ctx, o, from)
	if err == nil {
		t.tellOrder(moved)
	}
	return moved, err
}

func (t *told) tellOrder(o bridge.Order) {
	line := fmt.Sprintf("%s %s", o.ID, o.State)
	if o.Executor != "" {
		line += " by " + o.Executor
	}
	if o.State == bridge.StateSending && o.Executor == bridge.ExecutorKSC {
		if params, err := bridge.EncodeParams(o.Task); err == nil {
			line += " " + string(params)
		}
	}
	if o.Ref != "" {
		line += ", incident " + o.Ref
	}
	if o.Detail != "" {
		line += ": " + o.Detail
	}
	t.story.tell("order", "%s", line)
	t.story.order(o)
}
