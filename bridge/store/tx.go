package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"time"
)

// maxLockWait is how long the writer waits for another process' transaction before its callers get an error.
const maxLockWait = 5 * time.Second

// tx is one write transaction and what was read at its start: the ends of the tables and of the chain.
// Another process may have written since the last one, so nothing of it is kept.
type tx struct {
	ctx  context.Context //nolint:containedctx // lives exactly as long as the transaction
	conn *conn
	w    *writer
	now  time.Time

	lastAlert, lastOrder, lastAudit int64
	head                            [32]byte
}

func beginTx(ctx context.Context, w *writer) (*tx, error) {
	clear(w.records)
	w.records = w.records[:0]
	t := &tx{ctx: ctx, conn: w.conn, w: w, now: w.store.now()}
	if err := t.begin(); err != nil {
		return nil, err
	}
	row, err := t.first(`SELECT (SELECT max(seq) FROM alerts), (SELECT max(seq) FROM orders), seq, hash
		FROM (SELECT max(seq) AS top FROM audit) LEFT JOIN audit ON seq = top`)
	if err == nil && row == nil {
		err = errors.New("read the ends of the tables: no row")
	}
	if err != nil {
		return nil, t.end(err)
	}
	t.lastAlert, t.lastOrder, t.lastAudit = asInt(row[0]), asInt(row[1]), asInt(row[2])
	copy(t.head[:], asBytes(row[3]))
	return t, nil
}

// begin takes the write lock. A process that writes without pause leaves only moments between its transactions: asking every
// millisecond (the busy_timeout of the writer) finds one soon, SQLite's own growing waits may take seconds.
func (t *tx) begin() error {
	for start := time.Now(); ; {
		_, err := t.run("BEGIN IMMEDIATE")
		if resultCode(err) != codeBusy || time.Since(start) > maxLockWait {
			return err
		}
	}
}

// end commits, or rolls back when err is set or the commit fails.
func (t *tx) end(err error) error {
	if err == nil {
		err = t.flushAudit()
	}
	if err == nil {
		if _, err = t.run("COMMIT"); err == nil {
			return nil
		}
	}
	// SQLite has rolled back by itself after some errors; a second rollback then fails and means nothing.
	_, _ = t.run("ROLLBACK")
	return err
}

func (t *tx) run(sql string, args ...driver.Value) (int64, error) {
	return t.conn.run(t.ctx, sql, args...)
}

func (t *tx) first(sql string, args ...driver.Value) ([]driver.Value, error) {
	return t.conn.first(t.ctx, sql, args...)
}
