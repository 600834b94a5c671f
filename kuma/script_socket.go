package kuma

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/kuma/callout"
	"github.com/edr-bridge/edr-bridge/peersocket"
)

const (
	scriptMaxConns   = 128
	scriptMaxHeader  = 4 << 10
	scriptSmall      = 256 << 10 // bytes; of larger calls only a few are read at once
	scriptMaxLarge   = 4
	scriptReadHeader = 2 * time.Second
	scriptReadCall   = 5 * time.Second
)

// serveSocket answers on the socket until ctx ends.
func (s *Script) serveSocket(ctx context.Context, stands func()) error {
	listener, err := peersocket.Listen(ctx, s.cfg.Socket, s.cfg.Group, nil)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	h := &scriptHandler{s: s, large: make(chan struct{}, scriptMaxLarge)}
	mux.HandleFunc("POST "+callout.RequestPath, h.call)
	work, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	server := &http.Server{
		Handler: mux, MaxHeaderBytes: scriptMaxHeader, ReadHeaderTimeout: scriptReadHeader, ReadTimeout: scriptReadCall,
		WriteTimeout: scriptReadCall + scriptAnswer + time.Second, ErrorLog: scriptQuiet(),
		BaseContext: func(net.Listener) context.Context { return work },
		ConnContext: scriptWithPeer,
	}
	server.SetKeepAlivesEnabled(false)
	var serving sync.WaitGroup
	failed := make(chan error, 1)
	serving.Go(func() {
		failed <- server.Serve(&scriptListener{Listener: listener, slots: make(chan struct{}, scriptMaxConns)})
	})
	defer serving.Wait()
	stands()
	select {
	case err = <-failed:
		return errors.Join(err, listener.Close())
	case <-ctx.Done():
	}
	err = listener.Close()
	abandon() // those who wait for an answer learn at once that there will be none
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), scriptReadHeader)
	defer cancel()
	if serr := server.Shutdown(closing); serr != nil {
		_ = server.Close() // a caller that does not read
	}
	return err
}

// scriptHandler takes calls.
type scriptHandler struct {
	s     *Script
	large chan struct{}
}

func (h *scriptHandler) call(w http.ResponseWriter, r *http.Request) {
	uid, known := r.Context().Value(scriptPeerKey{}).(uint32)
	callers := h.s.cfg.Callers
	switch {
	case !known, callers != nil && uid != 0 && !slices.Contains(callers, uid):
		scriptAnswerWith(w, http.StatusForbidden, callout.Answer{Problem: "this user may not call"})
		return
	case r.Header.Get("Content-Encoding") != "":
		scriptAnswerWith(w, http.StatusUnsupportedMediaType, callout.Answer{Problem: "no content encoding is taken"})
		return
	case r.ContentLength < 0:
		scriptAnswerWith(w, http.StatusLengthRequired, callout.Answer{Problem: "the length of the call is required"})
		return
	case r.ContentLength > callout.MaxCallBytes:
		scriptAnswerWith(w, http.StatusRequestEntityTooLarge, callout.Answer{Problem: "the call is too large"})
		return
	case r.ContentLength > scriptSmall:
		select {
		case h.large <- struct{}{}:
			defer func() { <-h.large }()
		default:
			scriptAnswerWith(w, http.StatusServiceUnavailable, callout.Answer{Problem: "too many large calls at once"})
			return
		}
	}
	doc, err := io.ReadAll(http.MaxBytesReader(w, r.Body, callout.MaxCallBytes))
	if err != nil {
		scriptAnswerWith(w, http.StatusBadRequest, callout.Answer{Problem: "the call did not come whole"})
		return
	}
	call, err := callout.DecodeCall(doc)
	switch {
	case err != nil:
		scriptAnswerWith(w, http.StatusBadRequest, callout.Answer{Problem: err.Error()})
	case call.EventID != "" && call.Event == nil:
		scriptAnswerWith(w, http.StatusUnprocessableEntity, callout.Answer{ID: call.ID, Problem: "a call with an event id goes through the spool directory"})
	default:
		status, answer := h.s.pass(r.Context(), call, doc)
		scriptAnswerWith(w, status, answer)
	}
}

// pass hands a call over and waits for what becomes of it, at most scriptAnswer.
func (s *Script) pass(ctx context.Context, call callout.Call, doc []byte) (int, callout.Answer) {
	ctx, cancel := context.WithTimeout(ctx, scriptAnswer)
	defer cancel()
	answer := callout.Answer{ID: call.ID}
	settled := make(chan error, 1)
	var once sync.Once
	d := bridge.Delivery{
		Alert: s.alert(call.ID, doc),
		Settle: func(_ context.Context, err error) error {
			late := errScriptSettled
			once.Do(func() { settled <- err; late = nil })
			return late
		},
	}
	select {
	case s.out <- d:
	case <-s.closing:
		answer.Problem = "the bridge stops"
		return http.StatusServiceUnavailable, answer
	case <-ctx.Done():
		answer.Problem = "the bridge is busy"
		return http.StatusServiceUnavailable, answer
	}
	var err error
	select {
	case err = <-settled:
	case <-s.closing:
		err = errors.New("the bridge stops")
	case <-ctx.Done():
		err = errors.New("the bridge is busy")
	}
	switch {
	case errors.Is(err, bridge.ErrBadAlert):
		answer.Problem = err.Error()
		return http.StatusUnprocessableEntity, answer
	case err != nil:
		answer.Problem = err.Error()
		return http.StatusServiceUnavailable, answer
	default:
		s.standing(ctx, &answer)
		return http.StatusOK, answer
	}
}

// standing fills in how the orders of a stored call stand.
func (s *Script) standing(ctx context.Context, answer *callout.Answer) {
	answer.State = callout.CallStored
	if s.cfg.Orders == nil {
		return
	}
	orders, err := s.cfg.Orders(ctx, s.cfg.Name, answer.ID)
	switch {
	case err != nil:
		s.cfg.Logger.Warn("orders of a call could not be read", "source_name", s.cfg.Name, "alert", answer.ID, "err", err)
		answer.Detail = "how its orders stand cannot be told"
	case len(orders) == 0:
		answer.State, answer.Detail = callout.CallNone, "no order came of it"
	default:
		o := orders[0]
		answer.State, answer.Order, answer.Covers, answer.Reason, answer.Detail = string(o.State), o.ID, o.Covers, string(o.Reason), o.Detail
		if len(orders) > 1 {
			answer.Detail = strings.TrimSpace("the first of several orders. " + answer.Detail)
		}
	}
}

// scriptAnswerWith writes one line. The caller may be gone.
func scriptAnswerWith(w http.ResponseWriter, status int, answer callout.Answer) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(answer.Line())
}
