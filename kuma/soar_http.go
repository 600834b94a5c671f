package kuma

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
)

// The paths of R-Vision KUMA calls.
const (
	soarProbePath = "/api/v2/tokens/get_info_by_token"
	soarPushPath  = "/api/v2/incidents"
)

// soarRefusal is an answer other than 200. Its text is for the log and the body; it never holds what the caller sent.
type soarRefusal struct {
	status int
	text   string
}

func (e *soarRefusal) Error() string { return e.text }

// ServeHTTP answers the probe (GET /api/v2/tokens/get_info_by_token) and pushes (POST /api/v2/incidents). A push is answered
// {"success": true} with 200 once its alert is durable, else with 503 and Retry-After; 400, 401, 404, 405, 413 and 415 are for requests
// that are wrong. It blocks for at most Wait.
func (s *SOAR) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeoutCause(r.Context(), s.cfg.Wait, errors.New("it took too long"))
	defer cancel()
	err := s.serve(ctx, w, r)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err == nil {
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, `{"success": true}`)
		return
	}
	refusal, wrong := errors.AsType[*soarRefusal](err)
	if !wrong {
		// Nothing was accepted, so it has to be pushed again; why is in the log and none of the caller's business.
		refusal = &soarRefusal{http.StatusServiceUnavailable, "not accepted: push again"}
		w.Header().Set("Retry-After", "30")
		if r.Context().Err() == nil {
			s.cfg.Logger.WarnContext(ctx, "pushed alert is not accepted", "err", err)
		}
	}
	body, err := json.Marshal(struct {
		Success bool   `json:"success"`
		Message string `json:"message"`
	}{false, refusal.text})
	if err != nil {
		body = []byte(`{"success": false}`)
	}
	w.WriteHeader(refusal.status)
	_, _ = w.Write(body)
}

func (s *SOAR) serve(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
	if s.life.IsOver() {
		return errors.New("the source is closed")
	}
	method := http.MethodGet
	switch r.URL.Path {
	case soarProbePath:
	case soarPushPath:
		method = http.MethodPost
	default:
		return &soarRefusal{http.StatusNotFound, "no such path"}
	}
	if r.Method != method {
		w.Header().Set("Allow", method)
		return &soarRefusal{http.StatusMethodNotAllowed, "use " + method}
	}
	// A body is read before the caller is known only if the token can be nowhere else.
	given := soarTokens(r)
	known := len(given) > 0 || method == http.MethodGet
	if known {
		if err := s.authorize(ctx, r, given); err != nil || method == http.MethodGet {
			return err
		}
	}
	body, err := soarBody(w, r)
	if err != nil {
		return err
	}
	form, err := parseSOARForm(body)
	if err != nil {
		return &soarRefusal{http.StatusBadRequest, err.Error()}
	}
	if !known {
		if err := s.authorize(ctx, r, form.tokens()); err != nil {
			return err
		}
	}
	id, err := form.one(s.cfg.AlertTag)
	if err != nil {
		s.once(ctx, "pushed form has no usable alert id", "tag", s.cfg.AlertTag, "fields", form.names())
		return &soarRefusal{http.StatusBadRequest, err.Error()}
	}
	if !restUUID(id) {
		return &soarRefusal{http.StatusBadRequest, "the alert id is not a UUID"}
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return errors.New("too many pushes at once")
	}
	return s.pull(ctx, strings.ToLower(id))
}

// soarBody reads a body that is a form and nothing else: no parts, no encoding, no more than it may be.
func soarBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := params["charset"]
	if err != nil || kind != "application/x-www-form-urlencoded" || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return nil, &soarRefusal{http.StatusUnsupportedMediaType, "send application/x-www-form-urlencoded in UTF-8"}
	}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return nil, &soarRefusal{http.StatusUnsupportedMediaType, "send without Content-Encoding"}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, soarMaxBody))
	if _, long := errors.AsType[*http.MaxBytesError](err); long {
		return nil, &soarRefusal{http.StatusRequestEntityTooLarge, "the form is too large"}
	}
	if err != nil {
		return nil, &soarRefusal{http.StatusBadRequest, "the body ended early"}
	}
	return body, nil
}
