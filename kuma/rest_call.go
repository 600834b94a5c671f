package kuma

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// The paths below /api/<version>.
const (
	restWhoami     = "users/whoami"
	restAlerts     = "alerts"
	restClose      = "alerts/close"
	restEvents     = "events"
	restClusters   = "events/clusters"
	restAssets     = "assets"
	restListImport = "activeLists/import"
)

// restRequest is one request; query is sent as it is.
type restRequest struct {
	method, path, query string
	// contentType and body belong to requests that have one.
	contentType string
	body        []byte
}

// call is the way of every request: version, token, send, check. It returns the body of a 2xx answer.
func (c *Client) call(ctx context.Context, r restRequest) ([]byte, error) {
	version, err := c.apiVersion(ctx)
	if err != nil {
		return nil, err
	}
	body, err := c.send(ctx, version, r)
	if api, ok := errors.AsType[*APIError](err); !ok || api.Status != http.StatusNotFound || c.version.fixed != "" {
		return body, err
	}
	// Something is missing: the alert, or the version of the API since the core was upgraded.
	again, perr := c.probeAgain(ctx, version)
	if perr != nil || again == version {
		return body, err
	}
	return c.send(ctx, again, r)
}

// send makes one request with a version of the API.
func (c *Client) send(ctx context.Context, version string, r restRequest) ([]byte, error) {
	token, err := c.token(ctx)
	if err != nil {
		return nil, err
	}
	path := version + "/" + r.path
	target := c.base + path
	if r.query != "" {
		target += "?" + r.query
	}
	req := c.rest.R().SetContext(ctx).SetHeader("Authorization", "Bearer "+token)
	if r.body != nil {
		req.SetBody(r.body).SetHeader("Content-Type", r.contentType)
	}
	start := time.Now()
	resp, err := req.Execute(r.method, target)
	switch {
	case err != nil:
		err = restLost(ctx, r.method, path, err, token)
	case resp.StatusCode() < 200 || resp.StatusCode() > 299:
		err = newAPIError(r.method, path, resp.StatusCode(), resp.Body(), token)
	}
	c.trace(ctx, r.method, path, start, err)
	if err != nil {
		return nil, err
	}
	return resp.Body(), nil
}

// restLost is the error of a request that brought no answer. Its text is made fit to print, its chain kept.
func restLost(ctx context.Context, method, path string, err error, token string) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err // its text would repeat the address with the query
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = errors.Join(cause, err)
	}
	return &lostError{text: fmt.Sprintf("%s %s: %s", method, path, restExcerpt([]byte(err.Error()), restMaxExcerpt, token)), err: err}
}

type lostError struct {
	text string
	err  error
}

func (e *lostError) Error() string { return e.text }
func (e *lostError) Unwrap() error { return e.err }

// token asks for the token and checks that it can stand in a header.
func (c *Client) token(ctx context.Context) (string, error) {
	raw, err := c.cfg.Token(ctx)
	if err != nil {
		return "", fmt.Errorf("kuma token: %w", err)
	}
	defer clear(raw)
	token := strings.TrimSpace(string(raw))
	bad := func(r rune) bool { return r <= ' ' || r > '~' }
	if token == "" || len(token) > restMaxToken || strings.ContainsFunc(token, bad) {
		return "", fmt.Errorf("kuma token: is empty, too long or holds characters a header cannot carry: set it anew (%w)", ErrCredentials)
	}
	return token, nil
}

func (c *Client) trace(ctx context.Context, method, path string, start time.Time, err error) {
	if !c.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	args := []any{"method", method, "path", path, "took", time.Since(start)}
	if err != nil {
		args = append(args, "err", err)
	}
	c.log.DebugContext(ctx, "kuma request", args...)
}

// restDecode reads an answer into out. What is not JSON every reader understands alike is refused.
func restDecode(path string, body []byte, out any) error {
	if err := bridge.CheckJSON(body); err != nil {
		return &answerError{path, err}
	}
	if err := json.Unmarshal(body, out); err != nil {
		return &answerError{path, err}
	}
	return nil
}

// restDocuments splits an answer that is an array of documents, or null for none, without touching their bytes. A
// document that is odd inside does not spoil the others: whoever reads it checks it. Each has memory of its own.
func restDocuments(path string, body []byte) ([]json.RawMessage, error) {
	var docs []json.RawMessage
	if err := json.Unmarshal(body, &docs); err != nil {
		return nil, &answerError{path, errors.New("it is not an array of JSON objects")}
	}
	for i, d := range docs {
		if len(d) == 0 || d[0] != '{' {
			return nil, &answerError{path, fmt.Errorf("element %d is not an object", i)}
		}
	}
	return docs, nil
}

// restUUID reports whether s is a UUID in its usual form and nothing else: it goes into SQL and addresses.
func restUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case c >= '0' && c <= '9', c >= 'a' && c <= 'f', c >= 'A' && c <= 'F':
		default:
			return false
		}
	}
	return true
}
