package ksctest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// FaultKind is a way to fail.
type FaultKind int

// The ways to fail. Without Fault.Stored the request is read and then not carried out.
const (
	// FaultSlow waits Fault.Delay and then goes on as if nothing were wrong.
	FaultSlow FaultKind = iota
	// FaultReset ends the connection with a TCP reset instead of an answer.
	FaultReset
	// FaultClose ends the connection in order instead of an answer.
	FaultClose
	// FaultCut carries the request out, sends the first Fault.At bytes of the answer (status line and
	// headers included) and ends the connection.
	FaultCut
	// FaultHangUp carries the request out, answers in full and ends the connection unannounced.
	FaultHangUp
	// FaultUnauthorized answers 401.
	FaultUnauthorized
	// FaultExpire ends the caller's session (or the login of its connection) and answers 403.
	FaultExpire
	// FaultUnavailable answers 503, with Retry-After when Fault.RetryAfter is set.
	FaultUnavailable
	// FaultServerError answers 500 in plain text.
	FaultServerError
	// FaultHTML answers an HTML page with Fault.Status (200 when 0), as a proxy does.
	FaultHTML
	// FaultEmpty answers 200 without a body.
	FaultEmpty
	// FaultWrongTypes carries the request out and answers with values of other types.
	FaultWrongTypes
	// FaultRedirect answers Fault.Status (307 when 0) with Fault.Location.
	FaultRedirect
	// FaultGzip carries the request out and compresses the answer, asked for or not.
	FaultGzip
	// FaultApplication answers 200 with a PxgError that says Fault.Text.
	FaultApplication
)

const htmlPage = "<!DOCTYPE html>\n<html><head><title>Gateway</title></head><body><h1>Please sign in</h1></body></html>\n"

// Fault says what goes wrong, for which calls and how often.
type Fault struct {
	Kind FaultKind
	// Method is a method such as "HostGroup.AddIncident" or "login"; empty = every method.
	Method string
	// Skip lets so many calls pass first. Count ends the fault after so many failures; 0 = never.
	Skip  int
	Count int
	// Probability is the share of calls that fail, above 0 to 1; 0 = all of them.
	Probability float64
	// Stored carries the request out before failing: what it stored stays.
	Stored bool
	// Delay is waited before anything else happens (after the request was carried out when Stored).
	Delay time.Duration
	// At is the number of bytes FaultCut lets through.
	At int
	// Status and Location belong to FaultHTML and FaultRedirect.
	Status   int
	Location string
	// RetryAfter belongs to FaultUnavailable: whole seconds, 0 = no header.
	RetryAfter time.Duration
	// Text is the message of FaultApplication and FaultServerError.
	Text string
}

// Faults is the set of faults at work. Its methods may be called while the server runs.
type Faults struct {
	active atomic.Bool // some fault is set

	// mu guards the fields below.
	mu     sync.Mutex
	random *rand.Rand
	faults []*activeFault
}

// activeFault counts what a fault did.
type activeFault struct {
	Fault
	seen, hits int
}

// replaces reports whether the fault answers instead of the method.
func (k FaultKind) replaces() bool {
	switch k {
	case FaultSlow, FaultCut, FaultHangUp, FaultWrongTypes, FaultGzip:
		return false
	case FaultReset, FaultClose, FaultUnauthorized, FaultExpire, FaultUnavailable, FaultServerError,
		FaultHTML, FaultEmpty, FaultRedirect, FaultApplication:
		return true
	default:
		return false
	}
}

func newFaults(seed uint64) *Faults {
	return &Faults{random: rand.New(rand.NewPCG(seed, seed^0x9e3779b97f4a7c15))} //nolint:gosec // repeatable on purpose.
}

// Faults returns the set of faults of the server.
func (s *Server) Faults() *Faults { return s.faults }

// Add sets one more fault and returns how to lift it. Of several that fit a call the first set wins.
func (f *Faults) Add(fault Fault) (lift func(), err error) {
	if err := fault.validate(); err != nil {
		return nil, fmt.Errorf("add fault: %w", err)
	}
	a := &activeFault{Fault: fault}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, a)
	f.active.Store(true)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.remove(a)
	}, nil
}

