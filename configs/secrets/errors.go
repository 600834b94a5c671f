package secrets

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrNotFound says that neither the credential directory nor the back-end holds the secret.
	ErrNotFound = errors.New("not found")
	// ErrLocked says that the back-end holds it but did not open it: locked, wrong passphrase, damaged or not permitted.
	ErrLocked = errors.New("locked")
	// ErrBackend says that the back-end did not answer in time or is not available.
	ErrBackend = errors.New("back-end not available")
)

// Error is the only kind of error that the methods of Store return; the command line ends with exit code 77 on it.
// It never holds a secret, nor text of a back-end that could hold one.
type Error struct {
	// Op is what was tried: get, set, delete, list or test.
	Op string
	// Ref names the secret; empty for list.
	Ref Ref
	// Backend is what answered: a Backend or "credential".
	Backend string
	// Kind is ErrNotFound, ErrLocked or ErrBackend.
	Kind error
	// Detail says what was seen, Advice what to do next; both may be empty.
	Detail, Advice string
	// Cause is an error of the operating system or of the context, or nil.
	Cause error
}

// Error returns operation, reference, back-end, kind, what was seen and what to do next.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Ref != "" {
		b.WriteString(" " + e.Ref.String())
	}
	if e.Backend != "" {
		b.WriteString(" (" + e.Backend + ")")
	}
	b.WriteString(": " + e.Kind.Error())
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	if e.Cause != nil {
		fmt.Fprintf(&b, ": %v", e.Cause)
	}
	if e.Advice != "" {
		b.WriteString("; " + e.Advice)
	}
	return b.String()
}

// Unwrap returns the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Cause}
}
