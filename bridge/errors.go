package bridge

import (
	"errors"
	"fmt"
)

// Class says what the caller of an executor may do after an error.
type Class int

// The classes. The zero value is the safe one.
const (
	Permanent   Class = iota // stop: certainly not done, and trying again would not help
	Retry                    // nothing happened: the same call may be made again
	Unknown                  // it may have happened: never resend before looking
	Unreachable              // nothing left this machine: another executor may try
)

// String returns the word used in logs and metrics.
func (c Class) String() string {
	switch c {
	case Permanent:
		return "permanent"
	case Retry:
		return "retry"
	case Unknown:
		return "unknown"
	case Unreachable:
		return "unreachable"
	default:
		return fmt.Sprintf("class(%d)", int(c))
	}
}

// ExecError is the only error an Executor returns.
type ExecError struct {
	// Executor is "ksc" or "local".
	Executor string
	OrderID  string
	Class    Class
	// Reason is the closed word for refusals (a protected target, an ambiguous host), else empty.
	Reason Reason
	Err    error
}

// Error returns executor, class and cause.
func (e *ExecError) Error() string {
	return fmt.Sprintf("%s: %s: %v", e.Executor, e.Class, e.Err)
}

// Unwrap returns the cause.
func (e *ExecError) Unwrap() error { return e.Err }

// ClassOf returns the class of err; errors of another type are Unknown, because nobody vouched that
// nothing happened.
func ClassOf(err error) Class {
	if ee, ok := errors.AsType[*ExecError](err); ok {
		return ee.Class
	}
	return Unknown
}

// reasonOf returns the closed word an executor gave, or ReasonNone.
func reasonOf(err error) Reason {
	if ee, ok := errors.AsType[*ExecError](err); ok {
		return ee.Reason
	}
	return ReasonNone
}

// causeText is what an executor saw, without the class that only this program needs.
func causeText(err error) string {
	if ee, ok := errors.AsType[*ExecError](err); ok && ee.Err != nil {
		return ee.Err.Error()
	}
	return err.Error()
}

var (
	// ErrClosed ends a source for good: there will be no more deliveries.
	ErrClosed = errors.New("source closed")
	// ErrNotConnected asks the caller of Receive to back off and call again.
	ErrNotConnected = errors.New("source not connected")
	// ErrBadAlert marks a document no retry can make readable: it goes to the dead letters.
	ErrBadAlert = errors.New("bad alert")
)
