package ksc

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"

	"github.com/edr-bridge/edr-bridge/servercert"
)

const (
	maxAnswer   = 8 << 20  // bytes of a 200 answer that are read; more is an unreadable answer
	maxRefusal  = 64 << 10 // bytes of any other answer
	tlsSessions = 64
)

// newTransport dials with our own trust. HTTP/1.1 only: the server handles one request at a time on each connection.
func newTransport(cfg Config, t *servercert.Trust) *http.Transport {
	d := &dialer{
		net:     net.Dialer{KeepAlive: 30 * time.Second},
		config:  t.TLS(),
		timeout: min(maxConnect, cfg.Timeout/2),
	}
	return &http.Transport{
		DialTLSContext:         d.dial,
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{},
		MaxConnsPerHost:        cfg.InFlight,
		MaxIdleConns:           cfg.InFlight,
		MaxIdleConnsPerHost:    cfg.InFlight,
		IdleConnTimeout:        idleTimeout,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeaderBytes,
	}
}

type dialer struct {
	net     net.Dialer
	config  *tls.Config
	timeout time.Duration
}

// connectError says that there is no connection: nothing of the request has left this machine.
type connectError struct {
	stage string
	err   error
}

func (e *connectError) Error() string { return e.stage + ": " + e.err.Error() }
func (e *connectError) Unwrap() error { return e.err }

func (d *dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	raw, err := d.net.DialContext(ctx, network, addr)
	if err != nil {
		return nil, &connectError{"connect", err}
	}
	conn := tls.Client(raw, d.config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, &connectError{"tls handshake", err}
	}
	return &gate{Conn: conn}, nil
}

// gate is a connection that can tell for certain whether anything of a request went into it: once closed
// to further writes, what was not written never will be, whatever the goroutines of net/http still do.
type gate struct {
	*tls.Conn

	mu            sync.Mutex // guards wrote and sealed
	wrote, sealed bool
}

var errSealed = errors.New("connection was given up")

// Write passes p on unless the gate is sealed.
func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	if g.sealed {
		g.mu.Unlock()
		return 0, errSealed
	}
	g.wrote = true
	g.mu.Unlock()
	return g.Conn.Write(p)
}

// begin starts the account of the next request.
func (g *gate) begin() {
	g.mu.Lock()
	g.wrote = false
	g.mu.Unlock()
}

// seal stops all writes and reports whether there was one since begin.
func (g *gate) seal() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sealed = true
	return g.wrote
}

// attempt is the account of one call over all its tries. It travels in the context, because that is what
// reaches both the connection trace and checkRetry; one goroutine uses it.
type attempt struct {
	method method
	gate   *gate
	// sent says that bytes of some try may have left this machine.
	sent bool
}

type attemptKey struct{}

func (a *attempt) context(ctx context.Context) context.Context {
	ctx = context.WithValue(ctx, attemptKey{}, a)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: a.gotConn})
}

func attemptOf(ctx context.Context) *attempt {
	a, _ := ctx.Value(attemptKey{}).(*attempt)
	return a
}

func (a *attempt) gotConn(info httptrace.GotConnInfo) {
	a.giveUp() // net/http moves on by itself from a kept connection that turned out to be closed
	g, ok := info.Conn.(*gate)
	if !ok {
		a.sent = true
		return
	}
	g.begin()
	a.gate = g
}

// giveUp ends the use of the current connection and notes whether something was written to it.
func (a *attempt) giveUp() {
	if a.gate != nil && a.gate.seal() {
		a.sent = true
	}
	a.gate = nil
}

// attempts is one try: it sends the request and reads the whole answer, so that what sits above sees either
// a complete answer or an error, and an answer cut in the middle is an error like a lost connection.
type attempts struct{ next http.RoundTripper }

// RoundTrip makes one try.
func (t attempts) RoundTrip(req *http.Request) (*http.Response, error) {
	a := attemptOf(req.Context())
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		a.giveUp()
		return nil, err
	}
	a.sent, a.gate = true, nil
	defer func() { _ = resp.Body.Close() }()
	resp.Header.Del("Content-Encoding") // none was asked for, and nobody above may unpack one
	limit := maxRefusal
	if resp.StatusCode == http.StatusOK {
		limit = maxAnswer
	}
	body, err := readAll(resp, limit)
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		if err := checkAnswer(body, limit); err != nil {
			return nil, err
		}
	}
	if len(body) > limit {
		body = body[:limit]
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return resp, nil
}

// readAll reads up to limit and one byte more, by which an answer that is too long shows.
func readAll(resp *http.Response, limit int) ([]byte, error) {
	size := resp.ContentLength
	if size < 0 || size > int64(limit) {
		size = 512
	}
	buf := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead))
	_, err := buf.ReadFrom(io.LimitReader(resp.Body, int64(limit)+1))
	return buf.Bytes(), err
}

// checkAnswer accepts nothing but one complete JSON object.
func checkAnswer(body []byte, limit int) error {
	why := ""
	trimmed := bytes.TrimLeft(body, " \t\r\n")
	switch {
	case len(body) > limit:
		why = fmt.Sprintf("answer is longer than %d MiB", limit>>20)
	case len(trimmed) == 0:
		why = "answer is empty"
	case trimmed[0] != '{':
		why = "answer is not a JSON object"
	case !json.Valid(body):
		why = "answer is not complete JSON"
	default:
		return nil
	}
	return &answerError{why: why, body: body}
}
