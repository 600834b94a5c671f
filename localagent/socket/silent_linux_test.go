package socket

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// silent listens, takes every call and answers none.
func silent(t *testing.T) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		var taken []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				for _, c := range taken {
					_ = c.Close()
				}
				return
			}
			taken = append(taken, c)
		}
	}()
	return NewClient(path)
}

// patient fails the test when do takes longer than any of its deadlines.
func patient(t *testing.T, do func() error) error {
	t.Helper()
	answered := make(chan error, 1)
	go func() { answered <- do() }()
	select {
	case err := <-answered:
		return err
	case <-time.After(30 * time.Second):
		t.Error("an agent that hangs held up its client for good")
		return nil
	}
}

func TestAnAgentThatHangsHoldsUpNobody(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]struct {
		do    func(c *Client) error
		class bridge.Class
	}{
		"follow": {func(c *Client) error {
			_, err := c.Follow(context.Background(), []bridge.Order{kill(1)})
			return err
		}, bridge.Retry},
		"resolve": {func(c *Client) error {
			_, err := c.ResolveProcess(context.Background(), bridge.Process{PID: 7}, false)
			return err
		}, bridge.Retry},
		"ask": {func(c *Client) error { return c.Ask(context.Background(), "release", nil, nil) }, bridge.Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := silent(t)
			err := patient(t, func() error { return call.do(c) })
			if bridge.ClassOf(err) != call.class || !strings.Contains(err.Error(), "did not answer in time") {
				t.Errorf("got %v, want %s and what to do", err, call.class)
			}
			if errors.Is(err, ErrNoAgent) {
				t.Errorf("%v says that there is no agent: people would then look without it", err)
			}
		})
	}
}

func TestAnOrderAtAnAgentThatHangsIsUnknown(t *testing.T) {
	t.Parallel()
	c := silent(t)
	if c.execute != 30*time.Minute || c.look != 10*time.Second {
		t.Errorf("calls may take %s and %s", c.execute, c.look)
	}
	c.execute = 200 * time.Millisecond
	err := patient(t, func() error {
		_, err := c.Execute(context.Background(), kill(1))
		return err
	})
	if bridge.ClassOf(err) != bridge.Unknown || !errors.Is(err, errSilent) {
		t.Errorf("got %v, want unknown", err)
	}
}

func TestAnOrderMayTakeLongerThanALook(t *testing.T) {
	t.Parallel()
	c := silent(t)
	c.look = time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := c.Execute(ctx, kill(1))
	if bridge.ClassOf(err) != bridge.Unknown || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errSilent) {
		t.Errorf("got %v, want unknown because its own context ended", err)
	}
}

func TestAnAskEndsWithItsContext(t *testing.T) {
	t.Parallel()
	c := silent(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := patient(t, func() error { return c.Ask(ctx, "status", nil, nil) })
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errSilent) {
		t.Errorf("got %v, want the end of its own context", err)
	}
}
