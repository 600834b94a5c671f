package store

import (
	"context"
	_ "embed" // the migrations are files
	"fmt"
)

//go:embed migrations/0001_orders.sql
var ordersSQL string

// migrations lists the steps; the number of the last one is PRAGMA user_version of a database that is up to date.
func migrations() []string { return []string{ordersSQL} }

// migrate brings the database to the newest version inside one transaction, so that of two processes that open a
// new store one does it and the other finds it done.
func migrate(ctx context.Context, c *conn) (from, to int, err error) {
	steps := migrations()
	to = len(steps)
	if from, err = userVersion(ctx, c); err != nil || from == to {
		return from, to, err
	}
	if from > to {
		return from, to, fmt.Errorf("written by a later version (schema %d, this program knows %d): use that version", from, to)
	}
	// Both are properties of the file that cannot be changed inside a transaction. Pages of 8 KiB cost a seventh less
	// than those of 4 KiB under load, where every page of the log is written by itself.
	if err := c.script(ctx, "PRAGMA page_size=4096; PRAGMA journal_mode=WAL"); err != nil {
		return from, to, err
	}
	if err := c.script(ctx, "BEGIN IMMEDIATE"); err != nil {
		return from, to, err
	}
	if from, err = userVersion(ctx, c); err == nil {
		for _, step := range steps[min(from, to):] {
			if err = c.script(ctx, step); err != nil {
				break
			}
		}
	}
	if err == nil {
		err = c.script(ctx, "COMMIT")
	}
	if err != nil {
		_ = c.script(ctx, "ROLLBACK") // the first error is the one to report
		return from, to, fmt.Errorf("migrate from schema %d to %d: %w", from, to, err)
	}
	return from, to, nil
}

func userVersion(ctx context.Context, c *conn) (int, error) {
	row, err := c.first(ctx, "PRAGMA user_version")
	if err != nil || row == nil {
		return 0, err
	}
	return int(asInt(row[0])), nil
}
