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
	// Asked says that the order waits for a person and nobody was asked about this host lately.
	Asked bool
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
	// Bury keeps a document that cannot be read, with its audit record. The same letter again counts as another attempt.
	Bury(ctx context.Context, l DeadLetter) error
}

// Cabinet is what the store holds ready for a running bridge beside the admission of alerts. Lists come oldest first in pages; an
// empty page is the last one, and the walk stays right while orders move on.
type Cabinet interface {
	Store
	// Pending returns queued and sending orders this process has to go on with: its own, and those of processes that
	// moved them last before foreign, because those must be gone.
	Pending(ctx context.Context, foreign time.Time, p Page) ([]Order, Page, error)
	// Held returns the orders held for one of the reasons.
	Held(ctx context.Context, reasons []Reason, p Page) ([]Order, Page, error)
	// Accepted returns the orders that are accepted or running.
	Accepted(ctx context.Context, p Page) ([]Order, Page, error)
	// Overdue returns held, queued, accepted and running orders that are past Order.Due.
	Overdue(ctx context.Context, p Page) ([]Order, Page, error)
	// DueLeases says what has to be done so that hosts stand as their leases say.
	DueLeases(ctx context.Context) ([]LeaseTask, error)
	// TakeUp queues held orders again as far as there is room for them, and returns those it queued. Isolations whose host
	// was released after them are cancelled.
	TakeUp(ctx context.Context, orders []Order) ([]Order, error)
	// Hold returns the latched stop, Changed a number that differs from the one before when another process committed something
	// in between.
	Hold(ctx context.Context) (Hold, error)
	Changed(ctx context.Context) (uint64, error)
	// Retries returns the dead letters somebody wants to be read once more, Unbury deletes one that was admitted.
	Retries(ctx context.Context) ([]DeadLetter, error)
	Unbury(ctx context.Context, id string) error
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
	NoteReload     = "reload"            // the rules were read again
	NoteLapsed     = "lapsed_by_product" // the vendor's product ended an isolation by itself
	NoteAsk        = "ask"               // a person was asked for an approval
	NoteClock      = "clock"             // the clock of the machine jumped
	NoteDrop       = "drop"              // a dead letter was dropped by a person
	NoteRetry      = "retry"             // a dead letter was given to the bridge once more
	NoteArchive    = "archive"           // the oldest audit records moved to a file
	NotePrevented  = "prevented"         // the local agent kept a program from being executed
	NoteTampered   = "tampered"          // somebody else changed an isolation of this machine
	NoteQuarantine = "quarantine"        // a person restored, exported or dropped a quarantined file

	NoteNotPrevented = "not_prevented" // a rule is about a program that ran all the same
	NoteRuleStopped  = "rule_stopped"  // the agent stopped a rule about programs, because it hit too many
)

// Hold is the latched stop: while Active nothing is sent but releases.
type Hold struct {
	Active bool
	Reason string
	Actor  string
	Since  time.Time
}
