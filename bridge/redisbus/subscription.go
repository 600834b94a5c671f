package redisbus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// silenceFactor times Probe without a sign of life is a dead connection.
const silenceFactor = 4

var errSilent = errors.New("no answer: the connection is dead")

// outage is a lost subscription that has not come back.
type outage struct {
	since time.Time
	cause error
}

// session is the life of one subscription, from dialling to its loss. It sets lost when the subscription
// stood, and notes the gap when one before it did.
func (p *PubSub) session(ctx context.Context, lost **outage, back *backoff) error {
	l, err := openLink(ctx, p.cfg.Options, true)
	if err != nil {
		return err
	}
	defer l.close()
	ps := l.client.Subscribe(ctx)
	defer func() { _ = ps.Close() }()
	if err := p.subscribe(ctx, l, ps); err != nil {
		return err
	}
	back.reset()
	if *lost != nil {
		p.stats.gaps.Add(1)
		p.note(bridge.NoteGap, 1, fmt.Sprintf("subscription was down for %s: %v",
			p.cfg.Now().Sub((*lost).since).Round(time.Millisecond), (*lost).cause))
		*lost = nil
	}
	p.health.rise(ctx)
	p.life.Stood()

	if err = p.listen(ctx, ps); ctx.Err() == nil {
		*lost = &outage{since: p.cfg.Now(), cause: err}
	}
	return err
}

// subscribe returns once Redis confirmed the subscription.
func (p *PubSub) subscribe(ctx context.Context, l *link, ps *redis.PubSub) error {
	if err := ps.Subscribe(ctx, p.cfg.Channel); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	reply, err := ps.ReceiveTimeout(ctx, p.cfg.Options.ReadTimeout)
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	if _, ok := reply.(*redis.Subscription); !ok {
		return fmt.Errorf("subscribe: answered by %T", reply)
	}
	return l.refuseOpen(ctx)
}

// listen receives until the connection is lost. Reads carry no deadline: one that struck in the middle of a
// message would leave the rest of it to be read as the next answer. The prober cuts a silent connection instead.
func (p *PubSub) listen(ctx context.Context, ps *redis.PubSub) error {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(ctx, func() { _ = ps.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	p.heard.Store(int64(time.Since(p.began)))
	p.asked.Store(p.heard.Load())
	wg.Go(func() { p.probe(ctx, ps, cancel) })

	for {
		reply, err := ps.ReceiveTimeout(ctx, 0)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
				return fmt.Errorf("closed by redis (restart, CLIENT KILL or client-output-buffer-limit pubsub): %w", err)
			}
			return fmt.Errorf("receive: %w", err)
		}
		p.heard.Store(int64(time.Since(p.began)))
		if m, ok := reply.(*redis.Message); ok {
			p.accept(m)
		}
	}
}

// probe asks for a pong when nothing was heard for Probe, and gives the connection up after four times that.
func (p *PubSub) probe(ctx context.Context, ps *redis.PubSub, giveUp context.CancelCauseFunc) {
	t := time.NewTicker(p.cfg.Probe / 4)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now := time.Since(p.began)
		silence := now - time.Duration(p.heard.Load())
		if silence >= silenceFactor*p.cfg.Probe {
			giveUp(fmt.Errorf("%w for %s", errSilent, silence.Round(time.Millisecond)))
			return
		}
		if silence < p.cfg.Probe || now-time.Duration(p.asked.Load()) < p.cfg.Probe {
			continue
		}
		p.asked.Store(int64(now))
		if err := ps.Ping(ctx); err != nil {
			giveUp(fmt.Errorf("ping: %w", err))
			return
		}
	}
}
