package sensor

import (
	"context"
	"errors"
)

// errNoEvents is why a sensor on Windows polls.
var errNoEvents = errors.New("on Windows the sensor takes snapshots of the process list (Toolhelp) and is not told of starts")

// watch takes snapshots until ctx ends.
func (s *Sensor) watch(ctx context.Context) error {
	o := s.observer()
	defer o.lookAgain(true)
	return s.poll(ctx, o, errNoEvents, 0)
}

// Probe reports how a sensor would see processes on this machine: "polling" with the reason.
func Probe(context.Context) (string, error) { return MethodPolling, errNoEvents }
