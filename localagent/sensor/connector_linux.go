package sensor

import (
	"context"
	"errors"
	"time"
)

const (
	// startMask are the events the sensor is woken for, kinMask those it reads when it is awake anyway: they come several times
	// as often, and a process that wakes for each of them costs several times as much.
	startMask = eventExec
	kinMask   = eventFork | eventUID | eventExit
	// kinPause is how long events of kinMask wait at most, so that their buffer does not fill.
	kinPause = 100 * time.Millisecond
	// answerTime is how long the kernel may take to send the event that shows it sends any.
	answerTime = time.Second
)

var (
	// errOverrun says that the kernel had to drop events.
	errOverrun = errors.New("the kernel dropped process events: the receive buffer was full")
	// errIdle says that no event is there.
	errIdle = errors.New("no event")
)

// connector is a subscription to the kernel's process events, see linux/cn_proc.h. It works in the initial network,
// process and user namespaces only.
type connector struct {
	starts, kin *channel
}

// openConnector subscribes and waits until the kernel shows by an event that it delivers. buffer is the receive buffer in bytes of each
// of two sockets.
func openConnector(ctx context.Context, buffer int) (*connector, error) {
	kin, err := openChannel(ctx, buffer, kinMask)
	if err != nil {
		return nil, err
	}
	if err := kin.unwatch(); err != nil {
		kin.close()
		return nil, err
	}
	// Nobody reads kin until starts stands; from then on what it holds is in the table or comes up in order.
	starts, err := openChannel(ctx, buffer, startMask)
	if err != nil {
		kin.close()
		return nil, err
	}
	return &connector{starts: starts, kin: kin}, nil
}

func (c *connector) close() {
	c.starts.close()
	c.kin.close()
}

// next waits up to pause for the start of a program, and calls do for everything that happened up to it in the order of the
// kernel's clock; or for what else happened, when no program was started. idle says that there was nothing to wait for any more. It
// returns errOverrun when events were dropped.
func (c *connector) next(ctx context.Context, pause time.Duration, do func(event)) (idle bool, err error) {
	c.starts.queue = c.starts.queue[:0]
	overrun := false
	switch err := c.starts.read(ctx, pause); {
	case errors.Is(err, errOverrun):
		overrun = true
	case errors.Is(err, errIdle):
		idle = true
	case err != nil:
		return false, err
	}
	for _, start := range c.starts.queue {
		dropped, err := c.catchUp(ctx, start.when, do)
		if err != nil {
			return false, err
		}
		overrun = overrun || dropped
		do(start)
	}
	if idle {
		dropped, err := c.catchUp(ctx, 0, do)
		if err != nil {
			return false, err
		}
		overrun = overrun || dropped
	}
	if overrun {
		return false, errOverrun
	}
	return idle, nil
}

// catchUp calls do for the events of kin up to that time, or all of them when it is 0, and reports whether events were dropped.
func (c *connector) catchUp(ctx context.Context, until uint64, do func(event)) (dropped bool, err error) {
	for {
		for i, e := range c.kin.queue {
			if until != 0 && e.when > until {
				c.kin.queue = append(c.kin.queue[:0], c.kin.queue[i:]...)
				return dropped, nil
			}
			do(e)
		}
		c.kin.queue = c.kin.queue[:0]
		switch err := c.kin.read(ctx, 0); {
		case errors.Is(err, errOverrun):
			dropped = true
		case errors.Is(err, errIdle):
			return dropped, nil
		case err != nil:
			return dropped, err
		}
	}
}