// Clear lifts every fault.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = nil
	f.active.Store(false)
}

// Pending returns how many faults are still set: one with a Count leaves when it is used up.
func (f *Faults) Pending() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.faults)
}

// pick returns the fault that this call of a method meets, or nil.
func (f *Faults) pick(method string) *Fault {
	if !f.active.Load() {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.faults {
		if a.Method != "" && a.Method != method {
			continue
		}
		if a.seen++; a.seen <= a.Skip {
			continue
		}
		if a.Probability > 0 && f.random.Float64() >= a.Probability {
			continue
		}
		if a.hits++; a.hits == a.Count {
			f.remove(a)
		}
		fault := a.Fault
		return &fault
	}
	return nil
}

// remove takes a fault out. The caller holds mu.
func (f *Faults) remove(a *activeFault) {
	f.faults = slices.DeleteFunc(f.faults, func(other *activeFault) bool { return other == a })
	f.active.Store(len(f.faults) > 0)
}

func (f *Fault) validate() error {
	var errs []error
	if f.Kind < FaultSlow || f.Kind > FaultApplication {
		errs = append(errs, fmt.Errorf("kind: %d is no fault", f.Kind))
	}
	if f.Skip < 0 || f.Count < 0 || f.At < 0 || f.Delay < 0 || f.RetryAfter < 0 {
		errs = append(errs, errors.New("skip, count, at, delay, retry_after: must not be negative"))
	}
	if f.Probability < 0 || f.Probability > 1 {
		errs = append(errs, errors.New("probability: must be 0 to 1"))
	}
	if f.Status != 0 && (f.Status < 200 || f.Status > 599) {
		errs = append(errs, errors.New("status: must be 200 to 599"))
	}
	if f.Kind == FaultRedirect && f.Location == "" {
		errs = append(errs, errors.New("location: required for a redirect"))
	}
	return errors.Join(errs...)
}

// reply returns the answer of a fault that replaces the method's.
func (s *Server) reply(c *call, f *Fault) answer {
	switch f.Kind {
	case FaultUnauthorized:
		return text(http.StatusUnauthorized, textDenied)
	case FaultExpire:
		s.expireCaller(c)
		return text(http.StatusForbidden, "Forbidden\n")
	case FaultUnavailable:
		a := text(http.StatusServiceUnavailable, "Server is busy\n")
		if f.RetryAfter > 0 {
			a.set("Retry-After", strconv.Itoa(int(f.RetryAfter.Seconds())))
		}
		return a
	case FaultServerError:
		return text(http.StatusInternalServerError, orElse(f.Text, "Internal server error")+"\n")
	case FaultHTML:
		return answer{status: max(f.Status, http.StatusOK), contentType: "text/html; charset=utf-8", body: []byte(htmlPage)}
	case FaultEmpty:
		return answer{status: http.StatusOK, contentType: typeJSON}
	case FaultRedirect:
		a := text(http.StatusTemporaryRedirect, "Moved\n")
		if f.Status != 0 {
			a.status = f.Status
		}
		a.set("Location", f.Location)
		return a
	case FaultApplication:
		return answer{status: http.StatusOK, contentType: typeJSON, body: applicationFault(f.Text).appendTo(nil)}
	case FaultSlow, FaultReset, FaultClose, FaultCut, FaultHangUp, FaultWrongTypes, FaultGzip:
	}
	return answer{}
}

func applicationFault(message string) *pxgError {
	e := noAccess("the operation")
	if message != "" {
		e.message, e.format, e.args = message, "%1", []string{message}
	}
	return e
}

func (s *Server) expireCaller(c *call) {
	if id := c.header(headerSession); id != "" {
		if sess := s.sessions.find(id); sess != nil {
			s.endSession(sess)
		}
		return
	}
	if c.conn != nil {
		if sess := c.conn.login.Swap(nil); sess != nil {
			s.endSession(sess)
		}
	}
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
