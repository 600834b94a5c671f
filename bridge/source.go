package bridge

import "context"

// Delivery is one alert handed over by a source.
type Delivery struct {
	// Alert holds Source, Preset, Received and Raw; the mapper fills in the rest.
	// ID is the transport's own id of the document (a stream entry id) or empty.
	Alert Alert
	// Settle tells the source how it went and is called exactly once, after the commit.
	// A nil error acknowledges; an error for which errors.Is(err, ErrBadAlert) holds dead-letters the
	// document, then acknowledges; any other error leaves it to be delivered again where the transport can.
	// It does not wait for the broker longer than ctx allows and may acknowledge in batches behind the caller.
	Settle func(ctx context.Context, err error) error
}

// Source is where alerts come from. Receive blocks until a delivery is there or ctx ends and is never
// called by two goroutines at once. ErrNotConnected asks for a pause (the caller backs off 0.1 s to 5 s),
// ErrClosed ends the source; what is still queued inside is kept for later calls.
type Source interface {
	Receive(ctx context.Context) (Delivery, error)
}

// Executor carries orders out. Execute blocks until the outcome is known or ctx ends, may be called by many
// goroutines at once, and returns only *ExecError. The caller has committed o.Intent before.
type Executor interface {
	Execute(ctx context.Context, o Order) (Receipt, error)
}

// Intender is an Executor whose effect needs facts fixed and stored before it begins.
// Intend resolves the host and chooses the intent; it has no effect and may be repeated. With wait false
// it must not touch the network and answers ok=false when it would have to. Errors are *ExecError.
type Intender interface {
	Intend(ctx context.Context, o Order, wait bool) (in Intent, ok bool, err error)
}

// Reconciler is an Executor that can find out what became of an intent whose outcome is not known.
// Reconcile returns found=true with the receipt when the effect is there (it also completes it), found=false
// when a clean search did not see it. It has no effect of its own besides. Errors are *ExecError.
type Reconciler interface {
	Reconcile(ctx context.Context, o Order) (r Receipt, found bool, err error)
}

// Repeater is an Executor that remembers its orders: carrying one of these kinds out a second time under the same id changes nothing and answers
// what became of it the first time. Kinds it does not name go by Repeatable.
type Repeater interface {
	Repeats(k Kind) bool
}

// Follower is an Executor that can tell how orders it accepted go on.
type Follower interface {
	// Follow looks once, without any effect, for what became of accepted or running orders and answers for each order it
	// learned something about; an order it is silent about stands as before. Errors are *ExecError; what was
	// learned before the error is returned with it.
	Follow(ctx context.Context, orders []Order) ([]Progress, error)
}

// Progress is what became of an accepted order.
type Progress struct {
	OrderID string
	// State is StateRunning, StateDone, StateFailed, or StateUnknown when even the executor cannot find out any more.
	State State
	// Detail is what was seen, for people.
	Detail string
}

// ProcessResolver knows the processes of this machine.
type ProcessResolver interface {
	// ResolveProcess returns start time, image path and, when digests is set, the image's digests of the
	// live process p.PID. If p carries Start or Path, they must match. Errors are *ExecError
	// with ReasonProcessGone or ReasonProcessChanged.
	ResolveProcess(ctx context.Context, p Process, digests bool) (Process, error)
}

// Mapper turns the document of a delivery into a normalised alert and the orders its rules ask for.
// It is pure: no clock, no network, no state. An error wraps ErrBadAlert when the document is unreadable.
type Mapper interface {
	Map(raw Alert) ([]Mapped, error)
}

// Mapped is one alert of a document and the orders its rules ask for. Of an order the mapper fills in
// AlertID, Source, Rule, At, Host, Subject, Task, Mode, For, Dedupe, Window and AlertTime; the task is validated.
type Mapped struct {
	Alert  Alert
	Orders []Order
	// Refused are orders whose rule matched but whose parameters could not be filled in or are invalid;
	// their State, Reason and Detail are set and Task may be nil.
	Refused []Order
}
