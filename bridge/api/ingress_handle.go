package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"time"
)

// ingressRequest is one request on its way through the limits.
type ingressRequest struct {
	*Ingress
	w      http.ResponseWriter
	r      *http.Request
	conn   *ingressConn
	peer   netip.Addr
	source *ingressSource // nil until it is known
	ticket authTicket
	held   int64 // bytes of memory
	unread bool  // the body has not been read
}

// handle answers a request. What a client that left before would have got makes no difference to its documents.
func (i *Ingress) handle(w http.ResponseWriter, r *http.Request) {
	q := &ingressRequest{Ingress: i, w: w, r: r, unread: r.ContentLength != 0}
	q.conn, _ = r.Context().Value(ingressConnKey{}).(*ingressConn)
	if q.conn != nil {
		q.peer = q.conn.peer
	}
	defer func() { i.memory.Add(-q.held) }()
	if err := q.run(r.Context()); err != nil {
		q.refuse(r.Context(), err)
	}
}

func (q *ingressRequest) enter(p connPhase) {
	if q.conn != nil {
		q.conn.enter(p)
	}
}

func (q *ingressRequest) run(ctx context.Context) error {
	if err := q.gate(); err != nil {
		return err
	}
	s := q.source
	if s.door != nil && s.door.over() {
		return errClosing
	}
	encoding, err := checkHeaders(q.r.Header, s.Encodings)
	if err != nil {
		return err
	}
	if s.auth != nil {
		if err := s.auth.before(ctx, q.r); err != nil {
			return err
		}
	}
	body, err := q.read()
	if err != nil {
		return err
	}
	if s.auth != nil {
		if q.ticket, err = s.auth.after(ctx, q.r, body); err != nil {
			return err
		}
	}
	if wait := tooMuch(s.rate.requests, q.cfg.Now(), 1); wait > 0 {
		return &rateError{wait}
	}
	if encoding != encodingIdentity && len(body) > 0 {
		if body, err = q.decode(body, encoding); err != nil {
			return err
		}
	}
	if s.Kind == IngressHandler {
		q.leaveTo(ctx, s.Handler, body)
		return nil
	}
	return q.deliver(body)
}

// gate judges what needs no knowledge of the sender.
func (q *ingressRequest) gate() error {
	if fromBrowser(q.r) {
		return errBrowser
	}
	if q.loopback && !q.allowedHost(q.r) {
		return errHost
	}
	for _, s := range q.sources {
		if s.fits(q.r.URL.Path) {
			q.source = s
			break
		}
	}
	switch {
	case q.source == nil || q.r.RequestURI == "" || q.r.RequestURI[0] != '/':
		return errNoPath
	case !q.source.takes(q.peer):
		return errPeer
	case q.source.Kind != IngressHandler && q.r.Method != http.MethodPost:
		return errMethod
	}
	select {
	case <-q.closing:
		return errClosing
	default:
		return nil
	}
}

// read returns the body as it came.
func (q *ingressRequest) read() ([]byte, error) {
	limit, size := q.cfg.Limits.Body, q.r.ContentLength
	if size > limit {
		return nil, q.tooLarge(limit)
	}
	if q.source.auth != nil && limit > failingBody && q.failing.often(q.peer) {
		if limit = failingBody; size > limit {
			return nil, q.tooLarge(limit)
		}
	}
	control := http.NewResponseController(q.w)
	if q.unread {
		q.enter(connBody)
		if err := control.SetReadDeadline(time.Now().Add(q.cfg.Limits.BodyTimeout)); err != nil {
			return nil, fmt.Errorf("%w: %w", errTruncated, err)
		}
	}
	body, err := q.readAll(size, limit)
	if err != nil {
		return nil, err
	}
	q.unread = false
	q.enter(connBusy)
	// From here on only the sender's leaving ends the request's context, not the time it had for the body.
	if err := control.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("%w: %w", errTruncated, err)
	}
	return body, nil
}

// tooLarge is what to say of a body beyond the limit, which is lower for peers that keep failing.
func (q *ingressRequest) tooLarge(limit int64) error {
	if limit < q.cfg.Limits.Body {
		return &rateError{failingDelay}
	}
	return fmt.Errorf("%w: at most %d bytes are read (http.limits.body)", errBodyTooLarge, limit)
}

