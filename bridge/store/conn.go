package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"

	"modernc.org/sqlite"
)

// busyTimeout is how long opening, migrating and reading wait for another process' lock, in milliseconds.
const busyTimeout = "5000"

// conn is one connection with its prepared statements. It is used by one goroutine at a time.
// The driver is called directly: the pool of database/sql costs more than the short statements of this package.
type conn struct {
	raw   driver.Conn
	stmts map[string]*stmt
}

// stmt is a prepared statement with a reusable list of its arguments.
type stmt struct {
	exec interface {
		driver.StmtExecContext
		driver.StmtQueryContext
	}
	raw  driver.Stmt
	args []driver.NamedValue
	row  []driver.Value
}

// openConn opens path; a read-only connection makes no file and fails on every change.
func openConn(ctx context.Context, path string, readOnly bool) (*conn, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	abs = filepath.ToSlash(abs)
	if !strings.HasPrefix(abs, "/") {
		abs = "/" + abs // a drive letter
	}
	mode := "rw"
	if readOnly {
		mode = "ro"
	}
	dsn := url.URL{Scheme: "file", Path: abs, RawQuery: "mode=" + mode + "&_pragma=busy_timeout(" + busyTimeout + ")"}
	connector, err := sqlite.NewConnector(dsn.String())
	if err != nil {
		return nil, err
	}
	raw, err := connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{raw: raw, stmts: make(map[string]*stmt)}, nil
}

func (c *conn) close() error {
	var errs []error
	for _, s := range c.stmts {
		errs = append(errs, s.raw.Close())
	}
	c.stmts = nil
	return errors.Join(append(errs, c.raw.Close())...)
}

// script runs several statements without arguments.
func (c *conn) script(ctx context.Context, sql string) error {
	ex, ok := c.raw.(driver.ExecerContext)
	if !ok {
		return fmt.Errorf("driver connection %T cannot run statements", c.raw)
	}
	_, err := ex.ExecContext(ctx, sql, nil)
	return err
}

// prepare returns the statement of the text, prepared at its first use.
func (c *conn) prepare(sql string) (*stmt, error) {
	if s, ok := c.stmts[sql]; ok {
		return s, nil
	}
	raw, err := c.raw.Prepare(sql)
	if err != nil {
		return nil, err
	}
	s := &stmt{raw: raw}
	var ok bool
	if s.exec, ok = raw.(interface {
		driver.StmtExecContext
		driver.StmtQueryContext
	}); !ok {
		return nil, errors.Join(fmt.Errorf("driver statement %T takes no context", raw), raw.Close())
	}
	c.stmts[sql] = s
	return s, nil
}

// run executes a statement and returns how many rows it changed.
func (c *conn) run(ctx context.Context, sql string, args ...driver.Value) (int64, error) {
	s, err := c.prepare(sql)
	if err != nil {
		return 0, err
	}
	res, err := s.exec.ExecContext(ctx, s.bind(args))
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// first returns the first row of a query, or nil when there is none. The row is valid until the next call.
func (c *conn) first(ctx context.Context, sql string, args ...driver.Value) ([]driver.Value, error) {
	var row []driver.Value
	err := c.each(ctx, sql, args, func(r []driver.Value) (bool, error) {
		row = r
		return false, nil
	})
	return row, err
}

// each calls fn with each row of a query until fn says false. The row is valid until fn returns.
func (c *conn) each(ctx context.Context, sql string, args []driver.Value, fn func(row []driver.Value) (bool, error)) (err error) {
	s, err := c.prepare(sql)
	if err != nil {
		return err
	}
	rows, err := s.exec.QueryContext(ctx, s.bind(args))
	if err != nil {
		return err
	}
	defer func() {
		if cerr := rows.Close(); err == nil {
			err = cerr
		}
	}()
	if n := len(rows.Columns()); len(s.row) != n {
		s.row = make([]driver.Value, n)
	}
	for {
		if err := rows.Next(s.row); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		more, err := fn(s.row)
		if err != nil || !more {
			return err
		}
	}
}

func (s *stmt) bind(args []driver.Value) []driver.NamedValue {
	if len(s.args) != len(args) {
		s.args = make([]driver.NamedValue, len(args))
	}
	for i, v := range args {
		s.args[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return s.args
}
