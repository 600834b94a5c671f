// Package store is the durable state of the bridge: one SQLite file with the alerts, orders, dedupe windows,
// the hold and an audit chain whose records are committed in the same transaction as the changes they describe.
//
// One goroutine writes and commits what callers hand it in groups, synced before they are answered; reads go over
// a few connections of their own. Several processes may use the same file at once: nothing a decision
// rests on is remembered between transactions. The package is the only one that speaks SQL.
package store
