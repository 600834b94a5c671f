package store

import (
	"crypto/sha256"
	"database/sql/driver"
	"encoding/binary"
	"time"
)

// maxSlots bounds the memory of slots.
const maxSlots = 4096

// slots remembers, for a target and body, a run of seconds that are taken in steps of intentStep. It only saves the walk
// over them: a second is free when the file says so, and a run can only grow.
type slots map[int64]slotRun

type slotRun struct{ from, to time.Time }

// intentKey returns the first 64 bits of SHA-256 over target and body digest. Two intents that meet in it
// by chance are only kept apart in time without need.
func intentKey(target string, payload []byte) int64 {
	buf := make([]byte, 0, 128)
	buf = appendField(buf, target)
	buf = append(buf, payload...)
	sum := sha256.Sum256(buf)
	return int64(binary.BigEndian.Uint64(sum[:8])) //nolint:gosec // bits, not a quantity
}

const (
	// intentSpan is the span of time the index orders_intent is ordered by first.
	intentSpan    = 16_000_000_000
	selectTakenIn = `SELECT max(intent_second) FROM orders INDEXED BY orders_intent WHERE intent_second / 16000000000 `
	selectTakenBy = ` AND intent_key = ? AND intent_second > ? AND intent_second < ? AND seq <> ?`
	selectTaken   = selectTakenIn + `= ?` + selectTakenBy
	selectTaken2  = selectTakenIn + `IN (?, ?)` + selectTakenBy
)

// taken returns the last second within intentStep that another order with the same target and body has, or nil.
func (t *tx) taken(r *orderRow, at time.Time) (driver.Value, error) {
	low, _ := nanos(at.Add(-intentStep)).(int64)
	high, _ := nanos(at.Add(intentStep)).(int64)
	sql, args := selectTaken, append(make([]driver.Value, 0, 6), low/intentSpan)
	if low/intentSpan != high/intentSpan {
		sql, args = selectTaken2, append(args, high/intentSpan)
	}
	row, err := t.first(sql, append(args, r.key, low, high, r.seq)...)
	if err != nil || row == nil {
		return nil, err
	}
	return row[0], nil
}

// freeSecond moves Intent.Second on until no other order has the same target and body less than intentStep away,
// and returns what slots may remember once the order is in the file.
func (t *tx) freeSecond(r *orderRow) (slotRun, error) {
	in := &r.order.Intent
	run := slotRun{from: in.Second}
	if !r.hasIntent || in.Second.IsZero() {
		return run, nil
	}
	if old, ok := t.w.slots[r.key]; ok && !in.Second.Before(old.from) && !in.Second.After(old.to) {
		run.from, in.Second = old.from, old.to
	}
	for {
		last, err := t.taken(r, in.Second)
		if err != nil {
			return run, err
		}
		if last == nil {
			run.to = in.Second
			return run, nil
		}
		in.Second = asTime(last).Add(intentStep)
	}
}

// remember keeps a run of more than one second.
func (s *slots) remember(key int64, run slotRun) {
	if !run.to.After(run.from) {
		return
	}
	if *s == nil || len(*s) >= maxSlots {
		*s = make(slots)
	}
	(*s)[key] = run
}
