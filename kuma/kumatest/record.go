package kumatest

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const maxRequests = 10_000 // requests that are remembered

// Request is one request the server got.
type Request struct {
	At     time.Time
	Method string
	// Path is the path below /api/<version>, such as "alerts/close"; Version is that version.
	Version, Path string
	// Query is the query as it came; RawQuery shows flags without a value.
	Query    url.Values
	RawQuery string
	Header   http.Header
	Body     []byte
	// Status is what was answered, 0 when the connection was cut.
	Status int
}

func (s *Server) remember(r Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.requests) < maxRequests {
		s.requests = append(s.requests, r)
	}
}

// Requests returns the requests so far, the first 10,000, oldest first. Without a path all of them, else those of one path.
func (s *Server) Requests(path ...string) []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Request
	for _, r := range s.requests {
		if len(path) > 0 && !slices.Contains(path, r.Path) {
			continue
		}
		r.Query, r.Header, r.Body = maps.Clone(r.Query), r.Header.Clone(), slices.Clone(r.Body)
		out = append(out, r)
	}
	return out
}

// ForgetRequests empties the record.
func (s *Server) ForgetRequests() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
}

// splitPath cuts "/api/v2.1/alerts/close" into version and path. One slash at the end is ignored: public clients send it.
func splitPath(path string) (version, rest string, ok bool) {
	below, ok := strings.CutPrefix(path, "/api/")
	if !ok {
		return "", "", false
	}
	version, rest, ok = strings.Cut(below, "/")
	return version, strings.TrimSuffix(rest, "/"), ok
}
