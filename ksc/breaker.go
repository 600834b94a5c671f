package ksc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	breakerTrips = 5               // calls in a row without an answer after which the server counts as away
	breakerPause = 5 * time.Second // how long nothing is sent then
)

// lastFailure keeps the words of the latest call that got no answer, so that refusals by the breaker can say why.
type lastFailure struct{ text atomic.Pointer[string] }

func newBreaker(log *slog.Logger) *gobreaker.TwoStepCircuitBreaker[struct{}] {
	told := func(err error) contact {
		if e, ok := errors.AsType[*CallError](err); ok {
			return e.contact
		}
		return contactNone
	}
	return gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Timeout:      breakerPause,
		ReadyToTrip:  func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= breakerTrips },
		IsSuccessful: func(err error) bool { return err == nil || told(err) != contactSilent },
		IsExcluded:   func(err error) bool { return err != nil && told(err) == contactNone },
		OnStateChange: func(_ string, from, to gobreaker.State) {
			log.Warn("circuit breaker of ksc changes", "from", from.String(), "to", to.String())
		},
	})
}

// admit asks the breaker. While it is open nothing is sent; when the pause is over, the first thing sent is a harmless
// read, never something with an effect. done takes the outcome of the call.
func (c *Client) admit(ctx context.Context, m method) (done func(error), err error) {
	if !m.repeatable && c.breaker.State() == gobreaker.StateHalfOpen {
		err := c.Ping(ctx)
		if probe, ok := errors.AsType[*CallError](err); ok && probe.Class != bridge.Permanent {
			return nil, withoutSession(m, err)
		}
	}
	report, err := c.breaker.Allow()
	if err != nil {
		return nil, c.away(m)
	}
	return func(err error) {
		if e, ok := errors.AsType[*CallError](err); ok && e.contact == contactSilent {
			text := e.Err.Error()
			c.lastBad.text.Store(&text)
		}
		report(err)
	}, nil
}

// away is the refusal while the breaker is open.
func (c *Client) away(m method) error {
	last := "no details"
	if p := c.lastBad.text.Load(); p != nil {
		last = *p
	}
	return &CallError{Method: m.name, Class: bridge.Unreachable, Err: fmt.Errorf(
		"%s did not answer %d calls in a row and is given a rest, it is tried again within %s (last: %s)", c.cfg.Address, breakerTrips, breakerPause, last)}
}
