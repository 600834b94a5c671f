package ksc

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const maxKeptBuffer = 64 << 10 // encoders that grew beyond are not kept

// method is one remote method. Repeatable ones may be sent again whatever became of the first request,
// because they read, or set fixed values; the zero value is the safe one.
type method struct {
	name       string
	repeatable bool
}

// output is a decoded answer.
type output interface {
	// failure returns the object behind PxgError, if any.
	failure() json.RawMessage
	// missing says what the answer should have held and does not.
	missing() string
}

// result is embedded in every answer and is the answer of methods that return nothing.
type result struct {
	PxgError json.RawMessage `json:"PxgError"`
}

func (r *result) failure() json.RawMessage { return r.PxgError }
func (*result) missing() string            { return "" }

// call is the way of every remote method: encode, ask the breaker, send within a session, check, decode into out.
func (c *Client) call(ctx context.Context, m method, in any, out output) error {
	e := c.encoder()
	defer c.keep(e)
	if err := e.json.Encode(in); err != nil {
		return &CallError{Method: m.name, Class: bridge.Permanent, Err: err}
	}
	done, err := c.admit(ctx, m)
	if err != nil {
		return err
	}
	err = c.converse(ctx, m, e.bytes(), out)
	done(err)
	return err
}

func (c *Client) encoder() *encoder {
	if e, ok := c.buffers.Get().(*encoder); ok {
		e.buf.Reset()
		return e
	}
	e := &encoder{}
	e.init()
	return e
}

func (c *Client) keep(e *encoder) {
	if e.buf.Cap() <= maxKeptBuffer {
		c.buffers.Put(e)
	}
}

// converse sends within a session. When the server does not know the session (any more) it refuses before it
// dispatches the method, so a single replay within a new session is safe for every method.
func (c *Client) converse(ctx context.Context, m method, body []byte, out output) error {
	var stale *session
	for {
		s, err := c.session(ctx, stale)
		if err != nil {
			return withoutSession(m, err)
		}
		err = c.exchange(ctx, m, body, s, out)
		if !refusesSession(err) {
			return err
		}
		if stale != nil {
			return c.outcast(m, err)
		}
		stale = s
	}
}

// withoutSession turns the error of a login into that of the method that needed it and was not sent.
func withoutSession(m method, err error) error {
	e := &CallError{Method: m.name, Class: bridge.Retry, Err: err}
	if _, refused := errors.AsType[*AuthError](err); refused {
		e.Class, e.contact = bridge.Permanent, contactAnswered
	}
	if login, ok := errors.AsType[*CallError](err); ok {
		e.contact = login.contact
		if login.Class == bridge.Unreachable {
			e.Class = bridge.Unreachable
		}
	}
	if errors.Is(err, ErrLoginsStopped) {
		e.contact = contactNone
	}
	return e
}

func refusesSession(err error) bool {
	st, ok := errors.AsType[*StatusError](err)
	return ok && (st.Status == http.StatusUnauthorized || st.Status == http.StatusForbidden)
}

// outcast reports a method that is refused within a session that was just granted.
func (c *Client) outcast(m method, err error) error {
	return &CallError{Method: m.name, Class: bridge.Permanent, contact: contactAnswered, Err: &AuthError{
		User: c.cfg.User, Err: errors.Unwrap(err), Hint: "the login works but this call is refused: check the rights of the account on the device group",
	}}
}

// exchange sends one method within a session.
func (c *Client) exchange(ctx context.Context, m method, body []byte, s *session, out output) error {
	_, err := c.post(ctx, m, body, out, []secret{s.id}, "X-KSC-Session", string(s.id))
	return err
}

// post sends one request with the given header pairs and decodes the answer. secrets never show in its errors.
func (c *Client) post(ctx context.Context, m method, body []byte, out output, secrets []secret, header ...string) (http.Header, error) {
	a := &attempt{method: m}
	r := c.rest.R().SetContext(a.context(ctx)).SetBody(body)
	for i := 0; i+1 < len(header); i += 2 {
		r.SetHeaderVerbatim(header[i], header[i+1])
	}
	start := time.Now()
	resp, err := r.Post(c.base + m.name)
	var answered http.Header
	switch {
	case err != nil:
		err = c.lost(ctx, a, err, secrets)
	case resp.StatusCode() != http.StatusOK:
		answered = resp.Header()
		err = refused(m, resp.StatusCode(), resp.Body(), secrets)
	default:
		answered = resp.Header()
		err = decode(m, resp.Body(), out, secrets)
	}
	c.trace(ctx, m, start, err)
	return answered, err
}

