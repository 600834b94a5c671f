package kuma

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
)

// User is the owner of the token.
type User struct {
	ID, Name, Login string
	// Tenants are the ids of the tenants the user has a role in.
	Tenants []string
	// Version is the version of the API that answered.
	Version string
}

// Whoami returns whose token it is. It is the check that address, certificate and token are right.
//
// KUMA: GET users/whoami, support.kaspersky.com/help/KUMA/3.0.3/en-US/269936.htm (v1: 222303).
func (c *Client) Whoami(ctx context.Context) (User, error) {
	body, err := c.call(ctx, restRequest{method: http.MethodGet, path: restWhoami})
	if err != nil {
		return User{}, err
	}
	type tenant struct {
		ID string `json:"id"`
	}
	var in struct {
		ID      string   `json:"id"`
		Name    string   `json:"name"`
		Login   string   `json:"login"`
		Tenants []tenant `json:"tenants"`
		Roles   []struct {
			Tenants []tenant `json:"tenants"`
		} `json:"roles"`
	}
	if err := restDecode(restWhoami, body, &in); err != nil {
		return User{}, err
	}
	u := User{ID: in.ID, Name: in.Name, Login: in.Login, Version: c.version.get()}
	seen := map[string]bool{}
	add := func(list []tenant) {
		for _, t := range list {
			if !seen[t.ID] {
				seen[t.ID] = true
				u.Tenants = append(u.Tenants, t.ID)
			}
		}
	}
	add(in.Tenants)
	for _, r := range in.Roles {
		add(r.Tenants)
	}
	return u, nil
}

// restVersion is what is known of the version of the API.
type restVersion struct {
	fixed string
	// turn is held by the one goroutine that asks.
	turn chan struct{}
	// mu guards known.
	mu    sync.Mutex
	known string
}

func (v *restVersion) get() string {
	if v.fixed != "" {
		return v.fixed
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.known
}

func (v *restVersion) set(known string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.known = known
}

// apiVersion returns the version to use and asks the core at the first time.
func (c *Client) apiVersion(ctx context.Context) (string, error) {
	if v := c.version.get(); v != "" {
		return v, nil
	}
	return c.probe(ctx, "")
}

// probeAgain asks anew after a 404, unless somebody else has done so.
func (c *Client) probeAgain(ctx context.Context, stale string) (string, error) {
	return c.probe(ctx, stale)
}

// probe finds the newest version whoami answers in. stale is the version the caller was refused with, or "".
func (c *Client) probe(ctx context.Context, stale string) (string, error) {
	select {
	case c.version.turn <- struct{}{}:
		defer func() { <-c.version.turn }()
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	if v := c.version.get(); v != "" && v != stale {
		return v, nil
	}
	candidates := Versions()
	if stale != "" {
		candidates = append([]string{stale}, candidates...) // most 404s are about a missing alert: one request settles it
	}
	for _, v := range candidates {
		_, err := c.send(ctx, v, restRequest{method: http.MethodGet, path: restWhoami})
		api, answered := errors.AsType[*APIError](err)
		switch {
		case err == nil:
			if c.version.get() != v {
				c.log.InfoContext(ctx, "kuma api version found", "version", v)
			}
			c.version.set(v)
			return v, nil
		case answered && api.Status == http.StatusNotFound:
			// not documented: what a core answers for a version it does not serve; 404 is taken for it.
		default:
			return "", fmt.Errorf("find the version of the kuma api: %w", err)
		}
	}
	return "", &APIError{
		Method: http.MethodGet, Path: restWhoami, Status: http.StatusNotFound,
		Message: "none of " + strings.Join(Versions(), ", ") + " is served: check kuma.address, or set kuma.version",
	}
}
