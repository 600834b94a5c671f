package bridge

import (
	"sort"
	"time"
)

// FactKind says what a Fact is about.
type FactKind string

// The kinds of facts.
const (
	FactCharge FactKind = "charge" // an order that counts against budgets began
	FactFlip   FactKind = "flip"   // a host was isolated or released
	FactUndo   FactKind = "undo"   // a person took an isolation of a rule back
	FactStrike FactKind = "strike" // an alert that counts towards a rule's threshold
	FactAsk    FactKind = "ask"    // an approval about a host was asked for
)

// Fact is something the guards have to remember for a while, beside what stands in the orders themselves.
type Fact struct {
	What FactKind
	// Key is what it is counted under: a host, a threshold; Order the order it comes from.
	Key, Order string
	// Task, Source and Rule are those of the order, for charges.
	Task         Kind
	Source, Rule string
	At           time.Time
	// Until is when it may be forgotten.
	Until time.Time
}

// Journal is where a Ledger writes what it wants to find again at the next start: the transaction of the change
// that caused it.
type Journal interface {
	// AddFact keeps a fact, DropFacts forgets those of an order.
	AddFact(f Fact) error
	DropFacts(order string, what FactKind) error
	// PutLease keeps a lease under its Order, in place of an earlier one.
	PutLease(l Lease) error
	// Latch puts the bridge on hold.
	Latch(h Hold) error
	// Record adds an audit record that belongs to no change of an order.
	Record(n Note) error
}

// window counts what happened within the last while, oldest first.
type window struct {
	marks []mark
	gone  int // marks at the front that are too old
}

type mark struct {
	at    time.Time
	order string
}

// clockSlack is how far a clock may be set back without a window forgetting what it should count.
const clockSlack = time.Minute

// add puts a mark where its time belongs: clocks are set back now and then.
func (w *window) add(at time.Time, order string) {
	w.marks = append(w.marks, mark{at, order})
	for i := len(w.marks) - 1; i > w.gone && w.marks[i].at.Before(w.marks[i-1].at); i-- {
		w.marks[i], w.marks[i-1] = w.marks[i-1], w.marks[i]
	}
}

// count returns how many marks lie after since and forgets those long before.
func (w *window) count(since time.Time) int {
	w.forget(since)
	live := w.marks[w.gone:]
	return len(live) - sort.Search(len(live), func(i int) bool { return live[i].at.After(since) })
}

func (w *window) forget(before time.Time) {
	before = before.Add(-clockSlack)
	for w.gone < len(w.marks) && !w.marks[w.gone].at.After(before) {
		w.gone++
	}
	if w.gone > 64 && w.gone > len(w.marks)/2 {
		w.marks = append([]mark(nil), w.marks[w.gone:]...)
		w.gone = 0
	}
}

// oldest returns the moment of the oldest mark after since; zero when there is none.
func (w *window) oldest(since time.Time) time.Time {
	for _, m := range w.marks[w.gone:] {
		if m.at.After(since) {
			return m.at
		}
	}
	return time.Time{}
}

// drop removes the mark of an order, which is one of the newest.
func (w *window) drop(order string) {
	for i := len(w.marks) - 1; i >= w.gone; i-- {
		if w.marks[i].order == order {
			w.marks = append(w.marks[:i], w.marks[i+1:]...)
			return
		}
	}
}

func (w *window) empty() bool { return w.gone >= len(w.marks) }
