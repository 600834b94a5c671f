package kuma

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// soarMaxLogged is how many different things are logged once.
const soarMaxLogged = 32

// soarHeaders are the headers a token may come in; soarParameters the parameters of the query or the form.
//
// not documented: where KUMA puts the token for R-Vision. All usual places are looked at, and the first one used is logged by its name.
func soarHeaders() []string {
	return []string{"Authorization", "Token", "X-Token", "X-Auth-Token", "X-Api-Key"}
}

func soarParameters() []string { return []string{"token", "api_token", "access_token", "api_key"} }

func soarTokenParameter(name string) bool { return slices.Contains(soarParameters(), name) }

// authorize compares every token the request carries with ours, in a time that tells nothing about it.
func (s *SOAR) authorize(ctx context.Context, r *http.Request, given map[string]string) error {
	want, err := s.cfg.Token(ctx)
	if err != nil {
		return fmt.Errorf("token of the source: %w", err)
	}
	defer clear(want)
	digest := sha256.Sum256(bytes.TrimSpace(want))
	if len(bytes.TrimSpace(want)) == 0 {
		return errors.New("token of the source: is empty: set it anew")
	}
	place, match := "", 0
	for _, at := range slices.Sorted(maps.Keys(given)) {
		sum := sha256.Sum256([]byte(given[at]))
		same := subtle.ConstantTimeCompare(digest[:], sum[:])
		if same == 1 {
			place = at
		}
		match |= same
	}
	switch {
	case match == 1:
		s.once(ctx, "token of kuma arrives", "place", place)
		return nil
	case len(given) == 0:
		s.once(ctx, "request without a token in any known place", "headers", soarHeaderNames(r.Header))
	default:
		s.once(ctx, "request with a wrong token", "remote", restVisible(r.RemoteAddr))
	}
	return &soarRefusal{http.StatusUnauthorized, "the token is missing or wrong"}
}

// tokens finds what may be a token in a form, by its place.
func (f soarForm) tokens() map[string]string {
	found := map[string]string{}
	for _, name := range soarParameters() {
		if f[name] != "" {
			found["form "+name] = f[name]
		}
	}
	return found
}

// soarTokens finds what may be a token in the header and the query, by its place.
func soarTokens(r *http.Request) map[string]string {
	found := map[string]string{}
	for _, name := range soarHeaders() {
		value := strings.TrimSpace(r.Header.Get(name))
		if scheme, rest, ok := strings.Cut(value, " "); ok && (strings.EqualFold(scheme, "Bearer") || strings.EqualFold(scheme, "Token")) {
			value = strings.TrimSpace(rest)
		}
		if value != "" {
			found["header "+name] = value
		}
	}
	query, err := parseSOARForm([]byte(r.URL.RawQuery))
	if err != nil {
		query = nil // an odd query carries no token we would believe
	}
	for _, name := range soarParameters() {
		if query[name] != "" {
			found["query "+name] = query[name]
		}
	}
	return found
}

// soarHeaderNames lists the names of headers, so that an administrator sees where the token may be; values are not shown.
func soarHeaderNames(h http.Header) string {
	names := restVisible(strings.Join(slices.Sorted(maps.Keys(h)), " "))
	return names[:min(len(names), restMaxName)]
}

// once logs something the first time it happens, so that nobody fills the log by asking.
func (s *SOAR) once(ctx context.Context, msg string, args ...any) {
	key := fmt.Sprint(append([]any{msg}, args...)...)
	s.mu.Lock()
	known := s.seen[key] || len(s.seen) >= soarMaxLogged
	if !known {
		s.seen[key] = true
	}
	s.mu.Unlock()
	if !known {
		s.cfg.Logger.WarnContext(ctx, msg, args...) //nolint:sloglint // the message is a constant at each caller
	}
}