// firstRead is how many bytes are provided for a body before any of it is there.
const firstRead = 64 << 10

// readAll reads until the end. The buffer grows with what really comes, not with what the header promises.
func (q *ingressRequest) readAll(size, limit int64) ([]byte, error) {
	if size == 0 {
		return nil, nil
	}
	first := size
	if size < 0 {
		first = 4 << 10
	}
	body := make([]byte, 0, min(first, firstRead))
	for {
		if len(body) == cap(body) && int64(len(body)) != size {
			if int64(len(body)) > limit {
				return nil, q.tooLarge(limit)
			}
			grown := min(2*int64(cap(body)), limit+1)
			if size > 0 {
				grown = min(grown, size)
			}
			if err := q.hold(grown - q.held); err != nil {
				return nil, err
			}
			body = append(make([]byte, 0, grown), body...)
		}
		room := body[len(body):cap(body)]
		if len(room) == 0 {
			room = make([]byte, 1) // the end of a body of known size has not been seen yet
		}
		n, err := q.r.Body.Read(room)
		if n > 0 && len(body) == cap(body) {
			return nil, fmt.Errorf("%w: it is longer than its Content-Length", errTruncated)
		}
		body = body[:len(body)+n]
		switch {
		case errors.Is(err, io.EOF):
			if int64(len(body)) > limit {
				return nil, q.tooLarge(limit)
			}
			return body, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, errSlow
		case err != nil:
			return nil, fmt.Errorf("%w: %w", errTruncated, err)
		}
	}
}

// hold takes bytes of the memory for bodies; they are given back when the request is answered.
func (q *ingressRequest) hold(n int64) error {
	if q.memory.Add(n) > q.cfg.Limits.Memory {
		q.memory.Add(-n)
		return errMemory
	}
	q.held += n
	return nil
}

func (q *ingressRequest) decode(body []byte, encoding string) ([]byte, error) {
	plain, err := decodeBody(body, encoding, q.source.Encodings, q.cfg.Limits.Body)
	if err != nil {
		return nil, err
	}
	if len(plain) > firstRead {
		err = q.hold(int64(len(plain)))
	}
	return plain, err
}

// deliver hands the documents to the bridge and answers with what became of them.
func (q *ingressRequest) deliver(body []byte) error {
	s := q.source
	docs, err := s.documentsOf(body, q.cfg.Limits)
	if err != nil {
		return err
	}
	if !s.door.enter() {
		return errClosing
	}
	defer s.door.leave()
	now := q.cfg.Now()
	if wait := tooMuch(s.rate.documents, now, len(docs)); wait > 0 {
		return &rateError{wait}
	}
	b, err := s.door.pass(docs, now.UTC(), q.cfg.Limits.Answer, doorEnds{q.closing, q.abandon})
	switch {
	case err != nil:
		return err
	case b.failed != nil:
		return fmt.Errorf("%w: %w", errUnsettled, b.failed)
	case b.bad > 0 && s.Kind == IngressWebhook:
		return fmt.Errorf("%w: %w", errBadDocument, b.why)
	}
	q.cfg.Meter.Accepted(s.Name, len(docs))
	q.accept(b.bad)
	return nil
}

// leaveTo lets a handler answer.
func (q *ingressRequest) leaveTo(ctx context.Context, h http.Handler, body []byte) {
	limited, cancel := context.WithTimeout(ctx, q.cfg.Limits.Answer)
	defer cancel()
	r := q.r.WithContext(limited)
	r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	r.Header.Del("Content-Encoding")
	w := &statusWriter{ResponseWriter: q.w}
	h.ServeHTTP(w, r)
	if w.status >= http.StatusBadRequest {
		q.count(RefusedHandler, fmt.Errorf("%w: status %d", errHandler, w.status))
		if w.status == http.StatusUnauthorized {
			q.slowDown(ctx) // its answer waits in the server's buffer
		}
		if w.status >= http.StatusInternalServerError || w.status == http.StatusTooManyRequests {
			q.ticket.giveBack()
		}
		return
	}
	q.cfg.Meter.Accepted(q.source.Name, 0)
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader remembers the first status.
func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}
