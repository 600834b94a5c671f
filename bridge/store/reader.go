package store

import (
	"context"
	"errors"
	"fmt"
)

// maxReaderStatements bounds what a read-only connection keeps prepared: filters come in many shapes.
const maxReaderStatements = 32

// read lends one of the read-only connections to fn; it is opened at its first use.
func (s *Store) read(ctx context.Context, fn func(c *conn) error) error {
	select {
	case <-s.stop:
		return ErrClosed
	default:
	}
	var c *conn
	select {
	case c = <-s.readers:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.stop:
		return ErrClosed
	}
	defer func() { s.readers <- c }()
	if c == nil {
		opened, err := openConn(ctx, s.path, true)
		if err != nil {
			return fmt.Errorf("read store %s: %w", s.path, err)
		}
		c = opened
	}
	err := fn(c)
	if needsReopen(err) || len(c.stmts) > maxReaderStatements {
		err = errors.Join(err, c.close())
		c = nil
	}
	if err != nil && ctx.Err() != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	return err
}
