package callout

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// callout is what one call of a script comes to: the one line on stdout, and the exit code.
type callout struct {
	// State is that of the order (bridge.State), CallSpooled, CallStored or CallNone, or refused or failed for a call that became no order.
	State     string `json:"state"`
	Call      string `json:"call,omitempty"`
	Order     string `json:"order,omitempty"`
	Host      string `json:"host,omitempty"`
	Task      string `json:"task"`
	Reason    string `json:"reason,omitempty"`
	Detail    string `json:"detail,omitempty"`
	CoveredBy string `json:"covered_by,omitempty"`

	exit int
	say  []string // words for people on stderr
}

// RunScript is the whole program under the name of one of the nine scripts: it reads the argument line, hands the call over, prints one JSON
// line on stdout and words on stderr, and returns the exit code (ScriptExits). ok is false when argv[0] is no such name (IsScriptName).
// It reads no settings and no environment; where calls go is said by a file (Locate). It takes at most 50 ms on a quiet machine.
//
// Killed at any instant it leaves the whole call or none. Whether KUMA reads the exit code or shows stdout is not documented, so the same words
// go to the journal.
func RunScript(argv []string, stdout, stderr io.Writer) (exit int, ok bool) {
	if len(argv) == 0 {
		return 0, false
	}
	task, ok := IsScriptName(argv[0])
	if !ok {
		return 0, false
	}
	// Only as the whole line: the word may come out of an event, and a call must not turn into a page of help.
	if len(argv) == 2 && (argv[1] == "--help" || argv[1] == "-h") {
		_, _ = io.WriteString(stdout, calloutHelp(task))
		return calloutDone, true
	}
	c := calloutRun(task, argv, func() (Location, error) {
		executable, err := os.Executable()
		if err != nil {
			executable = "" // the files beside the link and in /etc are left
		}
		l, _, err := Locate(argv[0], executable)
		return l, err
	})
	c.write(stdout, stderr)
	calloutLog(calloutSockets(), c)
	return c.exit, true
}

// calloutRun hands the call of an argument line over. Where to is asked only when the line is right.
func calloutRun(task bridge.Kind, argv []string, locate func() (Location, error)) callout {
	c := callout{Task: string(task)}
	call, err := ParseCall(argv[0], argv[1:])
	if err != nil {
		return c.fails(calloutUsage, bridge.StateRefused, bridge.ReasonInvalid, err)
	}
	c.Host, c.say = call.Host, call.Warnings
	to, err := locate()
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return c.fails(calloutFailed, bridge.StateFailed, bridge.ReasonUnsupported, err)
	case errors.Is(err, fs.ErrNotExist):
		return c.fails(calloutConfig, bridge.StateFailed, bridge.ReasonNone, errors.New("where calls go is said nowhere: run edr-bridge kuma install"))
	case err != nil:
		return c.fails(calloutConfig, bridge.StateFailed, bridge.ReasonNone, err)
	}
	call.ID = NewCallID()
	c.Call = call.ID
	r, err := HandOver(context.Background(), HandOverConfig{Socket: to.Socket, Spool: to.Spool}, call)
	if refused, ok := errors.AsType[*CallError](err); ok {
		if refused.Status == calloutForbidden {
			return c.fails(calloutCredentials, bridge.StateRefused, bridge.ReasonCredentials, err)
		}
		return c.fails(calloutUsage, bridge.StateRefused, bridge.ReasonInvalid, err)
	}
	if err != nil {
		return c.fails(calloutUnreachable, bridge.StateFailed, bridge.ReasonUnreachable, err)
	}
	c.State, c.Order, c.CoveredBy, c.Reason, c.Detail = r.State, r.OrderID, r.CoveredBy, r.Reason, r.Detail
	c.exit = calloutExit(r)
	if c.Detail != "" || c.exit != calloutDone {
		c.say = append(c.say, c.State+": "+c.Detail)
	}
	return c
}

// calloutForbidden is the status of a bridge that takes no calls of this user.
const calloutForbidden = 403

func (c callout) fails(exit int, state bridge.State, reason bridge.Reason, err error) callout {
	c.exit, c.State, c.Reason = exit, string(state), string(reason)
	c.Detail = argsDisplay(strings.ReplaceAll(err.Error(), "\n", "; ")) // several complaints are joined with line ends
	c.say = append(c.say, "error: "+c.Detail)
	return c
}

// write prints the answer. That nobody reads it changes nothing.
func (c callout) write(stdout, stderr io.Writer) {
	for _, words := range c.say {
		_, _ = io.WriteString(stderr, argsDisplay(words)+"\n")
	}
	line, err := callEncode(c)
	if err != nil {
		return // cannot happen: all of it is text
	}
	_, _ = stdout.Write(append(line, '\n'))
}
