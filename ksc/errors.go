package ksc

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// ErrLoginsStopped is in the chain of the errors of all calls after the server refused two logins, because a
// third might lock the account. Nothing is sent until Client.ResetLogin.
var ErrLoginsStopped = errors.New("logins are stopped")

// ErrClosed is in the chain of the errors of calls after Client.Close.
var ErrClosed = errors.New("client is closed")

// CallError is the only error the remote methods of Client return.
type CallError struct {
	// Method is "Class.Method".
	Method string
	// Class says what became of the call and so what the caller may do: Permanent, refused by the server; Retry,
	// nothing happened; Unknown, it may have been carried out; Unreachable, there was no connection.
	Class bridge.Class
	// Err is an *Error, *StatusError, *AuthError or what the transport said.
	Err error

	contact contact
}

// contact is what a failed call tells about the server being there, for the circuit breaker.
type contact int

const (
	contactNone     contact = iota // the server was not asked
	contactSilent                  // it did not answer
	contactAnswered                // it answered, if only to refuse
)

// Error returns method and cause.
func (e *CallError) Error() string { return e.Method + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *CallError) Unwrap() error { return e.Err }

// Error is a refusal by the application: HTTP 200 with a PxgError. The numbers are not published by the vendor,
// so nothing may depend on them; they and the words are for people.
// (support.kaspersky.com/help/KSC/15.1/KSCAPI/index.html, "Error handling".)
type Error struct {
	Method        string
	Code, Subcode int64
	// Module and File name the place in the server's program, with Line.
	Module, File string
	Line         int64
	// Message is the localised text with its arguments filled in, else the plain one. One line, at most 4 kB.
	Message string
}

// Error returns code, module and message.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "server error %d", e.Code)
	if e.Subcode != 0 {
		fmt.Fprintf(&b, "/%d", e.Subcode)
	}
	if e.Module != "" {
		b.WriteString(" (" + e.Module + ")")
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	return b.String()
}

// StatusError is an answer other than HTTP 200; its text is never parsed.
type StatusError struct {
	Method string
	Status int
	// Excerpt is the beginning of the text, one line, at most 4 kB, without credentials.
	Excerpt string
}

// Error returns the status and the first words of the text.
func (e *StatusError) Error() string {
	s := fmt.Sprintf("http status %d", e.Status)
	if text := http.StatusText(e.Status); text != "" {
		s += " " + strings.ToLower(text)
	}
	if e.Status >= 300 && e.Status < 400 {
		s += ": redirects are not followed, check ksc.address"
	}
	if e.Excerpt != "" {
		s += ": " + excerpt([]byte(e.Excerpt), maxName)
	}
	return s
}

// PasswordError says that Config.Password gave no password: nothing was sent.
type PasswordError struct{ Err error }

// Error returns what Config.Password answered.
func (e *PasswordError) Error() string { return "no password: " + e.Err.Error() }

// Unwrap returns the answer of Config.Password.
func (e *PasswordError) Unwrap() error { return e.Err }

// AuthError says that the server refused to let the account in, or refused it a call in a session just granted. Nothing was done.
type AuthError struct {
	User string
	// SecondFactor says that the password was right and a one-time code is wanted, which no service can give.
	SecondFactor bool
	// Hint is what to check, in the order of likelihood.
	Hint string
	// Err is the *StatusError or *Error of the refusal.
	Err error

	stopped bool
}

// Error returns user, refusal and hint.
func (e *AuthError) Error() string {
	s := fmt.Sprintf("account %q is refused: %v; %s", e.User, e.Err, e.Hint)
	if e.stopped {
		s += "; " + ErrLoginsStopped.Error() + " so that the account is not locked"
	}
	return s
}

// Unwrap returns the refusal, and ErrLoginsStopped when it was the last one allowed.
func (e *AuthError) Unwrap() []error {
	if e.stopped {
		return []error{e.Err, ErrLoginsStopped}
	}
	return []error{e.Err}
}

// answerError is a 200 answer that cannot be read: whether the call was carried out is open.
type answerError struct {
	why  string
	body []byte
}

func (e *answerError) Error() string { return e.why }

// plainError is an error whose text may come from the server and was made fit to print.
type plainError struct {
	text string
	err  error
}

func (e *plainError) Error() string { return e.text }
func (e *plainError) Unwrap() error { return e.err }

// newError makes the one error type of the vendor out of the object behind PxgError. Every field may be
// missing or of another type; what cannot be read is left out.
func newError(method string, raw json.RawMessage, secrets ...secret) *Error {
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(raw, &fields) // the caller has seen that it is an object
	text := func(key string, limit int) string { return excerpt([]byte(wireText(fields[key])), limit, secrets...) }
	e := &Error{
		Method: method, Code: wireInt(fields["code"]), Subcode: wireInt(fields["subcode"]), Line: wireInt(fields["line"]),
		Module: text("module", maxName), File: text("file", maxName), Message: text("message", maxExcerpt),
	}
	if local := render(fields["locdata"]); local != "" {
		e.Message = excerpt([]byte(local), maxExcerpt, secrets...)
	}
	return e
}

// render fills %1, %2 … of a localised format; missing arguments become empty, as in the vendor's client.
func render(raw json.RawMessage) string {
	var loc Params[struct {
		Format string            `json:"format"`
		Args   []json.RawMessage `json:"args"`
	}]
	if len(raw) == 0 || json.Unmarshal(raw, &loc) != nil {
		return ""
	}
	var b strings.Builder
	format := loc.Value.Format
	for i := 0; i < len(format); i++ {
		end := i + 1
		for format[i] == '%' && end < len(format) && format[end] >= '0' && format[end] <= '9' && end-i < 4 {
			end++
		}
		if end == i+1 {
			b.WriteByte(format[i])
			continue
		}
		if n, err := strconv.Atoi(format[i+1 : end]); err == nil && n >= 1 && n <= len(loc.Value.Args) {
			b.WriteString(wireText(loc.Value.Args[n-1]))
		}
		i = end - 1
	}
	return b.String()
}

// wireText returns a JSON string as text and any other value as it is written.
func wireText(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

func wireInt(raw json.RawMessage) int64 {
	n, err := strconv.ParseInt(wireText(raw), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
