package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	"modernc.org/sqlite"
)

// Primary result codes of SQLite (sqlite.org/rescode.html).
const (
	codeBusy     = 5
	codeNoMem    = 7
	codeReadOnly = 8
	codeIOErr    = 10
	codeCorrupt  = 11
	codeFull     = 13
	codeCantOpen = 14
	codeProtocol = 15
	codeNotADB   = 26
)

// The life of a request: the writer takes it, or the caller withdraws it.
const (
	requestWaiting = iota
	requestTaken
	requestWithdrawn
)

// request is one caller's change. apply runs inside a transaction, possibly more than once, and leaves what it
// found in variables of the caller; an error it returns as refused has changed nothing.
type request struct {
	apply func(tx *tx) error
	state atomic.Int32
	done  chan error
}

// refusal is an error of a request that left the transaction as it was.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// writer owns the only connection that changes the file.
type writer struct {
	store   *Store
	conn    *conn
	broken  bool // the last commit failed: say so once, and say when it works again
	lastLen int  // requests of the last batch
	slots   slots
	places  map[string]int64 // seq of orders this store has just handled
	seal    *seal
	clock   clocks
	records []driver.Value // audit records of the transaction

	lastOrder int64 // seq of the last order as of the last commit
	hostsDue  int64 // seq of the order from which on the next lists of hosts can be made; 0 = not known

	memory    memory
	lastAudit int64 // seq of the last audit record this writer committed or saw when it did
}

// do hands a change to the writer and waits for its outcome.
func (s *Store) do(ctx context.Context, apply func(tx *tx) error) error {
	r := &request{apply: apply, done: make(chan error, 1)}
	select {
	case <-s.stop:
		return ErrClosed
	default:
	}
	select {
	case s.queue <- r:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.stop:
		return ErrClosed
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		if r.state.CompareAndSwap(requestWaiting, requestWithdrawn) {
			return context.Cause(ctx)
		}
	case <-s.stop:
		// The writer answers what it took and what it finds in the queue; what arrives after that is withdrawn.
		s.writer.Wait()
		if r.state.CompareAndSwap(requestWaiting, requestWithdrawn) {
			return ErrClosed
		}
	}
	return <-r.done
}

// open connects and migrates. A ctx that can end would cost the driver a goroutine a statement.
func (w *writer) open(ctx context.Context, fresh bool) error {
	c, err := openConn(ctx, w.store.path, false)
	if err != nil {
		return err
	}
	from, to, err := migrate(ctx, c)
	if err == nil {
		err = c.script(ctx, "PRAGMA synchronous=FULL; PRAGMA cache_size=-8192; PRAGMA busy_timeout=1; PRAGMA wal_autocheckpoint="+w.logPages())
	}
	if err != nil {
		return errors.Join(err, c.close())
	}
	if from != to && !fresh {
		w.store.log.Info("store migrated", "from", from, "to", to)
	}
	w.conn = c
	return nil
}

// logPages is how many pages the write-ahead log may hold before they are moved into the file. A process that lives for one
// order reads the whole log when it opens the store, so it keeps the log short.
func (w *writer) logPages() string {
	if w.store.cfg.Owner == OwnerRun {
		return "2000"
	}
	return "128"
}

// run commits what callers hand over until the store closes.
func (w *writer) run() {
	batch := make([]*request, 0, w.store.cfg.MaxBatch)
	for {
		select {
		case r := <-w.store.queue:
			batch = w.drain(append(batch[:0], r))
			w.commit(batch)
			w.listHosts()
		case <-w.store.stop:
			for batch = w.drain(batch[:0]); len(batch) > 0; batch = w.drain(batch[:0]) {
				w.commit(batch)
			}
			return
		}
	}
}

// drain adds what waits in the queue and drops what was withdrawn. Callers that were just answered get the chance to come
// back first, for as long as some of them do: small transactions write the same pages more often.
func (w *writer) drain(batch []*request) []*request {
	for before := -1; len(batch) < cap(batch) && len(batch) > before; {
		before = len(batch)
		batch = w.take(batch)
		if w.lastLen > 1 {
			runtime.Gosched()
		}
	}
	w.lastLen = len(batch)
	taken := batch[:0]
	for _, r := range batch {
		if r.state.CompareAndSwap(requestWaiting, requestTaken) {
			taken = append(taken, r)
		}
	}
	return taken
}

// take adds what waits in the queue.
func (w *writer) take(batch []*request) []*request {
	for len(batch) < cap(batch) {
		select {
		case r := <-w.store.queue:
			batch = append(batch, r)
		default:
			return batch
		}
	}
	return batch
}

// commit runs a batch in one transaction and answers its callers. When the batch fails, each request is tried
// alone, so that one bad request does not fail the others; two failures of the disk in a row end that.
func (w *writer) commit(batch []*request) {
	if len(batch) == 0 {
		return
	}
	results := make([]error, len(batch))
	err := w.try(batch, results)
	if err == nil || len(batch) == 1 {
		w.answer(batch, results, err)
		return
	}
	var disk int
	for i := range batch {
		if disk < 2 {
			err = w.try(batch[i:i+1], results[i:i+1])
			if disk++; !isDisk(err) {
				disk = 0
			}
		}
		w.answer(batch[i:i+1], results[i:i+1], err)
	}
}

// try commits the requests in one transaction, or leaves the file as it was and says why.
func (w *writer) try(batch []*request, results []error) error {
	ctx := context.Background() // a transaction that was begun is brought to its end
	if w.conn == nil {
		if err := w.open(ctx, false); err != nil {
			return fmt.Errorf("store: open again: %w", err)
		}
	}
	t, err := beginTx(ctx, w)
	if err == nil {
		for i, r := range batch {
			results[i] = nil
			if err = r.apply(t); err == nil {
				continue
			}
			if ref, ok := errors.AsType[refusal](err); ok {
				results[i], err = ref.error, nil
				continue
			}
			break
		}
		err = t.end(err)
	}
	w.report(err)
	if needsReopen(err) && w.conn != nil {
		// A connection may carry an error of the disk on; a fresh one finds out whether the disk works again.
		_ = w.conn.close() // the error above is the one to report
		w.conn = nil
	}
	return err
}

// answer gives each request its own result, or err to all of them.
func (w *writer) answer(batch []*request, results []error, err error) {
	for i, r := range batch {
		if err != nil {
			results[i] = fmt.Errorf("store: not committed: %w", err)
		}
		r.done <- results[i]
	}
}

// report logs the first failure of the disk and its end.
func (w *writer) report(err error) {
	switch {
	case err != nil && isDisk(err) && !w.broken:
		w.broken = true
		w.store.health.Store(&err)
		if f := w.store.cfg.OnFailure; f != nil {
			f(err)
		}
		w.store.log.Error("store cannot write: nothing is admitted until it can", "err", err)
	case err == nil && w.broken:
		w.broken = false
		w.store.health.Store(nil)
		w.store.log.Info("store writes again")
	}
}

// resultCode returns SQLite's primary result code, 0 when err is not one of its errors.
func resultCode(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code() & 0xff
	}
	return 0
}

// needsReopen reports whether the connection is not to be trusted after err: a lock and a full disk pass by themselves.
func needsReopen(err error) bool {
	code := resultCode(err)
	return isDisk(err) && code != codeBusy && code != codeFull
}

// isDisk reports whether err is about the file or the disk, not about the request.
func isDisk(err error) bool {
	switch resultCode(err) {
	case codeBusy, codeNoMem, codeReadOnly, codeIOErr, codeCorrupt, codeFull, codeCantOpen, codeProtocol, codeNotADB:
		return true
	default:
		return false
	}
}
