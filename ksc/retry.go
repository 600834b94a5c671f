package ksc

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

const (
	retryWait    = 100 * time.Millisecond // before the first repetition, doubled before each further one
	retryWaitMax = 2 * time.Second
	retryWaitCap = 60 * time.Second // whatever Retry-After asks for
)

// checkRetry decides by the method and by what left this machine, never by the status alone: what is not
// repeatable is tried again only while no byte of it may have reached the server.
func checkRetry(ctx context.Context, resp *http.Response, err error) (bool, error) {
	a := attemptOf(ctx)
	if a == nil || ctx.Err() != nil {
		return false, nil //nolint:nilerr // the passthrough handler returns err itself
	}
	if a.sent && !a.method.repeatable {
		return false, nil
	}
	if err != nil {
		// A certificate or protocol that does not fit now will not fit in 100 ms either.
		ce, connecting := errors.AsType[*connectError](err)
		return !connecting || ce.stage == "connect", nil
	}
	return resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= http.StatusInternalServerError, nil
}

// backoff returns pauses that double with jitter, respect Retry-After and never exceed a minute.
func backoff(now func() time.Time, jitter func() float64) retryablehttp.Backoff {
	return func(_, _ time.Duration, n int, resp *http.Response) time.Duration {
		wait := min(retryWait<<min(n, 10), retryWaitMax)
		wait = wait/2 + time.Duration(jitter()*float64(wait/2))
		if asked, ok := retryAfter(resp, now); ok && asked > wait {
			wait = asked + time.Duration(jitter()*float64(asked/10))
		}
		return min(wait, retryWaitCap)
	}
}

// retryAfter reads the header in both its forms (RFC 9110, 10.2.3); anything else counts as absent.
func retryAfter(resp *http.Response, now func() time.Time) (time.Duration, bool) {
	if resp == nil {
		return 0, false
	}
	value := resp.Header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, retryWaitCap), true
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(at.Sub(now()), retryWaitCap), true
	}
	return 0, false
}
