package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

var (
	errBrowser     = errors.New("the bridge does not talk to browsers")
	errHost        = errors.New("the Host header names another machine (http.hosts)")
	errNoPath      = errors.New("nothing listens on this path")
	errPeer        = errors.New("requests from this address are not taken")
	errMethod      = errors.New("only POST is answered here")
	errTruncated   = errors.New("the body is not whole")
	errSlow        = errors.New("the body did not come in time")
	errMemory      = errors.New("too many large bodies at once")
	errUnsettled   = errors.New("the bridge could not store it")
	errBadDocument = errors.New("the document cannot be read")
	errHandler     = errors.New("the handler refused the request")
)

// rateError says how long to wait.
type rateError struct{ wait time.Duration }

func (e *rateError) Error() string {
	return fmt.Sprintf("more than the source may bring: wait %d s", retryAfter(e.wait))
}

// ingressMeaning is how an error is answered and counted.
type ingressMeaning struct {
	err    error
	reason IngressReason
	status int
	// secretive errors tell the peer their own text alone, nothing of what stands around it.
	secretive bool
}

// ingressMeanings lists every error; the first that fits counts.
func ingressMeanings() []ingressMeaning {
	return []ingressMeaning{
		{errDenied, RefusedAuth, http.StatusUnauthorized, true},
		{errNoSecret, RefusedSecret, http.StatusServiceUnavailable, true},
		{errUnsettled, RefusedStore, http.StatusServiceUnavailable, true},
		{errBadDocument, RefusedDeadLetter, http.StatusUnprocessableEntity, false},
		{errSkewed, RefusedSkew, http.StatusUnauthorized, false},
		{errReplayed, RefusedReplay, http.StatusUnauthorized, false},
		{errTooEarly, RefusedReplay, http.StatusServiceUnavailable, false},
		{errNoRoom, RefusedWaiting, http.StatusServiceUnavailable, false},
		{errClosing, RefusedClosing, http.StatusServiceUnavailable, false},
		{errMemory, RefusedMemory, http.StatusServiceUnavailable, false},
		{errBrowser, RefusedBrowser, http.StatusForbidden, false},
		{errHost, RefusedHost, http.StatusForbidden, false},
		{errPeer, RefusedPeer, http.StatusForbidden, false},
		{errNoPath, RefusedPath, http.StatusNotFound, false},
		{errMethod, RefusedMethod, http.StatusMethodNotAllowed, false},
		{errEncoding, RefusedEncoding, http.StatusUnsupportedMediaType, false},
		{errCharset, RefusedEncoding, http.StatusUnsupportedMediaType, false},
		{errEncoded, RefusedEncoding, http.StatusBadRequest, false},
		{errBodyTooLarge, RefusedSize, http.StatusRequestEntityTooLarge, false},
		{errManyDocuments, RefusedSize, http.StatusRequestEntityTooLarge, false},
		{errSlow, RefusedSlow, http.StatusRequestTimeout, false},
		{errTruncated, RefusedTruncated, http.StatusBadRequest, true},
		{errMarked, RefusedBody, http.StatusBadRequest, false},
		{errWide, RefusedBody, http.StatusBadRequest, false},
		{errDeep, RefusedBody, http.StatusBadRequest, false},
		{errNoDocument, RefusedBody, http.StatusBadRequest, false},
	}
}

// problem is the body of a refusal (RFC 9457).
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	// Detail says what is wrong, the place in the document first. It is printable ASCII of at most maxDetail bytes.
	Detail string `json:"detail,omitempty"`
}

const maxDetail = 300

// refuse answers a request that was not accepted.
func (q *ingressRequest) refuse(ctx context.Context, err error) {
	m := ingressMeaning{err: err, reason: RefusedStore, status: http.StatusServiceUnavailable, secretive: true}
	for _, known := range ingressMeanings() {
		if errors.Is(err, known.err) {
			m = known
			break
		}
	}
	wait := time.Second
	if e, ok := errors.AsType[*rateError](err); ok {
		m, wait = ingressMeaning{err, RefusedRate, http.StatusTooManyRequests, false}, e.wait
	}
	again := m.status == http.StatusServiceUnavailable || m.status == http.StatusTooManyRequests
	if again {
		q.ticket.giveBack()
	}
	q.count(m.reason, err)
	if q.unread {
		q.enter(connRefused)
	}
	if m.status == http.StatusUnauthorized {
		q.slowDown(ctx)
	}
	p := problem{Title: m.err.Error(), Status: m.status}
	if detail := printable(err.Error()); !m.secretive && detail != p.Title {
		p.Detail = strings.TrimPrefix(detail, p.Title+": ")
	}
	h := q.w.Header()
	if again {
		h.Set("Retry-After", strconv.Itoa(retryAfter(wait)))
	}
	q.explain(h, m.status)
	if q.unread && (q.r.ContentLength < 0 || q.r.ContentLength > firstRead) {
		h.Set("Connection", "close") // else the server would read on
	}
	h.Set("X-Content-Type-Options", "nosniff")
	doc, err := encodeJSON(p)
	if err != nil {
		doc = nil
	}
	q.write("application/problem+json", m.status, doc)
}

// slowDown holds the answer to a peer back that keeps failing to authenticate.
func (q *ingressRequest) slowDown(ctx context.Context) {
	q.enter(connRefused)
	q.failing.failed(ctx, q.peer, q.closing)
}

// explain adds the headers a status demands (RFC 9110 §15.5.2, §15.5.6, §12.5.3).
func (q *ingressRequest) explain(h http.Header, status int) {
	switch status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", challenge(q.source.Auth))
	case http.StatusMethodNotAllowed:
		h.Set("Allow", http.MethodPost)
	case http.StatusUnsupportedMediaType:
		h.Set("Accept-Encoding", strings.Join(append([]string{encodingIdentity}, q.source.Encodings...), ", "))
	}
}

func challenge(a Auth) string {
	switch {
	case a.Basic != nil:
		return `Basic realm="edr-bridge", charset="UTF-8"`
	case a.Bearer != nil:
		return `Bearer realm="edr-bridge"`
	case a.MTLS != nil:
		return "EDR-Certificate"
	default:
		return "EDR-HMAC-SHA256"
	}
}

// count tells the owner of a refusal.
func (q *ingressRequest) count(reason IngressReason, err error) {
	name := ""
	if q.source != nil {
		name = q.source.Name
	}
	q.cfg.Meter.Refused(name, reason)
	q.refusals.refused(name, reason, q.peer.String(), err)
}

// accept answers that the sender may forget its documents.
func (q *ingressRequest) accept(bad int) {
	if q.source.Kind == IngressWebhook {
		q.write("application/json", http.StatusOK, []byte(`{"accepted":1}`))
		return
	}
	if bad > 0 {
		q.w.Header().Set("X-Dead-Letters", strconv.Itoa(bad))
	}
	q.write("", http.StatusOK, nil)
}

func (q *ingressRequest) write(contentType string, status int, body []byte) {
	h := q.w.Header()
	if contentType != "" {
		h.Set("Content-Type", contentType)
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	q.w.WriteHeader(status)
	_, _ = q.w.Write(body) // the sender left; its documents are dealt with all the same
}

// printable is text that quotes hostile content, as ASCII without control characters and cut.
func printable(text string) string {
	var b strings.Builder
	for _, r := range text {
		if b.Len() >= maxDetail {
			break
		}
		if ' ' <= r && r <= '~' {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}
