package ksctest

import (
	"slices"
	"sync"
	"sync/atomic"
)

// counters are what the server counts while it runs.
type counters struct {
	connections  atomic.Int64
	handshakes   atomic.Int64
	unknown      atomic.Int64
	incidents    atomic.Int64
	failedLogins atomic.Int64
	inFlight     atomic.Int64
	peak         atomic.Int64

	// mu guards logins.
	mu     sync.Mutex
	logins []Login
}

func (c *counters) enter() {
	n := c.inFlight.Add(1)
	for old := c.peak.Load(); n > old; old = c.peak.Load() {
		if c.peak.CompareAndSwap(old, n) {
			return
		}
	}
}

func (c *counters) leave() { c.inFlight.Add(-1) }

func (c *counters) login(l Login) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.logins = append(c.logins, l)
	if len(c.logins) > maxLogins {
		c.logins = slices.Delete(c.logins, 0, len(c.logins)-maxLogins)
	}
}

// Incidents returns copies of the incidents that are there, lowest id first. Deleted ones and those
// that Config.KeepIncidents dropped are missing.
func (s *Server) Incidents() []Incident {
	records := s.incidents.all()
	list := make([]Incident, len(records))
	for i, r := range records {
		list[i] = *r
	}
	return list
}

// Incident returns a copy of one incident; ok is false when it is not there.
func (s *Server) Incident(id int) (i Incident, ok bool) {
	r := s.incidents.get(id)
	if r == nil {
		return Incident{}, false
	}
	return *r, true
}

// AddedIncidents counts the incidents ever stored.
func (s *Server) AddedIncidents() int64 { return s.count.incidents.Load() }

// Tasks does what is due and returns copies of the response tasks that are there, oldest first.
func (s *Server) Tasks() []Task {
	s.Advance()
	found := s.tasks.list("")
	list := make([]Task, len(found))
	for i, t := range found {
		list[i] = *t
	}
	return list
}

// RotatedTasks counts the tasks that gave way because their host had 100 of them.
func (s *Server) RotatedTasks() int64 {
	s.tasks.mu.Lock()
	defer s.tasks.mu.Unlock()
	return s.tasks.rotated
}

// Requests counts the requests of each method, failed ones included. Requests for unknown
// methods are under "".
func (s *Server) Requests() map[string]int64 {
	counts := make(map[string]int64)
	for name, r := range s.routes {
		if n := r.calls.Load(); n > 0 {
			counts[name] = n
		}
	}
	if n := s.count.unknown.Load(); n > 0 {
		counts[""] = n
	}
	return counts
}

// Connections counts the TCP connections accepted.
func (s *Server) Connections() int64 { return s.count.connections.Load() }

// Handshakes counts the TLS handshakes that succeeded.
func (s *Server) Handshakes() int64 { return s.count.handshakes.Load() }

// PeakConcurrent returns the largest number of requests that were in work at once.
func (s *Server) PeakConcurrent() int64 { return s.count.peak.Load() }

// Logins returns the latest 1000 successful logins, oldest first.
func (s *Server) Logins() []Login {
	s.count.mu.Lock()
	defer s.count.mu.Unlock()
	return slices.Clone(s.count.logins)
}

// FailedLogins counts logins that were refused, wrong second factors included.
func (s *Server) FailedLogins() int64 { return s.count.failedLogins.Load() }

// OpenSessions counts the sessions that have an id and did not end.
func (s *Server) OpenSessions() int { return len(s.sessions.all()) }

// OpenAccessors counts the result sets and iterators nobody released and whose life did not end.
func (s *Server) OpenAccessors() int { return s.accessors.size() }

// ExpireSessions ends every session that has an id, as a restart of the server's service does.
func (s *Server) ExpireSessions() {
	for _, sess := range s.sessions.all() {
		s.endSession(sess)
	}
}
