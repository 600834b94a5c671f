package kuma

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	restMaxExcerpt = 4 << 10 // bytes of a server's answer that are kept
	restMaxName    = 256     // bytes of a name a server gave
	restMaxToken   = 4 << 10
	restRedacted   = "[redacted]"
)

// ErrCredentials is in the chain of an error when the core refused the token, or its user may not make the request. KUMA answers
// 403 for an unknown token, a disabled user and a missing right alike (support.kaspersky.com/help/KUMA/3.0.2/en-US/217974.htm).
var ErrCredentials = errors.New("the token or its rights are refused")

// ErrClosedAlready is in the chain of an error when an alert is closed already; CloseAlert does not return it.
var ErrClosedAlready = errors.New("alert is closed already")

// APIError is an answer other than 2xx. Its texts come from the core, for people: one line each, at most 4 KiB, without the token.
type APIError struct {
	// Method is the HTTP method, Path what follows /api/, such as "v2/alerts/close".
	Method, Path string
	Status       int
	// Message and Details are the fields of KUMA's standard error (help 222250). Where the answer is of another form,
	// Message is the beginning of its text.
	Message, Details string

	structured bool
}

// Error returns request, status and texts.
func (e *APIError) Error() string {
	parts := []string{e.Method + " " + e.Path, strings.TrimSpace(fmt.Sprintf("http status %d %s", e.Status, strings.ToLower(http.StatusText(e.Status))))}
	if e.Status >= 300 && e.Status < 400 {
		parts = append(parts, "redirects are not followed, check kuma.address")
	}
	for _, text := range []string{e.Message, e.Details} {
		if text != "" {
			parts = append(parts, restExcerpt([]byte(text), restMaxName))
		}
	}
	if e.Is(ErrCredentials) {
		parts = append(parts, "check kuma.token, and in KUMA the rights of its user for this request")
	}
	return strings.Join(parts, ": ")
}

// Is reports ErrCredentials for refusals of the token and ErrClosedAlready for the answer to a second closing.
func (e *APIError) Is(target error) bool {
	switch target {
	case ErrCredentials:
		return e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden ||
			e.Status == http.StatusBadRequest && strings.EqualFold(e.Message, "invalid authorization header")
	case ErrClosedAlready:
		return e.Status == http.StatusNotAcceptable && strings.EqualFold(e.Message, "alert already closed")
	default:
		return false
	}
}

// restPassing reports whether the same request may succeed later without anybody changing anything.
func restPassing(err error) bool {
	if api, ok := errors.AsType[*APIError](err); ok {
		return api.Status == http.StatusTooManyRequests || api.Status >= http.StatusInternalServerError ||
			api.Status == http.StatusRequestTimeout
	}
	_, unreadable := errors.AsType[*answerError](err)
	_, wrong := errors.AsType[*argumentError](err)
	return !unreadable && !wrong && !errors.Is(err, errRestTooLong)
}

// answerError is a 2xx answer that cannot be read.
type answerError struct {
	path string
	err  error
}

func (e *answerError) Error() string { return e.path + ": the answer cannot be read: " + e.err.Error() }
func (e *answerError) Unwrap() error { return e.err }

// argumentError is a request that was not made because its arguments are wrong.
type argumentError struct{ text string }

func (e *argumentError) Error() string { return e.text }

func restArgument(format string, args ...any) error {
	return &argumentError{fmt.Sprintf(format, args...)}
}

// newAPIError is the one place where answers become errors.
func newAPIError(method, path string, status int, body []byte, token string) *APIError {
	e := &APIError{Method: method, Path: path, Status: status}
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) == nil {
		e.Message = restExcerpt([]byte(restText(fields["message"])), restMaxExcerpt, token)
		e.Details = restExcerpt([]byte(restText(fields["details"])), restMaxExcerpt, token)
	}
	e.structured = e.Message != ""
	if !e.structured {
		e.Message = restExcerpt(body, restMaxExcerpt, token)
	}
	return e
}

// restText returns a JSON string as text and any other value as it is written.
func restText(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// restExcerpt makes text from outside fit to stand in errors and logs: at most limit bytes, one line, valid UTF-8, without the token
// or what looks like one.
func restExcerpt(text []byte, limit int, token ...string) string {
	cut := len(text) > limit+restMaxToken
	if cut {
		text = text[:limit+restMaxToken]
	}
	s := strings.ToValidUTF8(string(text), "\uFFFD")
	for _, t := range token {
		if t == "" {
			continue
		}
		for _, form := range []string{t, url.QueryEscape(t), strings.ReplaceAll(t, "/", `\/`)} {
			s = strings.ReplaceAll(s, form, restRedacted)
		}
	}
	if low := strings.ToLower(s); strings.Contains(low, "token") || strings.Contains(low, "bearer") || strings.Contains(low, "basic") {
		s = restSecretShape().ReplaceAllString(s, restRedacted)
	}
	if cut {
		s = s[:max(0, len(s)-restMaxToken)] // the last bytes may be the first part of a token that was cut in two
	}
	s = strings.TrimSpace(restVisible(s))
	if len(s) > limit {
		s = s[:limit]
		for !utf8.ValidString(s) {
			s = s[:len(s)-1]
		}
		s += "…"
	}
	return s
}

// restSecretShape finds credentials by their look, for proxies that echo a request.
func restSecretShape() *regexp.Regexp {
	return regexp.MustCompile(`(?i:\b(?:Bearer|Basic)\s+[A-Za-z0-9._~+/=-]+|\b(?:api_?)?token["']?\s*[=:]\s*["']?[^\s"',;&]+)`)
}

// restVisible turns control characters into blanks and drops what rearranges text on a terminal.
func restVisible(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r), r == '\u2028', r == '\u2029':
			return ' '
		case unicode.Is(unicode.Cf, r):
			return -1
		default:
			return r
		}
	}, s)
}
