package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// The paths of the control API.
const (
	pathStatus      = "/v1/status"
	pathOrders      = "/v1/orders/list"
	pathOrder       = "/v1/orders/show"
	pathSend        = "/v1/orders/send"
	pathDecide      = "/v1/orders/decide"
	pathCancel      = "/v1/orders/cancel"
	pathAudit       = "/v1/audit/list"
	pathVerify      = "/v1/audit/verify"
	pathLeases      = "/v1/leases"
	pathHold        = "/v1/hold"
	pathLetters     = "/v1/letters/list"
	pathLetter      = "/v1/letters/show"
	pathRetryLetter = "/v1/letters/retry"
	pathDropLetter  = "/v1/letters/drop"
)

// routes is the control API. Questions end when their client leaves; changes go on under work.
func (s *Server) routes(work context.Context) http.Handler {
	mux := http.NewServeMux()
	d := s.cfg.Desk
	look(mux, "GET "+pathStatus, func(ctx context.Context, _ none) (status, error) {
		st, err := s.cfg.Status(ctx)
		return with(st, err, encodeStatus)
	})
	look(mux, "GET "+pathLeases, func(ctx context.Context, _ none) ([]lease, error) {
		list, err := d.Leases(ctx)
		return withEach(list, err, encodeLease)
	})
	look(mux, "GET "+pathHold, func(ctx context.Context, _ none) (hold, error) {
		h, err := d.Hold(ctx)
		return with(h, err, encodeHold)
	})
	look(mux, "POST "+pathOrders, func(ctx context.Context, f orderFilter) ([]order, error) {
		list, err := d.Orders(ctx, f.decode())
		return withEach(list, err, encodeOrder)
	})
	look(mux, "POST "+pathOrder, func(ctx context.Context, n named) (order, error) {
		o, err := d.Order(ctx, string(n.ID))
		return with(o, err, encodeOrder)
	})
	look(mux, "POST "+pathAudit, func(ctx context.Context, f auditFilter) ([]record, error) {
		list, err := d.Audit(ctx, f.decode())
		return withEach(list, err, encodeRecord)
	})
	look(mux, "POST "+pathVerify, func(ctx context.Context, v verification) (auditReport, error) {
		known, err := v.decode()
		if err != nil {
			return auditReport{}, err
		}
		r, err := d.VerifyAudit(ctx, known)
		return with(r, err, encodeReport)
	})
	look(mux, "POST "+pathLetters, func(ctx context.Context, p page) (letterPage, error) {
		list, next, err := d.Letters(ctx, bridge.Page(p))
		letters, err := withEach(list, err, encodeLetter)
		return letterPage{letters, page(next)}, err
	})
	look(mux, "POST "+pathLetter, func(ctx context.Context, n named) (letter, error) {
		l, err := d.Letter(ctx, string(n.ID))
		return with(l, err, encodeLetter)
	})
	s.changes(work, mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		reply(w, none{}, fmt.Errorf("%w: this bridge knows no %s %.60q", errInvalid, r.Method, r.URL.Path))
	})
	return gate(mux)
}

func (s *Server) changes(work context.Context, mux *http.ServeMux) {
	d := s.cfg.Desk
	change(work, s, mux, "POST "+pathSend, func(ctx context.Context, uid uint32, e entry) ([]order, error) {
		return s.send(ctx, uid, e)
	})
	change(work, s, mux, "POST "+pathHold, func(ctx context.Context, uid uint32, w hold) (none, error) {
		h, err := w.decode()
		h.Actor = actorOf(uid, h.Actor)
		if err == nil {
			err = d.SetHold(ctx, h)
		}
		return none{}, err
	})
	change(work, s, mux, "POST "+pathDecide, func(ctx context.Context, uid uint32, w decision) (order, error) {
		o, err := d.Decide(ctx, bridge.Decision{
			Order: string(w.Order), Approve: w.Approve, Digest: string(w.Digest), Actor: actorOf(uid, string(w.Actor)), Why: string(w.Why),
		})
		return with(o, err, encodeOrder)
	})
	change(work, s, mux, "POST "+pathCancel, func(ctx context.Context, uid uint32, n named) (order, error) {
		o, err := d.Cancel(ctx, string(n.ID), actorOf(uid, string(n.Actor)), string(n.Why))
		return with(o, err, encodeOrder)
	})
	change(work, s, mux, "POST "+pathRetryLetter, func(ctx context.Context, uid uint32, n named) (letter, error) {
		l, err := d.RetryLetter(ctx, string(n.ID), actorOf(uid, string(n.Actor)))
		return with(l, err, encodeLetter)
	})
	change(work, s, mux, "POST "+pathDropLetter, func(ctx context.Context, uid uint32, n named) (letter, error) {
		l, err := d.DropLetter(ctx, string(n.ID), actorOf(uid, string(n.Actor)), string(n.Why))
		return with(l, err, encodeLetter)
	})
}

// look registers a question.
func look[In, Out any](mux *http.ServeMux, pattern string, answer func(context.Context, In) (Out, error)) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		var in In
		var out Out
		err := question(w, r, &in)
		if err == nil {
			out, err = answer(r.Context(), in)
		}
		reply(w, out, err)
	})
}

// change registers something that is carried through although its client leaves.
func change[In, Out any](work context.Context, s *Server, mux *http.ServeMux, pattern string,
	do func(ctx context.Context, uid uint32, in In) (Out, error),
) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(work, s.cfg.Timeout)
		defer cancel()
		var in In
		var out Out
		err := question(w, r, &in)
		uid, known := r.Context().Value(peerKey{}).(uint32)
		if err == nil && !known {
			err = fmt.Errorf("%w: nobody knows who asks", errForbidden)
		}
		if err == nil {
			out, err = do(ctx, uid, in)
		}
		if err != nil && errors.Is(context.Cause(ctx), errClosing) {
			err = fmt.Errorf("%w: %w", errClosing, err)
		}
		reply(w, out, err)
	})
}

func question(w http.ResponseWriter, r *http.Request, in any) error {
	if r.Method == http.MethodGet {
		return nil
	}
	return readBody(w, r, in)
}

// with converts what the desk returned, also beside an error; the desk's own error tells more than one of the conversion.
func with[A, B any](a A, err error, encode func(A) (B, error)) (B, error) {
	b, eerr := encode(a)
	if err == nil {
		err = eerr
	}
	return b, err
}

func withEach[A, B any](list []A, err error, encode func(A) (B, error)) ([]B, error) {
	return with(list, err, func(list []A) ([]B, error) { return each(list, encode) })
}

func (v verification) decode() (*bridge.Anchor, error) {
	if v.Known == nil {
		return nil, nil //nolint:nilnil // no anchor is known
	}
	a, err := v.Known.decode()
	if err != nil {
		return nil, fmt.Errorf("%w: known: %w", errInvalid, err)
	}
	return &a, nil
}
