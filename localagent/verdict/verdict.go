// Package verdict is how the rooms of the local agent say how an order went: why it was refused, or what may have happened.
//
// An *Error is on its way to becoming a *bridge.ExecError; the agent adds the order and its own name.
// Text from outside goes into it through Shown, so that no log and no terminal is deceived.
package verdict

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// listed is how many things a receipt or an error names one by one.
const listed = 16

// Error says what became of an order that was not done.
type Error struct {
	Class  bridge.Class
	Reason bridge.Reason
	Err    error
}

// Error returns the cause.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Refuse says that the order is not carried out for a reason that will not go away.
func Refuse(r bridge.Reason, format string, args ...any) error {
	return &Error{bridge.Permanent, r, fmt.Errorf(format, args...)}
}

// Hopeless says that the order cannot work here, which is a failure and not a refusal.
func Hopeless(format string, args ...any) error {
	return &Error{bridge.Permanent, bridge.ReasonNone, fmt.Errorf(format, args...)}
}

// Untouched says that nothing happened and that trying again may help.
func Untouched(format string, args ...any) error {
	return &Error{bridge.Retry, bridge.ReasonNone, fmt.Errorf(format, args...)}
}

// Undecided says that something may have happened.
func Undecided(format string, args ...any) error {
	return &Error{bridge.Unknown, bridge.ReasonNone, fmt.Errorf(format, args...)}
}

// Stopped returns an Untouched error when ctx has ended.
func Stopped(ctx context.Context, doing string) error {
	if cause := context.Cause(ctx); cause != nil {
		return Untouched("%s: %w", doing, cause)
	}
	return nil
}

// Of returns the *Error in err; an error without one is Unknown, because nobody vouched that nothing happened.
func Of(err error) *Error {
	if v, ok := errors.AsType[*Error](err); ok {
		return v
	}
	return &Error{Class: bridge.Unknown, Err: err}
}

// DryRun is the receipt of an order that was carried out but for its effect.
func DryRun(text string) bridge.Receipt {
	return bridge.Receipt{State: bridge.StateShadow, Detail: "dry run: " + text}
}

// Done is the receipt of an effect that was seen.
func Done(text string) bridge.Receipt { return bridge.Receipt{State: bridge.StateDone, Detail: text} }

// Shown makes text from outside fit for logs and terminals: quoted as soon as a character is not printable.
func Shown(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` || s == "" {
		return q
	}
	return s
}

// List joins the first 16 names and counts the rest.
func List(names []string) string {
	if len(names) <= listed {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:listed], ", "), len(names)-listed)
}
