package bridge

import (
	"context"
	"errors"
	"time"
)

var (
	// ErrNotFound is returned when nothing has the id.
	ErrNotFound = errors.New("no such id")
	// ErrAmbiguous is returned when several ids begin with the text given.
	ErrAmbiguous = errors.New("several begin so")
)

// OrderFilter picks orders; zero fields pick all.
type OrderFilter struct {
	State State
	// Reason picks orders with this reason, for State held.
	Reason Reason
	Host   string
	Rule   string
	Task   Kind
	// Source and AlertID name the alert the orders come from.
	Source, AlertID string
	// Since leaves out orders admitted before.
	Since time.Time
	// Before continues a listing: only orders admitted before the order of this id.
	Before string
	// Limit is how many orders come at most, up to 10,000; 0 = 100.
	Limit int
}

// Page walks over a listing from the oldest on. The zero value is the first page of 100.
type Page struct {
	// After is the place of the last one seen; the method returns it for the next page.
	After int64
	// Limit is how many come at most, up to 10,000; 0 = 100.
	Limit int
}

// Desk is where people work with a bridge, the same whether it runs and answers over its socket or the store is opened
// directly. Ids may be shortened to a unique beginning; errors wrap ErrNotFound and ErrAmbiguous.
type Desk interface {
	// Orders lists orders, newest first.
	Orders(ctx context.Context, f OrderFilter) ([]Order, error)
	Order(ctx context.Context, id string) (Order, error)
	// Audit lists audit records, oldest first; VerifyAudit checks the whole chain.
	Audit(ctx context.Context, f AuditFilter) ([]AuditRecord, error)
	VerifyAudit(ctx context.Context, known *Anchor) (AuditReport, error)
	// Leases lists the leases that hold, oldest first.
	Leases(ctx context.Context) ([]Lease, error)
	Hold(ctx context.Context) (Hold, error)
	// Letters lists dead letters, oldest first; an empty page is the last one.
	Letters(ctx context.Context, p Page) ([]DeadLetter, Page, error)
	Letter(ctx context.Context, id string) (DeadLetter, error)

	// Send admits orders entered by hand, carries them out and returns how they stand then, in the order given.
	Send(ctx context.Context, orders []Order) ([]Order, error)
	// SetHold latches the stop or takes it back.
	SetHold(ctx context.Context, h Hold) error
	// Decide approves or rejects a held order. Errors wrap ErrNotApprovable.
	Decide(ctx context.Context, d Decision) (Order, error)
	// Cancel takes back an order that has not begun; ErrStale when it has.
	Cancel(ctx context.Context, id, actor, why string) (Order, error)
	// RetryLetter has a dead letter read once more, DropLetter deletes it; its audit record stays.
	RetryLetter(ctx context.Context, id, actor string) (DeadLetter, error)
	DropLetter(ctx context.Context, id, actor, why string) (DeadLetter, error)
}