// lost classifies a call that brought no answer, or none that can be read.
func (c *Client) lost(ctx context.Context, a *attempt, err error, secrets []secret) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err // its text would only repeat the address
	}
	e := &CallError{Method: a.method.name, contact: contactSilent}
	bad, unreadable := errors.AsType[*answerError](err)
	_, connecting := errors.AsType[*connectError](err)
	switch {
	case unreadable:
		return unreadableAnswer(a.method, bad, secrets)
	case connecting && !a.sent:
		e.Class = bridge.Unreachable
	case !a.sent:
		e.Class, e.contact = bridge.Retry, contactNone
	case a.method.repeatable:
		e.Class = bridge.Retry
	default:
		e.Class = bridge.Unknown
	}
	if cause := context.Cause(ctx); cause != nil {
		e.contact = contactNone
		if !errors.Is(err, cause) {
			err = errors.Join(cause, err)
		}
	}
	e.Err = &plainError{text: excerpt([]byte(err.Error()), maxExcerpt, secrets...), err: err}
	return e
}

// unreadableAnswer leaves it open whether a method with an effect was carried out.
func unreadableAnswer(m method, bad *answerError, secrets []secret) error {
	e := &CallError{Method: m.name, Class: bridge.Unknown, contact: contactAnswered}
	if m.repeatable {
		e.Class = bridge.Permanent
	}
	text := bad.why
	if !isBlank(bad.body) {
		text += ": " + excerpt(bad.body, maxName, secrets...)
	}
	e.Err = &plainError{text: text, err: bad}
	return e
}

// refused classifies an answer other than 200.
func refused(m method, status int, body []byte, secrets []secret) error {
	return &CallError{
		Method: m.name, Class: classOfStatus(status, m.repeatable), contact: contactAnswered,
		Err: &StatusError{Method: m.name, Status: status, Excerpt: excerpt(body, maxExcerpt, secrets...)},
	}
}

// classOfStatus: a 4xx says that nothing was done, and so do 307 and 308, which ask to do it elsewhere; 429 and the
// rest come from whatever stands in between and do not tell.
func classOfStatus(status int, repeatable bool) bridge.Class {
	switch {
	case status == http.StatusTemporaryRedirect, status == http.StatusPermanentRedirect,
		status >= 400 && status < 500 && status != http.StatusTooManyRequests:
		return bridge.Permanent
	case !repeatable:
		return bridge.Unknown
	case status >= 300 && status < 400:
		return bridge.Permanent
	default:
		return bridge.Retry
	}
}

// decode reads a 200 answer, which is a success only without PxgError and with all its parts.
func decode(m method, body []byte, out output, secrets []secret) error {
	err := json.Unmarshal(body, out)
	if raw := out.failure(); len(raw) > 0 && string(raw) != "null" {
		if raw[0] != '{' {
			return unreadableAnswer(m, &answerError{"PxgError is not an object", body}, secrets)
		}
		return &CallError{Method: m.name, Class: bridge.Permanent, contact: contactAnswered, Err: newError(m.name, raw, secrets...)}
	}
	why := out.missing()
	if err != nil {
		why = "answer has an unexpected form"
	}
	if why != "" {
		return unreadableAnswer(m, &answerError{why, body}, secrets)
	}
	return nil
}

// trace logs one call. The texts of errors are free of secrets already.
func (c *Client) trace(ctx context.Context, m method, start time.Time, err error) {
	if !c.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	args := []any{"method", m.name, "took", time.Since(start)}
	if err != nil {
		args = append(args, "err", err)
	}
	if st, ok := errors.AsType[*StatusError](err); ok {
		args = append(args, "answer", st.Excerpt)
	}
	c.log.DebugContext(ctx, "ksc call", args...)
}
