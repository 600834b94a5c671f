package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"
)

// Serve answers until ctx ends. Then no new connection is taken and what waits to be handed over is answered 503, what is still
// on its way is cut off; what the bridge has in hand gets 10 s to be settled, and is answered 503 after that. It returns nil after such an end, and may be
// called once, after Listen.
func (i *Ingress) Serve(ctx context.Context) error {
	i.mu.Lock()
	listener, served := i.listener, i.served
	i.served = listener != nil
	i.mu.Unlock()
	if listener == nil || served {
		return errors.New("http: call Listen before Serve, and Serve once")
	}
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	shut := sync.OnceFunc(func() {
		i.serving.Store(false)
		close(i.closing)
	})
	give := sync.OnceFunc(func() {
		close(i.abandon)
		stop(errClosing)
	})
	defer give()
	defer shut()
	i.serving.Store(true)
	i.readying.Do(func() { close(i.ready) })
	err := serve(ctx, i.server(work), i.limited(listener), lifecycle{
		close: func() error {
			shut()
			err := i.Close()
			i.conns.closeUnread()
			return err
		},
		abandon: give, drain: i.drain, log: i.log,
	})
	if err != nil {
		return fmt.Errorf("http: %w", err)
	}
	return nil
}

func (i *Ingress) server(work context.Context) *http.Server {
	l := i.cfg.Limits
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // of HTTP/2 the limits would have to know every stream
	return &http.Server{
		Handler: http.HandlerFunc(i.handle), MaxHeaderBytes: l.Header, Protocols: protocols, DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout: l.HeaderTimeout, ReadTimeout: l.HeaderTimeout + l.BodyTimeout, IdleTimeout: l.Idle,
		WriteTimeout: l.BodyTimeout + l.Answer + failingDelay + answerTimeout,
		ErrorLog:     log.New(i.refusals, "", 0),
		BaseContext:  func(net.Listener) context.Context { return work },
		ConnContext:  withIngressConn,
		ConnState:    i.conns.follow,
	}
}

func (i *Ingress) limited(listener net.Listener) net.Listener {
	i.conns.evicted = func() {
		i.cfg.Meter.Refused("", RefusedConn)
		i.refusals.refused("", RefusedConn, "", errNoPlace)
	}
	limited := &ingressListener{Listener: listener, conns: i.conns, plain: i.tls == nil}
	if i.tls == nil {
		return limited
	}
	return tls.NewListener(limited, i.tls.listenerConfig())
}

var errNoPlace = errors.New("there are as many connections as allowed (http.limits.conns): one was closed")
