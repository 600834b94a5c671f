package redisbus

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// maxListed is how many dead letters one List returns at most.
const maxListed = 1000

// ErrNoLetter is returned for a dead letter that does not exist (any more).
var ErrNoLetter = errors.New("no such dead letter")

// DeadLetter is a document nobody could read, with what is known of it.
type DeadLetter struct {
	// ID names the dead letter, EntryID the entry it was, in Stream.
	ID, EntryID, Stream string
	// Source is the name of the source that refused it.
	Source string
	// Document is the original, or its first 64 KiB when it was larger than 1 MiB.
	Document []byte
	// Error says why, in at most 300 bytes; it may quote the document.
	Error string
	// Attempts is how often it was delivered; 0 when it was refused unseen.
	Attempts int
	// First and Last are when it was first read and finally refused (UTC).
	First, Last time.Time
}

// DeadLetters reads and settles the dead letters of one stream. Its methods may be called by many goroutines at once.
type DeadLetters struct {
	stream, field string
	conn          ackLink
}

// NewDeadLetters checks the settings; stream is the dead-letter stream ("alerts:dead"), field the one Retry puts
// the document in ("" = "alert").
func NewDeadLetters(o Options, stream, field string) (*DeadLetters, error) {
	errs := []error{o.Validate()}
	if stream == "" {
		errs = append(errs, errors.New("stream: required"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("redis dead letters: %w", err)
	}
	return &DeadLetters{stream: stream, field: orDefault(field, defaultField), conn: ackLink{opts: o.filled()}}, nil
}

// List returns up to n dead letters, at most 1000, oldest first, that come after the given id ("" = from the beginning).
func (d *DeadLetters) List(ctx context.Context, after string, n int) ([]DeadLetter, error) {
	start := "-"
	if after != "" {
		if _, err := parseID(after); err != nil {
			return nil, err
		}
		start = "(" + after
	}
	list, err := d.read(ctx, start, "+", min(max(n, 1), maxListed))
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", explain(err))
	}
	return list, nil
}

// Get returns one dead letter, or ErrNoLetter.
func (d *DeadLetters) Get(ctx context.Context, id string) (DeadLetter, error) {
	if _, err := parseID(id); err != nil {
		return DeadLetter{}, err
	}
	list, err := d.read(ctx, id, id, 1)
	if err != nil {
		return DeadLetter{}, fmt.Errorf("read dead letter: %w", explain(err))
	}
	if len(list) == 0 {
		return DeadLetter{}, fmt.Errorf("%w: %s", ErrNoLetter, id)
	}
	return list[0], nil
}

// Retry puts the document back into the stream it came from, under a new entry id, and drops the dead letter. When
// the second step fails the dead letter stays, and another Retry brings the document twice.
func (d *DeadLetters) Retry(ctx context.Context, id string) error {
	letter, err := d.Get(ctx, id)
	if err != nil {
		return err
	}
	if letter.Stream == "" || letter.Stream == d.stream {
		return fmt.Errorf("dead letter %s names no stream to go back to: publish its document by hand", id)
	}
	l, err := d.conn.get(ctx)
	if err != nil {
		return err
	}
	cmd := once{redis.NewStringCmd(ctx, "XADD", letter.Stream, "*", d.field, letter.Document)}
	if err := l.client.Process(ctx, cmd); err != nil {
		return fmt.Errorf("add to %s: %w", letter.Stream, explain(err))
	}
	return d.Drop(ctx, id)
}

// Drop deletes a dead letter, or answers ErrNoLetter. It has no undo.
func (d *DeadLetters) Drop(ctx context.Context, id string) error {
	if _, err := parseID(id); err != nil {
		return err
	}
	l, err := d.conn.get(ctx)
	if err != nil {
		return err
	}
	n, err := l.client.XDel(ctx, d.stream, id).Result()
	if err != nil {
		return fmt.Errorf("drop dead letter: %w", explain(err))
	}
	if n == 0 {
		return fmt.Errorf("%w: %s", ErrNoLetter, id)
	}
	return nil
}

// Close drops the connections.
func (d *DeadLetters) Close() error {
	d.conn.close()
	return nil
}

func (d *DeadLetters) read(ctx context.Context, from, to string, n int) ([]DeadLetter, error) {
	l, err := d.conn.get(ctx)
	if err != nil {
		return nil, err
	}
	list, err := l.client.XRangeN(ctx, d.stream, from, to, int64(n)).Result()
	if err != nil {
		d.conn.reset(l)
		return nil, err
	}
	out := make([]DeadLetter, 0, len(list))
	for _, m := range list {
		out = append(out, parseLetter(m))
	}
	return out, nil
}

// parseLetter reads what it can: whoever may write to the stream can forge a dead letter.
func parseLetter(m redis.XMessage) DeadLetter {
	field := func(name string) string {
		s, _ := m.Values[name].(string)
		return s
	}
	d := DeadLetter{
		ID: m.ID, EntryID: clip(field(letterID)), Stream: field(letterStream), Source: clip(field(letterSource)),
		Error: clip(field(letterError)),
	}
	// What does not parse stays zero: the dead letter must be shown and dropped all the same.
	d.Document, _ = base64.StdEncoding.DecodeString(field(letterDocument))
	d.Attempts, _ = strconv.Atoi(field(letterAttempts))
	d.First, _ = time.Parse(time.RFC3339Nano, field(letterFirst))
	d.Last, _ = time.Parse(time.RFC3339Nano, field(letterLast))
	return d
}
