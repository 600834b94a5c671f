package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// code is the closed word for what went wrong.
type code string

const (
	codeNotFound      code = "not_found"
	codeAmbiguous     code = "ambiguous"
	codeStale         code = "stale"
	codeNotApprovable code = "not_approvable"
	codeExec          code = "exec"      // an executor said so; failure.Exec tells more
	codeInvalid       code = "invalid"   // the request is not one
	codeForbidden     code = "forbidden" // not from there
	codeTooLarge      code = "too_large"
	codeBusy          code = "busy"
	codeClosing       code = "closing"  // the bridge shuts down
	codeDeadline      code = "deadline" // it took too long
	codeFailed        code = "failed"   // anything else
)

// meaning is what a code says: the error callers branch on (nil = none) and the status of the answer.
type meaning struct {
	code   code
	err    error
	status int
}

// meanings lists every code; the first that fits an error is its code.
func meanings() []meaning {
	return []meaning{
		{codeNotFound, bridge.ErrNotFound, http.StatusNotFound},
		{codeAmbiguous, bridge.ErrAmbiguous, http.StatusConflict},
		{codeStale, bridge.ErrStale, http.StatusConflict},
		{codeNotApprovable, bridge.ErrNotApprovable, http.StatusConflict},
		{codeClosing, errClosing, http.StatusServiceUnavailable},
		{codeBusy, errBusy, http.StatusServiceUnavailable},
		{codeInvalid, errInvalid, http.StatusBadRequest},
		{codeForbidden, errForbidden, http.StatusForbidden},
		{codeTooLarge, errTooLarge, http.StatusRequestEntityTooLarge},
		{codeDeadline, context.DeadlineExceeded, http.StatusGatewayTimeout},
		{codeExec, nil, http.StatusBadGateway},
		{codeFailed, nil, http.StatusInternalServerError},
	}
}

var (
	errClosing   = errors.New("the bridge is shutting down")
	errBusy      = errors.New("the bridge is busy")
	errInvalid   = errors.New("bad request")
	errForbidden = errors.New("refused")
	errTooLarge  = errors.New("request too large")
)

// failure is an error on the wire.
type failure struct {
	Code    code         `json:"code"`
	Message text         `json:"message"`
	Exec    *execFailure `json:"exec,omitempty"`
}

// execFailure is bridge.ExecError on the wire.
type execFailure struct {
	Executor text          `json:"executor"`
	Order    text          `json:"order,omitempty"`
	Class    string        `json:"class"`
	Reason   bridge.Reason `json:"reason,omitempty"`
	Cause    text          `json:"cause,omitempty"`
}

// encodeFailure returns the error as it crosses the wire and the status it goes with.
func encodeFailure(err error) (failure, int) {
	f := failure{Message: text(err.Error())}
	ee, isExec := errors.AsType[*bridge.ExecError](err)
	if isExec {
		f.Exec = &execFailure{Executor: text(ee.Executor), Order: text(ee.OrderID), Class: ee.Class.String(), Reason: ee.Reason}
		if ee.Err != nil {
			f.Exec.Cause = text(ee.Err.Error())
		}
	}
	for _, m := range meanings() {
		if m.err != nil && errors.Is(err, m.err) || m.code == codeExec && isExec || m.code == codeFailed {
			f.Code = m.code
			return f, m.status
		}
	}
	return f, http.StatusInternalServerError
}

// decode returns the error with the same text, for which errors.Is and errors.As answer as at the server.
func (f failure) decode() error {
	e := &remoteError{text: string(f.Message)}
	for _, m := range meanings() {
		if m.code == f.Code && m.err != nil {
			e.is = append(e.is, m.err)
		}
	}
	if x := f.Exec; x != nil {
		e.is = append(e.is, &bridge.ExecError{
			Executor: string(x.Executor), OrderID: string(x.Order), Class: parseClass(x.Class), Reason: x.Reason,
			Err: errors.New(string(x.Cause)),
		})
	}
	return e
}

// parseClass reads a class; of a word nobody knows, nothing may be concluded.
func parseClass(word string) bridge.Class {
	for _, c := range []bridge.Class{bridge.Permanent, bridge.Retry, bridge.Unreachable} {
		if c.String() == word {
			return c
		}
	}
	return bridge.Unknown
}

// remoteError is an error of the bridge on the client's side.
type remoteError struct {
	text string
	is   []error
}

// Error returns the text of the server's error.
func (e *remoteError) Error() string { return e.text }

// Unwrap returns what the error is.
func (e *remoteError) Unwrap() []error { return e.is }
