package store

import (
	"database/sql/driver"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	insertFact  = `INSERT INTO facts (what, key, order_id, task, source, rule, at, until) VALUES (?,?,?,?,?,?,?,?)`
	selectFacts = `SELECT what, key, order_id, task, source, rule, at, until FROM facts WHERE until > ? ORDER BY seq`
	dropFacts   = `DELETE FROM facts WHERE order_id = ? AND what = ?`
	isDroppable = ` AND what IN ('charge', 'flip')` // as in the index
	deleteFacts = `DELETE FROM facts WHERE until <= ?`
	selectAtKSC = `SELECT id, coalesce(intent_target, host) FROM orders INDEXED BY orders_state WHERE state IN ('sending', 'accepted', 'running') AND executor = 'ksc'`
	// leastPrune is how many facts are written at least before those that may be forgotten are deleted.
	leastPrune = 1024
)

// memory is what the writer keeps of the tables between transactions. It is good as long as nobody else commits.
type memory struct {
	ledger *bridge.Ledger // nil = not loaded
	hold   *bridge.Hold   // nil = not read
	facts  int            // written since facts were deleted last
	prune  int            // how many may be written before the next time
}

// forget throws away what the writer keeps of the tables.
func (w *writer) forget() { w.memory.ledger, w.memory.hold = nil, nil }

// ledger returns the ledger as the tables have it. The transaction counts as having changed it from then on.
func (t *tx) ledger() (*bridge.Ledger, error) {
	t.touched = true
	m := &t.w.memory
	if m.ledger == nil {
		l, err := t.loadLedger()
		if err != nil {
			return nil, err
		}
		m.ledger = l
	}
	if m.facts >= max(m.prune, leastPrune) {
		return m.ledger, t.pruneFacts()
	}
	return m.ledger, nil
}

func (t *tx) loadLedger() (*bridge.Ledger, error) {
	policy := t.w.store.cfg.Policy
	l := bridge.NewLedger(policy)
	hold, err := t.hold()
	if err != nil {
		return nil, err
	}
	resumed, err := t.resumed()
	if err != nil {
		return nil, err
	}
	l.Restore(hold, resumed)
	if err := t.each(selectFacts, []driver.Value{nanos(t.now)}, func(row []driver.Value) error {
		l.RestoreFact(bridge.Fact{
			What: bridge.FactKind(asText(row[0])), Key: asText(row[1]), Order: asText(row[2]), Task: bridge.Kind(asText(row[3])),
			Source: asText(row[4]), Rule: asText(row[5]), At: asTime(row[6]), Until: asTime(row[7]),
		})
		return nil
	}); err != nil {
		return nil, err
	}
	if err := t.each(selectLease+` WHERE open IS NOT NULL ORDER BY seq`, nil, func(row []driver.Value) error {
		l.RestoreLease(scanLease(row))
		return nil
	}); err != nil {
		return nil, err
	}
	if policy.CountsLive() {
		err = t.each(selectAtKSC, nil, func(row []driver.Value) error {
			l.RestoreLive(asText(row[0]), asText(row[1]))
			return nil
		})
	}
	return l, err
}

// pruneFacts deletes what may be forgotten. The more remains, the longer it waits for the next time, so that the whole costs
// little for each fact.
func (t *tx) pruneFacts() error {
	m := &t.w.memory
	if _, err := t.run(deleteFacts, nanos(t.now)); err != nil {
		return err
	}
	row, err := t.first(`SELECT count(*) FROM facts`)
	if err != nil {
		return err
	}
	m.facts, m.prune = 0, int(asInt(row[0]))
	m.ledger.Prune(t.now)
	return nil
}

// AddFact implements bridge.Journal.
func (t *tx) AddFact(f bridge.Fact) error {
	t.w.memory.facts++
	_, err := t.run(insertFact, string(f.What), text(f.Key), f.Order, text(f.Task), text(f.Source), text(f.Rule), nanos(f.At), nanos(f.Until))
	return err
}

// DropFacts implements bridge.Journal.
func (t *tx) DropFacts(order string, what bridge.FactKind) error {
	sql := dropFacts
	if what == bridge.FactCharge || what == bridge.FactFlip {
		sql += isDroppable
	}
	_, err := t.run(sql, order, string(what))
	return err
}

// Latch implements bridge.Journal.
func (t *tx) Latch(h bridge.Hold) error { return t.setHold(h) }

// Record implements bridge.Journal.
func (t *tx) Record(n bridge.Note) error {
	t.note(n)
	return nil
}
