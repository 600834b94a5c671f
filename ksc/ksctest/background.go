package ksctest

import (
	"context"
	"sync"
	"time"
)

// minWait keeps the background loop from spinning when a settable clock stands still.
const minWait = 10 * time.Millisecond

// startBackground runs the loop that lets time pass for tasks and tells OnTask. It returns how to end it.
func (s *Server) startBackground(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var loop sync.WaitGroup
	loop.Go(func() { s.background(ctx) })
	return func() {
		cancel()
		loop.Wait()
	}
}

func (s *Server) background(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := s.tasks.advance(s.now(), s.taskOf)
		for _, t := range s.tasks.takeChanges() {
			s.cfg.OnTask(t)
		}
		if wait < 0 {
			wait = time.Hour
		}
		timer.Reset(max(wait, minWait))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.tasks.wake:
		}
	}
}

// Advance does everything that is due at Config.Now: call it after moving a clock of your own.
// With the machine's clock it is never needed.
func (s *Server) Advance() { s.tasks.advance(s.now(), s.taskOf) }

// taskOf reads an incident as the background connection does. A body that is no task gives nil,
// and the incident says why.
func (s *Server) taskOf(incidentID int) *Task {
	i := s.incidents.get(incidentID)
	if i == nil {
		return nil
	}
	body, err := readTaskBody(i.Body)
	if err == nil {
		err = body.matches(i.Host)
	}
	if err != nil {
		s.incidents.change(incidentID, func(i *Incident) { i.Problem = err.Error() })
		s.log.Debug("mock ksc made no task", "incident", incidentID, "err", err)
		return nil
	}
	return &Task{Kind: body.Task, Host: i.Host, IncidentID: i.ID, Body: i.Body, host: i.host}
}

// isConsoleAvailable tells whether the background connection is there: without it AddIncident
// succeeds and no task is ever made.
func (s *Server) isConsoleAvailable(c *call) error {
	c.result(s.cfg.BackgroundConnection)
	return nil
}
