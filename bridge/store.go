package bridge

import (
	"context"
	"errors"
	"time"
)

// ErrStale is returned by Store.Move when the order is not in the expected state any more.
var ErrStale = errors.New("order has moved on")

// Admission is everything one delivery changes; it is committed whole or not at all.
type Admission struct {
	Alerts []Alert
	// Orders have their State, Reason and Detail as the guards left them; Pending ones may carry an Intent.
	Orders []Order
}

// Admitted is what became of one order of an Admission.
type Admitted struct {
	// Order is as stored: its State may have become StateDuplicate (with Covers), its Intent.Second may have moved.
	Order Order
	// Known says that the store had this order id already: a redelivery. Nothing was changed.
	Known bool
}

// Store is the durable state. All methods block until the change is on disk (synced) or certainly not;
// they may be called by many goroutines at once, whose changes are committed in groups.
type Store interface {
	// Admit commits alerts, orders and their audit records in one transaction and answers in the order of
	// a.Orders. An order with a Dedupe key that another order of the window covers becomes a duplicate;
	// an Intent.Second that is taken for the same target and body moves to the next free one, 5 s apart.
	Admit(ctx context.Context, a Admission) ([]Admitted, error)
	// Move commits the new state of o with its audit record if the stored state is still from,
	// else it answers ErrStale. It returns the order as stored (see Admit for Intent.Second).
	Move(ctx context.Context, o Order, from State) (Order, error)
	// Note commits an audit record that belongs to no order: a loss, a start, a hold.
	Note(ctx context.Context, n Note) error
}

// Note is an audit record outside the life of an order.
type Note struct {
	// What is one of the Note… words.
	What string
	// Source or actor it concerns; Count how many (lost alerts); Detail in words.
	Source, Actor string
	Count         int64
	Detail        string
}

// The words of Note.What.
const (
	NoteStart      = "start"
	NoteStop       = "stop"
	NoteLoss       = "loss"        // alerts known to be lost
	NoteGap        = "gap"         // a connection gap in which alerts may have been lost
	NoteDeadLetter = "dead_letter" // a document that cannot be read
	NoteHold       = "hold"
	NoteResume     = "resume"
	NoteReload     = "reload" // the rules were read again
)

// Hold is the latched stop: while Active nothing is sent but releases.
type Hold struct {
	Active bool
	Reason string
	Actor  string
	Since  time.Time
}
