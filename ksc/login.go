package ksc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	maxRefusals = 2                      // logins the server may refuse before we stop asking: a third might lock the account
	warmUp      = 350 * time.Millisecond // a server that just started refuses the first login now and then; observed by other clients
)

// logins owns the session that all calls share. At most one login runs at a time; who needs a session
// meanwhile waits for it.
type logins struct {
	mu       sync.Mutex // guards all fields
	current  *session
	flight   *flight
	refusals int
	stopped  error
	closed   bool
}

// flight is a login in progress. Its results may be read once done is closed.
type flight struct {
	done      chan struct{}
	err       error
	abandoned bool // the time of its leader was over: says nothing about the server
}

// session returns the shared session, logging in when there is none or the server just refused stale.
func (c *Client) session(ctx context.Context, stale *session) (*session, error) {
	l := &c.logins
	for {
		l.mu.Lock()
		switch {
		case l.closed:
			l.mu.Unlock()
			return nil, ErrClosed
		case l.current != nil && l.current != stale:
			s := l.current
			l.mu.Unlock()
			return s, nil
		case l.stopped != nil:
			err := l.stopped
			l.mu.Unlock()
			return nil, err
		case l.flight == nil:
			f := &flight{done: make(chan struct{})}
			l.flight, l.current = f, nil
			l.mu.Unlock()
			return c.lead(ctx, f)
		}
		f := l.flight
		l.mu.Unlock()
		select {
		case <-f.done:
			if f.err != nil && !f.abandoned {
				return nil, f.err
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// lead logs in for everybody who waits on f.
func (c *Client) lead(ctx context.Context, f *flight) (*session, error) {
	s, err := c.login(ctx)
	l := &c.logins
	l.mu.Lock()
	l.flight, f.err, f.abandoned = nil, err, err != nil && ctx.Err() != nil
	closed := l.closed
	if err == nil && !closed {
		l.current = s
	}
	l.mu.Unlock()
	close(f.done)
	if err == nil && closed {
		c.drop(ctx, s)
		return nil, ErrClosed
	}
	return s, err
}

// login tries once more after a first refusal and stops for good at the second.
func (c *Client) login(ctx context.Context) (*session, error) {
	for {
		s, err := c.startSession(ctx)
		auth, refused := errors.AsType[*AuthError](err)
		if !refused {
			if err == nil {
				c.logins.allow()
			}
			return s, err
		}
		if c.logins.refuse(auth, err) {
			c.log.WarnContext(ctx, "logins at ksc are stopped", "err", err)
			return nil, err
		}
		timer := time.NewTimer(warmUp)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, &CallError{
				Method: methodStartSession.name, Class: bridge.Retry, contact: contactAnswered,
				Err: fmt.Errorf("no time left to repeat a refused login: %w", context.Cause(ctx)),
			}
		}
	}
}

// refuse counts one refusal and reports whether logins are stopped by it.
func (l *logins) refuse(auth *AuthError, err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refusals++
	if l.refusals < maxRefusals && !auth.SecondFactor {
		return false
	}
	auth.stopped = true
	l.stopped = err
	return true
}

func (l *logins) allow() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refusals = 0
}

func (l *logins) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
}

// take hands the session over to whoever ends it.
func (l *logins) take() *session {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.current
	l.current = nil
	return s
}

// ResetLogin allows logins again after ErrLoginsStopped, for when somebody has corrected the password or the
// account. It sends nothing.
func (c *Client) ResetLogin() {
	c.logins.mu.Lock()
	defer c.logins.mu.Unlock()
	c.logins.refusals, c.logins.stopped = 0, nil
}

// peek returns the current session, if any, for comparison only.
func (l *logins) peek() *session {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}
