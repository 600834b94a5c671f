package kumatest

import (
	"crypto/subtle"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// answer is what a request gets: a status and a body, which is empty for 204.
type answer struct {
	status int
	body   []byte
	header http.Header
}

// refusal is the error form of the API: message and details
// (support.kaspersky.com/help/KUMA/3.0.2/en-US/222250.htm).
func refusal(status int, message, details string) answer {
	body, err := json.Marshal(map[string]string{"message": message, "details": details})
	if err != nil {
		return answer{status: http.StatusInternalServerError}
	}
	return answer{status: status, body: body}
}

func success(v any) answer {
	body, err := json.Marshal(v)
	if err != nil {
		return refusal(http.StatusInternalServerError, "cannot encode the answer", err.Error())
	}
	return answer{status: http.StatusOK, body: body}
}

func noContent() answer { return answer{status: http.StatusNoContent} }

// ServeHTTP answers one request as the core would, but for the faults.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	version, path, known := splitPath(r.URL.Path)
	rec := Request{
		At: s.cfg.Now(), Method: r.Method, Version: version, Path: path, Query: r.URL.Query(), RawQuery: r.URL.RawQuery,
		Header: r.Header.Clone(), Body: body,
	}
	f := s.fault(version, path)
	if f.Delay > 0 {
		t := time.NewTimer(f.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-r.Context().Done():
			s.remember(rec)
			return
		}
	}
	if f.CutBefore {
		s.remember(rec)
		panic(http.ErrAbortHandler) //nolint:forbidigo // the documented way to close a connection without an answer
	}
	var a answer
	switch {
	case f.Status != 0:
		a = refusal(f.Status, f.Message, f.Details)
		a.header = f.Header
	case err != nil:
		a = refusal(http.StatusRequestEntityTooLarge, "request is too large", err.Error())
	default:
		a = s.work(&rec, known)
	}
	if f.Body != nil {
		a = answer{status: http.StatusOK, body: f.Body}
	}
	if f.CutAfter {
		s.remember(rec)
		panic(http.ErrAbortHandler) //nolint:forbidigo // see above
	}
	rec.Status = a.status
	s.remember(rec)
	a.write(w, f.Drip)
}

func (a answer) write(w http.ResponseWriter, drip time.Duration) {
	maps.Copy(w.Header(), a.header)
	if len(a.body) > 0 {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	}
	w.WriteHeader(a.status)
	if drip == 0 {
		_, _ = w.Write(a.body)
		return
	}
	t := time.NewTicker(drip)
	defer t.Stop()
	for i := range a.body {
		<-t.C
		if _, err := w.Write(a.body[i : i+1]); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
	}
}

// authorized answers as help 217974 documents: 400 for a bad header, 403 for a token nobody has.
func (s *Server) authorized(h http.Header) (answer, bool) {
	given, ok := strings.CutPrefix(h.Get("Authorization"), "Bearer ")
	if !ok || given == "" {
		return refusal(http.StatusBadRequest, "invalid authorization header", "Example: Authorization: Bearer <token>"), false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if subtle.ConstantTimeCompare([]byte(given), []byte(s.token)) != 1 {
		return refusal(http.StatusForbidden, "access denied", ""), false
	}
	return answer{}, true
}

// work does what a request asks for.
func (s *Server) work(r *Request, known bool) answer {
	s.mu.Lock()
	served := known && slices.Contains(s.served, r.Version)
	s.mu.Unlock()
	if !served {
		return answer{status: http.StatusNotFound, body: []byte("404 page not found\n")}
	}
	if a, ok := s.authorized(r.Header); !ok {
		return a
	}
	type route struct{ method, path string }
	routes := map[route]func(*Request) answer{
		{http.MethodGet, "users/whoami"}:        s.whoami,
		{http.MethodGet, "alerts"}:              s.getAlerts,
		{http.MethodPost, "alerts/close"}:       s.closeAlert,
		{http.MethodPost, "events"}:             s.searchEvents,
		{http.MethodGet, "events/clusters"}:     s.getClusters,
		{http.MethodGet, "assets"}:              s.getAssets,
		{http.MethodGet, "services"}:            s.getServices,
		{http.MethodPost, "activeLists/import"}: s.importList,
	}
	do, ok := routes[route{r.Method, r.Path}]
	if !ok {
		return answer{status: http.StatusNotFound, body: []byte("404 page not found\n")}
	}
	return do(r)
}

// whoami has tenants in v1 and roles after it (support.kaspersky.com/help/KUMA/3.0.3/en-US/269936.htm).
func (s *Server) whoami(r *Request) answer {
	type tenant struct {
		ID   string `json:"id"`
		Name string `json:"name"`
		Role string `json:"role,omitempty"`
	}
	main := tenant{ID: "a0996458-8b25-42e9-a673-d800d6169703", Name: "Main"}
	user := map[string]any{
		"id": "5e4c9f0a-9a53-4d3f-8d0f-3f9a6a5b1c11", "name": "edr-bridge", "login": "edr-bridge", "email": "soc@corp.example",
	}
	if r.Version == "v1" {
		main.Role = "analyst"
		user["tenants"] = []tenant{main}
	} else {
		user["roles"] = []map[string]any{{"id": "r1", "name": "Tier 2 analyst", "tenants": []tenant{main}}}
	}
	return success(user)
}

// page returns the part of a list of n a request asks for.
func page(r *Request, n int) (from, to int, bad answer, ok bool) {
	number := 1
	if text := r.Query.Get("page"); text != "" {
		var err error
		if number, err = strconv.Atoi(text); err != nil || number < 1 {
			return 0, 0, refusal(http.StatusBadRequest, "invalid query parameter value", "page"), false
		}
	}
	from = min((number-1)*pageSize, n)
	return from, min(from+pageSize, n), answer{}, true
}
