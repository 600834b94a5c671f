package kumatest

import (
	"net/http"
	"time"
)

// Fault is what goes wrong with requests. Of several that fit, the one injected first acts.
type Fault struct {
	// Path picks requests by their path below the version ("alerts", "alerts/close"); "" = all.
	Path string
	// Version picks requests of one version of the API; "" = all.
	Version string
	// Times is how many requests it hits; 0 = until Heal.
	Times int

	// Delay is how long the server waits before anything else, or until the caller leaves.
	Delay time.Duration
	// Status answers so instead of doing the work, with Message and Details; 0 = does the work.
	Status           int
	Message, Details string
	// Header is added to the answer of Status.
	Header http.Header
	// CutBefore closes the connection before the work, CutAfter after it: the caller learns nothing in both cases.
	CutBefore, CutAfter bool
	// Body is sent with status 200 instead of the answer of the work, which is done.
	Body []byte
	// Drip sends the answer a byte at a time with this pause.
	Drip time.Duration
}

// Inject adds a fault.
func (s *Server) Inject(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

// Heal removes all faults.
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// fault returns the fault for a request and counts it.
func (s *Server) fault(version, path string) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.faults {
		if f.Path != "" && f.Path != path || f.Version != "" && f.Version != version {
			continue
		}
		hit := *f
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				s.faults = append(s.faults[:i:i], s.faults[i+1:]...)
			}
		}
		return hit
	}
	return Fault{}
}
