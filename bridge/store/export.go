package store

import (
	"context"
	"database/sql/driver"
	"errors"
)

// exportPage is how many records are read at once, so that no read lasts long enough to keep the log from being cut.
const exportPage = 512

// ExportAudit calls fn with every record after a Seq, oldest first, until the end of the chain or an error of fn, which it returns
// as it is. It reads in pages: memory stays small, the writer goes on, and records that are written meanwhile come too. fn
// runs outside of any lock of the store.
func (s *Store) ExportAudit(ctx context.Context, after int64, fn func(AuditRecord) error) error {
	var page []AuditRecord
	for {
		page = page[:0]
		rerr := s.read(ctx, func(c *conn) error {
			var err error
			page, err = c.auditPage(ctx, after, page)
			return err
		})
		for _, r := range page {
			if err := fn(r); err != nil {
				return err
			}
			after = r.Seq
		}
		if rerr != nil || len(page) < exportPage {
			return rerr
		}
	}
}

// auditPage reads the next records. With an error comes what could be read before it.
func (c *conn) auditPage(ctx context.Context, after int64, page []AuditRecord) ([]AuditRecord, error) {
	err := c.each(ctx, selectAudit+` WHERE seq > ? ORDER BY seq LIMIT ?`, []driver.Value{after, int64(exportPage)},
		func(row []driver.Value) (bool, error) {
			page = append(page, scanAudit(row))
			return true, nil
		})
	for i := range page {
		if lerr := c.link(ctx, page, i); lerr != nil {
			return page[:i], errors.Join(err, lerr)
		}
	}
	return page, err
}
