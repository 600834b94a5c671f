package store

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// plan is what goes into an archive.
type plan struct {
	from   head // the last record archived before
	report ArchiveReport
	mark   archivingJSON
	stays  map[string]string // ids of orders that are needed, and what for
	orders bits              // seq of those in the archive
	alerts bits
}

// needed returns the ids of orders that stay although they have ended, and why.
func (c *conn) needed(ctx context.Context, now time.Time) (map[string]string, error) {
	out := make(map[string]string)
	for _, q := range []struct {
		why, sql string
		args     []driver.Value
	}{
		{"a lease rests on it", `SELECT order_id, effect, renewing, ended_by FROM leases WHERE open IS NOT NULL`, nil},
		{"a guard counts it", `SELECT order_id FROM facts WHERE until > ?`, []driver.Value{nanos(now)}},
		{"it covers others in an open window", `SELECT covers FROM orders INDEXED BY orders_dedupe WHERE dedupe_until > ? AND covers IS NOT NULL`, []driver.Value{nanos(now)}},
		// The next order would get its number.
		{"it is the last one", `SELECT id FROM orders WHERE seq = (SELECT max(seq) FROM orders)`, nil},
	} {
		if err := c.each(ctx, q.sql, q.args, func(row []driver.Value) (bool, error) {
			for _, id := range row {
				if id != nil {
					out[asText(id)] = q.why
				}
			}
			return true, nil
		}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

const selectFate = `SELECT seq, state, dedupe_until, trail, alert FROM orders WHERE id = ?`

// fate says what becomes of an order with one of its records.
type fate struct {
	seq, alert int64
	stays      string // why; empty = it may go
	ends       bool   // the record is its last one: the order goes with it
}

// fateOf looks up the order of a record.
func (c *conn) fateOf(ctx context.Context, r *AuditRecord, p *plan, now time.Time) (fate, error) {
	row, err := c.first(ctx, selectFate, r.Order)
	if err != nil {
		return fate{}, err
	}
	if row == nil {
		return fate{}, fmt.Errorf("%w: audit record %d is about order %s, which is not there", ErrDamaged, r.Seq, r.Order)
	}
	f := fate{seq: asInt(row[0]), alert: asInt(row[4])}
	trail := asText(row[3])
	last := trail[strings.LastIndexByte(trail, ',')+1:]
	f.ends = last == strconv.FormatInt(r.Seq, 10)
	switch state := bridge.State(asText(row[1])); {
	case !state.End():
		f.stays = "it is " + string(state)
	case asInt(row[2]) > now.UnixNano():
		f.stays = "its window is open"
	default:
		f.stays = p.stays[r.Order]
	}
	return f, nil
}

// lastFreeAlert returns up to which seq no order needs the documents once those of the plan are gone.
func (c *conn) lastFreeAlert(ctx context.Context, p *plan) (int64, error) {
	row, err := c.first(ctx, `SELECT max(seq) FROM alerts`)
	if err != nil || row == nil {
		return 0, err
	}
	free := asInt(row[0]) - 1 // the next document would get the number of the last one
	err = c.each(ctx, `SELECT seq, alert FROM orders WHERE alert IS NOT NULL ORDER BY seq`, nil, func(row []driver.Value) (bool, error) {
		if p.orders.has(asInt(row[0])) {
			return true, nil
		}
		free = min(free, asInt(row[1])-1)
		return false, nil
	})
	return free, err
}

// wholeDeliveries returns the greatest seq up to a given one that leaves no alert whose document is held by one before it.
// Alerts of one delivery lie together.
func (c *conn) wholeDeliveries(ctx context.Context, until int64) (int64, error) {
	for {
		row, err := c.first(ctx, `SELECT min(raw_of) FROM (SELECT raw_of FROM alerts WHERE seq > ? ORDER BY seq LIMIT 4096)`, until)
		if err != nil || row == nil || row[0] == nil || asInt(row[0]) > until {
			return until, err
		}
		until = asInt(row[0]) - 1
	}
}

// bits is a set of places that lie close together.
type bits struct {
	base  int64
	words []uint64
}

func (b *bits) has(n int64) bool {
	i := (n - b.base) / 64
	return n >= b.base && i < int64(len(b.words)) && b.words[i]&(1<<((n-b.base)%64)) != 0
}

func (b *bits) add(n int64) {
	if b.words == nil {
		b.base = n &^ 63
	}
	for n < b.base {
		// Rare: places mostly come in order.
		b.words = append(make([]uint64, 64), b.words...)
		b.base -= 64 * 64
	}
	for (n-b.base)/64 >= int64(len(b.words)) {
		b.words = append(b.words, 0)
	}
	b.words[(n-b.base)/64] |= 1 << ((n - b.base) % 64)
}
