package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// hostName is the Host of requests over the socket, where no name has to be resolved.
const hostName = "edr-bridge"

// answer is what every response of the control API holds: the value, or an error and what the desk returned with it.
type answer[T any] struct {
	Value T        `json:"value,omitzero"`
	Error *failure `json:"error,omitempty"`
}

// gate refuses what no client of the bridge sends before anything is read of it.
func gate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); {
		case fromBrowser(r):
			reply(w, none{}, fmt.Errorf("%w: the bridge does not talk to browsers", errForbidden))
		case r.Host != hostName:
			reply(w, none{}, fmt.Errorf("%w: the Host header must be %s", errForbidden, hostName))
		case r.URL.RawQuery != "":
			reply(w, none{}, fmt.Errorf("%w: there are no query parameters, put the fields into the body", errInvalid))
		case r.Method == http.MethodPost && (err != nil || media != "application/json"):
			reply(w, none{}, fmt.Errorf("%w: the Content-Type must be application/json", errInvalid))
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// fromBrowser reports whether a page in a browser sent the request (Fetch standard, fetch.spec.whatwg.org: Origin goes with
// every POST and every request across origins, Sec-Fetch-Site with all).
func fromBrowser(r *http.Request) bool {
	return len(r.Header.Values("Origin")) > 0 || len(r.Header.Values("Sec-Fetch-Site")) > 0
}

// readBody decodes the one JSON value of a request, strictly.
func readBody(w http.ResponseWriter, r *http.Request, into any) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fmt.Errorf("%w: at most %d bytes are read", errTooLarge, tooLarge.Limit)
	}
	if err != nil {
		return fmt.Errorf("%w: read body: %w", errInvalid, err)
	}
	if err := bridge.CheckJSON(body); err != nil {
		return fmt.Errorf("%w: %w", errInvalid, err)
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("%w: %w", errInvalid, err)
	}
	return nil
}

// reply writes the answer; an error decides the status.
func reply[T any](w http.ResponseWriter, value T, err error) {
	a, status := answer[T]{Value: value}, http.StatusOK
	if err != nil {
		f, code := encodeFailure(err)
		a.Error, status = &f, code
	}
	doc, err := encodeJSON(a)
	if err != nil {
		f, code := encodeFailure(fmt.Errorf("encode answer: %w", err))
		status = code
		if doc, err = encodeJSON(answer[none]{Error: &f}); err != nil {
			status, doc = http.StatusInternalServerError, nil
		}
	}
	// A client that does not read must not keep its connection.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTimeout))
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(doc) // the client left; what it asked for is done
}

func encodeJSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return buf.Bytes(), err
}
