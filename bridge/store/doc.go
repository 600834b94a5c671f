// Package store is the durable state of the bridge: one SQLite file with the alerts, orders, dedupe windows, leases, dead letters,
// the hold and an audit chain whose records are committed in the same transaction as the changes they describe.
//
// One goroutine writes and commits what callers hand it in groups, synced before they are answered; reads go over
// a few connections of their own. It also asks the bridge.Ledger, inside the transaction that admits or moves an order.
// Several processes may use the same file at once: what the writer remembers between transactions it forgets when
// another process has committed. The package is the only one that speaks SQL.
package store
