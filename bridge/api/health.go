package api

import (
	"context"
	"net/http"
	"time"
)

const healthTimeout = 2 * time.Second

// Health is how a bridge is doing.
type Health struct {
	// Store is how its last write went.
	Store Part
	// Parts are what else it takes to be ready: each source, and KSC where it is configured.
	Parts []Part
}

// Part is how one part of a bridge is doing.
type Part struct {
	// Name is "store", "ksc" or "source " and the name of the source.
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Detail says in words what is wrong. Every user of this machine can read it.
	Detail string `json:"detail,omitempty"`
}

// healthPage is the body of the health pages.
type healthPage struct {
	OK    bool   `json:"ok"`
	Parts []Part `json:"parts"`
}

// healthz answers 200 while the process lives and its store takes changes.
func (p *Pages) healthz(w http.ResponseWriter, r *http.Request) {
	p.health(w, r, func(h Health) []Part { return []Part{h.Store} })
}

// readyz answers 200 while every part works.
func (p *Pages) readyz(w http.ResponseWriter, r *http.Request) {
	p.health(w, r, func(h Health) []Part { return append([]Part{h.Store}, h.Parts...) })
}

func (p *Pages) health(w http.ResponseWriter, r *http.Request, choose func(Health) []Part) {
	ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
	defer cancel()
	body := healthPage{OK: true, Parts: choose(p.cfg.Health(ctx))}
	if ctx.Err() != nil {
		body.Parts = append(body.Parts, Part{Name: "health", Detail: "the bridge did not find out in time"})
	}
	status := http.StatusOK
	for _, part := range body.Parts {
		if !part.OK {
			body.OK, status = false, http.StatusServiceUnavailable
		}
	}
	doc, err := encodeJSON(body)
	if err != nil {
		status, doc = http.StatusInternalServerError, nil
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(doc) // whoever asked has left
}
