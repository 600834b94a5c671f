package sensor

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// rescanPause is the least time between two lists of all processes after overruns.
	rescanPause = 100 * time.Millisecond
	// connectAgain is how often a sensor that polls tries the kernel's events once more.
	connectAgain = time.Minute
)

// watch reads process events until ctx ends, and lists processes while there are none.
func (s *Sensor) watch(ctx context.Context) error {
	o := s.observer()
	defer o.lookAgain(true)
	for {
		c, err := openConnector(ctx, s.buffer)
		if err == nil {
			err = s.listen(ctx, o, c)
			c.close()
		}
		if ctx.Err() != nil {
			return nil
		}
		again := connectAgain
		if errors.Is(err, unix.ECONNREFUSED) {
			again = 0 // a process does not move to the initial namespace by itself
		}
		if err := s.poll(ctx, o, err, again); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// listen reads events until ctx ends or the connector fails.
func (s *Sensor) listen(ctx context.Context, o *observer, c *connector) error {
	// What happens from here on waits in the kernel's buffer, so nothing falls between the list and the events.
	if err := o.start(); err != nil {
		return err
	}
	if s.Err() != nil {
		s.log.InfoContext(ctx, "the sensor reads process events again")
	}
	s.state.watches(MethodEvents, nil)
	s.life.Stood()
	var last time.Time
	due := false
	for ctx.Err() == nil {
		pause := kinPause
		if due {
			// The kernel drops everything until its buffer was read empty (netlink(7)); a list made before would miss that.
			pause = 0
		}
		idle, err := c.next(ctx, pause, o.event)
		o.lookAgain(false)
		switch {
		case errors.Is(err, errOverrun):
			s.count.overruns.Add(1)
			due = true
		case err != nil:
			return err
		case due && idle:
			if since := time.Since(last); since < rescanPause && !wait(ctx, rescanPause-since) {
				return nil
			}
			last = time.Now()
			if err := o.rescan(); err != nil {
				return err
			}
			due = false
		}
	}
	return nil
}

// event takes one message of the kernel up.
func (o *observer) event(e event) {
	o.s.count.events.Add(1)
	switch e.kind {
	case eventFork:
		if e.pid == e.thread {
			o.forked(e.parent, e.pid)
		}
	case eventExec:
		o.executed(e.pid, e.when)
	case eventUID:
		o.changedUser(e.pid, e.uid)
	case eventExit:
		if e.pid == e.thread {
			o.table.end(e.pid)
		}
	}
	o.s.count.processes.Store(int64(len(o.table.known)))
}

// Probe reports how a sensor would see processes on this machine: "proc connector", or "polling" with the reason. It blocks for some
// milliseconds, at most about a second.
func Probe(ctx context.Context) (string, error) {
	c, err := openConnector(ctx, receiveBuffer)
	if err != nil {
		return MethodPolling, err
	}
	c.close()
	return MethodEvents, nil
}
