package redisbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// FieldAlertID is the field of an entry that names the alert for the publisher's own retry.
	FieldAlertID = "alert_id"

	defaultAttempts = 5
	// searchBack is how many of the newest entries are searched for one whose answer was lost, searchSkew how far
	// the clocks of publisher and server may be apart.
	searchBack = 1000
	searchSkew = 10 * time.Second
)

// PublisherConfig says where a Publisher writes.
type PublisherConfig struct {
	Options Options
	// Field is the field of an entry that holds the document; "" = "alert".
	Field string
	// Attempts bounds the tries of one call, 0.1 s to 5 s apart; 0 = 5. The context bounds them too.
	Attempts int
	// Now and Rand are the clock and the source of jitter in [0,1); nil = real.
	Now    func() time.Time
	Rand   func() float64
	Logger *slog.Logger
}

// Publisher writes documents to channels and streams. Its methods may be called by many goroutines at once.
type Publisher struct {
	cfg  PublisherConfig
	conn ackLink
}

// NewPublisher checks the settings; the first call connects.
func NewPublisher(cfg PublisherConfig) (*Publisher, error) {
	errs := []error{cfg.Options.Validate()}
	if cfg.Attempts < 0 {
		errs = append(errs, errors.New("attempts: must not be negative"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("redis publisher: %w", err)
	}
	cfg.Options = cfg.Options.filled()
	cfg.Field = orDefault(cfg.Field, defaultField)
	cfg.Attempts = orDefault(cfg.Attempts, defaultAttempts)
	cfg.Now, cfg.Rand, cfg.Logger = seams(cfg.Now, cfg.Rand, cfg.Logger)
	return &Publisher{cfg: cfg, conn: ackLink{opts: cfg.Options}}, nil
}

// Publish sends doc to a channel and returns how many subscribers of the same server got it; 0 means that nobody did.
// It tries again only while the message certainly did not go out, because a channel cannot tell two copies apart.
// Errors wrap ErrCredentials or bridge.ErrNotConnected where they apply.
func (p *Publisher) Publish(ctx context.Context, channel string, doc []byte) (int64, error) {
	if len(doc) > maxDocument {
		return 0, errTooLarge(doc)
	}
	var receivers int64
	err := p.try(ctx, func(l *link, _ bool) error {
		var err error
		receivers, err = l.client.Publish(ctx, channel, doc).Result()
		return err
	}, false)
	if err != nil {
		return 0, fmt.Errorf("publish to %s: %w", channel, explain(err))
	}
	return receivers, nil
}

// Add appends doc to a stream under alertID and returns the id of the entry. After a lost answer it looks for an
// entry with the same alertID among the newest before it tries again, so that one call leaves one entry; where the
// user may not read the stream, a second entry is possible and the reader's dedupe covers it. An empty alertID
// allows no second try once the entry may be out.
func (p *Publisher) Add(ctx context.Context, stream string, doc []byte, alertID string) (string, error) {
	if len(doc) > maxDocument {
		return "", errTooLarge(doc)
	}
	began := p.cfg.Now()
	var id string
	err := p.try(ctx, func(l *link, unsure bool) error {
		var err error
		if unsure {
			if id, err = p.find(ctx, l, stream, alertID, began); err != nil || id != "" {
				return err
			}
		}
		id, err = p.add(ctx, l, stream, doc, alertID)
		return err
	}, alertID != "")
	if err != nil {
		return "", fmt.Errorf("add to %s: %w", stream, explain(err))
	}
	return id, nil
}

// Close drops the connections; later calls answer bridge.ErrClosed.
func (p *Publisher) Close() error {
	p.conn.close()
	return nil
}

// try calls f until it works, until the error is final or until tries and context are used up. Once an outcome is
// unsure it goes on only when findable is set, and tells f.
func (p *Publisher) try(ctx context.Context, f func(l *link, unsure bool) error, findable bool) error {
	back := newBackoff(p.cfg.Rand)
	unsure := false
	for attempt := 1; ; attempt++ {
		l, err := p.conn.get(ctx)
		if err != nil {
			return err
		}
		if err = l.refuseOpenBefore(ctx); err == nil {
			if err = f(l, unsure); err == nil {
				return nil
			}
			switch {
			case neverSent(err):
			case isReply(err):
				return err // refused by the server for good
			default:
				unsure = true
			}
		} else if errors.Is(err, ErrOpenServer) || isReply(err) {
			return err
		}
		p.conn.reset(l)
		if (unsure && !findable) || attempt >= p.cfg.Attempts {
			return err
		}
		if !pause(ctx, back.next()) {
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

func (p *Publisher) add(ctx context.Context, l *link, stream string, doc []byte, alertID string) (string, error) {
	args := []any{"XADD", stream, "*", p.cfg.Field, doc}
	if alertID != "" {
		args = append(args, FieldAlertID, alertID)
	}
	cmd := once{redis.NewStringCmd(ctx, args...)}
	if err := l.client.Process(ctx, cmd); err != nil {
		return "", err
	}
	return cmd.Val(), nil
}

// find looks for the entry among the newest; "" when it is not there or may not be looked for.
func (p *Publisher) find(ctx context.Context, l *link, stream, alertID string, since time.Time) (string, error) {
	oldest := strconv.FormatInt(max(since.Add(-searchSkew).UnixMilli(), 0), 10)
	list, err := l.client.XRevRangeN(ctx, stream, "+", oldest, searchBack).Result()
	if isReply(err) {
		return "", nil
	}
	for _, m := range list {
		if m.Values[FieldAlertID] == alertID {
			return m.ID, nil
		}
	}
	return "", err
}

// once is a call no layer of the client may repeat by itself: a cluster client repeats others after a
// lost answer, whatever its retry setting is.
type once struct{ *redis.StringCmd }

// NoRetry forbids repetition.
func (once) NoRetry() bool { return true }

func errTooLarge(doc []byte) error {
	return fmt.Errorf("document of %d bytes is larger than 1 MiB: send it in parts or leave out what no rule reads", len(doc))
}
