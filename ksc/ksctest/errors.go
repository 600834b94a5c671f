package ksctest

import (
	"fmt"
	"net/http"
)

// The codes of application errors. They are made up: the vendor publishes no numbers,
// so a client must not depend on them.
const (
	codeNotFound     = 1181
	codeBadParameter = 1182
	codeTooMany      = 1183
	codeNotNow       = 1184
	codeNoAccess     = 1193
)

// pxgError is an application error; it travels as {"PxgError":…} with status 200.
type pxgError struct {
	code    int
	line    int
	message string
	// format and args become locdata; %1 stands for the first argument.
	format string
	args   []string
}

// Error renders the error for the log of the server.
func (e *pxgError) Error() string { return fmt.Sprintf("PxgError %d: %s", e.code, e.message) }

// httpError is an answer outside the application: plain text with a status of its own.
type httpError struct {
	status int
	text   string
	header http.Header
}

// Error renders the error for the log of the server.
func (e *httpError) Error() string { return fmt.Sprintf("%d %s", e.status, e.text) }

func notFound(what, name string) *pxgError {
	return &pxgError{
		code: codeNotFound, line: 101, message: what + " not found",
		format: what + " '%1' not found", args: []string{name},
	}
}

func badParameter(name, problem string) *pxgError {
	return &pxgError{
		code: codeBadParameter, line: 102, message: "Bad parameter " + name + ": " + problem,
		format: "Bad parameter '%1': %2", args: []string{name, problem},
	}
}

func tooMany(what string) *pxgError {
	return &pxgError{code: codeTooMany, line: 103, message: "Too many " + what}
}

func unavailable(why string) *pxgError {
	return &pxgError{code: codeNotNow, line: 104, message: why}
}

func noAccess(what string) *pxgError {
	return &pxgError{
		code: codeNoAccess, line: 105, message: "Access denied to " + what,
		format: "Access to '%1' is denied", args: []string{what},
	}
}

// appendTo writes the whole answer body. All six plain fields are always there;
// locdata has all of its four or is absent.
func (e *pxgError) appendTo(dst []byte) []byte {
	body := params{
		{"code", e.code},
		{"subcode", 0},
		{"module", "KLSTD"},
		{"file", "ksctest.cpp"},
		{"line", e.line},
		{"message", e.message},
	}
	if e.format != "" {
		args := make([]any, len(e.args))
		for i, a := range e.args {
			args[i] = a
		}
		body = append(body, member{"locdata", params{
			{"format-id", e.code},
			{"format", e.format},
			{"locmodule", "klstd"},
			{"args", args},
		}})
	}
	dst = append(dst, `{"PxgError":`...)
	dst = body.appendBare(dst)
	return append(dst, '}')
}
