package localagent

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// listed is how many targets a receipt or an error names one by one.
const listed = 16

var (
	// errGone says that the process has ended and the kernel has forgotten it, or is about to.
	errGone = errors.New("the process has ended")
	// errThread says that the number names a thread and not a process.
	errThread = errors.New("the number names a thread, not a process")
	// errSealed says that the system does not let the agent look at a process or end it.
	errSealed = errors.New("the system protects the process, or the agent lacks rights: run it as root, or with CAP_SYS_PTRACE and CAP_KILL; on Windows as SYSTEM")
)

// verdict is an error on its way to becoming a *bridge.ExecError.
type verdict struct {
	class  bridge.Class
	reason bridge.Reason
	err    error
}

// Error returns the cause.
func (v *verdict) Error() string { return v.err.Error() }

// Unwrap returns the cause.
func (v *verdict) Unwrap() error { return v.err }

// refuse says that the order is not carried out for a reason that will not go away.
func refuse(r bridge.Reason, format string, args ...any) error {
	return &verdict{bridge.Permanent, r, fmt.Errorf(format, args...)}
}

// hopeless says that the order cannot work here, which is a failure and not a refusal.
func hopeless(format string, args ...any) error {
	return &verdict{bridge.Permanent, bridge.ReasonNone, fmt.Errorf(format, args...)}
}

// untouched says that nothing happened and that trying again may help.
func untouched(format string, args ...any) error {
	return &verdict{bridge.Retry, bridge.ReasonNone, fmt.Errorf(format, args...)}
}

// undecided says that something may have happened.
func undecided(format string, args ...any) error {
	return &verdict{bridge.Unknown, bridge.ReasonNone, fmt.Errorf(format, args...)}
}

// stopped returns an untouched verdict when ctx has ended.
func stopped(ctx context.Context, doing string) error {
	if cause := context.Cause(ctx); cause != nil {
		return untouched("%s: %w", doing, cause)
	}
	return nil
}

// shown makes text from outside fit for logs and terminals: quoted as soon as a character is not printable.
func shown(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` || s == "" {
		return q
	}
	return s
}

// list joins the first names and counts the rest.
func list(names []string) string {
	if len(names) <= listed {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:listed], ", "), len(names)-listed)
}
