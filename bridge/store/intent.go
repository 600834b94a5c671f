package store

import (
	"crypto/sha256"
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

const selectTaken = `SELECT max(intent_second) FROM orders WHERE intent_key = ? AND intent_second > ? AND intent_second < ? AND seq <> ?`

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
		row, err := t.first(selectTaken, r.key, nanos(in.Second.Add(-intentStep)), nanos(in.Second.Add(intentStep)), r.seq)
		if err != nil {
			return run, err
		}
		if row == nil || row[0] == nil {
			run.to = in.Second
			return run, nil
		}
		in.Second = asTime(row[0]).Add(intentStep)
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
