package kuma

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-resty/resty/v2"
	"github.com/hashicorp/go-retryablehttp"

	"github.com/edr-bridge/edr-bridge/servercert"
)

const (
	restMaxDocuments = 64 << 20 // bytes of an answer that holds alerts or events; an alert may hold 16 MB of events (help 233888)
	restMaxAnswer    = 4 << 20  // bytes of any other answer
	restMaxRefusal   = 64 << 10 // bytes of an answer other than 2xx
	restMaxHeader    = 64 << 10
	restMaxConnect   = 10 * time.Second
	restIdle         = 30 * time.Second

	restWait    = 100 * time.Millisecond // before the first repetition, doubled before each further one
	restWaitMax = 2 * time.Second
	restWaitCap = 60 * time.Second // whatever Retry-After asks for
)

// newRestTransport dials with our own trust. HTTP/1.1 only, so that a slow answer holds up no other request.
func newRestTransport(cfg Config, t *servercert.Trust) *http.Transport {
	connect := min(restMaxConnect, cfg.Timeout/2)
	return &http.Transport{
		DialContext:            (&net.Dialer{Timeout: connect, KeepAlive: restIdle}).DialContext,
		TLSClientConfig:        t.TLS(),
		TLSHandshakeTimeout:    connect,
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{},
		MaxConnsPerHost:        restInFlight,
		MaxIdleConns:           restInFlight,
		MaxIdleConnsPerHost:    restInFlight,
		IdleConnTimeout:        restIdle,
		DisableCompression:     true,
		MaxResponseHeaderBytes: restMaxHeader,
	}
}

// newREST stacks resty over retryablehttp over one try. Only retryablehttp repeats, and nobody follows a redirect, which would
// carry the token elsewhere.
func newREST(cfg Config, transport http.RoundTripper) *resty.Client {
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	rc := retryablehttp.NewClient()
	rc.HTTPClient = &http.Client{Transport: restTry{next: transport}, Timeout: cfg.Timeout, CheckRedirect: stay}
	rc.Logger = nil
	rc.RetryMax = cfg.Retries
	rc.CheckRetry = restAgain
	rc.Backoff = restBackoff(cfg.Now, cfg.Jitter)
	rc.ErrorHandler = retryablehttp.PassthroughErrorHandler
	rest := resty.NewWithClient(&http.Client{Transport: &retryablehttp.RoundTripper{Client: rc}, CheckRedirect: stay})
	rest.SetLogger(restSilent{})
	rest.SetHeader("User-Agent", "edr-bridge")
	rest.SetHeader("Accept", "application/json")
	return rest
}

// restSilent drops what resty would print: its texts hold headers and addresses.
type restSilent struct{}

func (restSilent) Errorf(string, ...any) {}
func (restSilent) Warnf(string, ...any)  {}
func (restSilent) Debugf(string, ...any) {}

// restTry is one try: it sends the request and reads the whole answer, so that what sits above sees a complete answer or an error.
type restTry struct{ next http.RoundTripper }

// errRestTooLong ends a call for good: the answer would be as long the next time.
var errRestTooLong = errors.New("answer is too long")

// RoundTrip makes one try.
func (t restTry) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	resp.Header.Del("Content-Encoding") // none was asked for, and nobody above may unpack one
	ok := resp.StatusCode >= 200 && resp.StatusCode < 300
	limit := restMaxRefusal
	if ok {
		limit = restLimit(req.URL.Path)
	}
	body, err := restRead(resp, limit)
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if len(body) > limit {
		if ok {
			return nil, fmt.Errorf("%w: more than %d MiB", errRestTooLong, limit>>20)
		}
		body = body[:limit]
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return resp, nil
}

func restLimit(path string) int {
	if strings.HasSuffix(path, "/"+restAlerts) || strings.HasSuffix(path, "/"+restEvents) {
		return restMaxDocuments
	}
	return restMaxAnswer
}

// restRead reads up to limit and one byte more, by which an answer that is too long shows. It believes no length up front.
func restRead(resp *http.Response, limit int) ([]byte, error) {
	size := int64(512)
	if resp.ContentLength > 0 && resp.ContentLength < restMaxAnswer {
		size = resp.ContentLength
	}
	buf := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead))
	_, err := buf.ReadFrom(io.LimitReader(resp.Body, int64(limit)+1))
	return buf.Bytes(), err
}

// restAgain decides whether a request is repeated. Every request of this client may be: see Client.
func restAgain(ctx context.Context, resp *http.Response, err error) (bool, error) {
	if ctx.Err() != nil {
		return false, nil //nolint:nilerr // the passthrough handler returns err itself
	}
	if err != nil {
		_, pinned := errors.AsType[*servercert.PinError](err)
		return !pinned && !errors.Is(err, errRestTooLong), nil
	}
	return resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= http.StatusInternalServerError, nil
}

// restBackoff returns pauses that double with jitter, respect Retry-After and never exceed a minute.
func restBackoff(now func() time.Time, jitter func() float64) retryablehttp.Backoff {
	return func(_, _ time.Duration, n int, resp *http.Response) time.Duration {
		wait := min(restWait<<min(n, 10), restWaitMax)
		wait = wait/2 + time.Duration(jitter()*float64(wait/2))
		if asked := restRetryAfter(resp, now); asked > wait {
			wait = asked + time.Duration(jitter()*float64(asked/10))
		}
		return min(wait, restWaitCap)
	}
}

// restRetryAfter reads the header in both its forms (RFC 9110, 10.2.3); anything else counts as absent.
func restRetryAfter(resp *http.Response, now func() time.Time) time.Duration {
	if resp == nil {
		return 0
	}
	value := resp.Header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, restWaitCap)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(at.Sub(now()), restWaitCap)
	}
	return 0
}
