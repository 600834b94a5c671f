package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// maxLockWait is how long the writer waits for another process' transaction before its callers get an error.
const maxLockWait = 5 * time.Second

// tx is one write transaction and what was read at its start: the ends of the tables and of the chain.
// Another process may have written since the last one, so nothing of it is kept; when one has, what the writer
// keeps of the tables is thrown away.
type tx struct {
	ctx  context.Context //nolint:containedctx // lives exactly as long as the transaction
	conn *conn
	w    *writer
	now  time.Time

	lastAlert, lastOrder, lastAudit int64
	head                            [32]byte

	mark   clockMark // how the clocks stand
	marked bool      // the mark is in the settings

	touched bool         // what the writer keeps of the tables may hold changes of this transaction
	held    *bridge.Hold // the hold as the transaction leaves it, when it changes it
}

func beginTx(ctx context.Context, w *writer) (*tx, error) {
	clear(w.records)
	w.records = w.records[:0]
	t := &tx{ctx: ctx, conn: w.conn, w: w, now: w.store.now()}
	if err := t.begin(); err != nil {
		return nil, err
	}
	err := t.ends()
	if err == nil && t.lastAudit != w.lastAudit {
		w.forget()
	}
	if err == nil {
		err = t.checkClock()
	}
	if err != nil {
		return nil, t.end(err)
	}
	return t, nil
}

// ends reads the ends of the tables and of the chain.
func (t *tx) ends() error {
	row, err := t.first(`SELECT (SELECT max(seq) FROM alerts), (SELECT max(seq) FROM orders), seq, hash, keyed
		FROM (SELECT max(seq) AS top FROM audit) LEFT JOIN audit ON seq = top`)
	if err != nil {
		return err
	}
	if row == nil {
		return errors.New("read the ends of the tables: no row")
	}
	t.lastAlert, t.lastOrder, t.lastAudit = asInt(row[0]), asInt(row[1]), asInt(row[2])
	copy(t.head[:], asBytes(row[3]))
	if asInt(row[4]) != 0 && !t.w.seal.keyed() {
		return fmt.Errorf("%w since this store was opened: give the key (audit.key)", ErrNoKey)
	}
	return nil
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
		bridge.CrashPoint(bridge.CrashBeforeTx)
		if _, err = t.run("COMMIT"); err == nil {
			t.committed()
			return nil
		}
	}
	if t.touched {
		t.w.forget()
	}
	// SQLite has rolled back by itself after some errors; a second rollback then fails and means nothing.
	_, _ = t.run("ROLLBACK")
	return err
}

func (t *tx) committed() {
	bridge.CrashPoint(bridge.CrashAfterTx)
	t.w.lastAudit = t.lastAudit
	t.w.clock.remember(t)
	t.w.lastOrder = t.lastOrder
	if on := t.w.store.cfg.OnHold; on != nil && t.held != nil {
		on(*t.held)
	}
}

func (t *tx) run(sql string, args ...driver.Value) (int64, error) {
	return t.conn.run(t.ctx, sql, args...)
}

func (t *tx) first(sql string, args ...driver.Value) ([]driver.Value, error) {
	return t.conn.first(t.ctx, sql, args...)
}

// each calls fn with each row of a query. The row is valid until fn returns.
func (t *tx) each(sql string, args []driver.Value, fn func(row []driver.Value) error) error {
	return t.conn.each(t.ctx, sql, args, func(row []driver.Value) (bool, error) { return true, fn(row) })
}
