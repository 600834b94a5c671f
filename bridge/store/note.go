package store

import (
	"context"
	"errors"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	settingPosition = "position/"
	selectSetting   = `SELECT value FROM settings WHERE name = ?`
	upsertSetting   = `INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`
)

// Note implements bridge.Store.
func (s *Store) Note(ctx context.Context, n bridge.Note) error {
	if n.What == "" {
		return errors.New("note: says not what")
	}
	return s.do(ctx, func(t *tx) error {
		t.note(n)
		return nil
	})
}

func (t *tx) note(n bridge.Note) {
	t.audit(AuditRecord{What: n.What, Source: n.Source, Actor: n.Actor, Count: n.Count, Detail: cut(n.Detail)})
}

// Changed returns a number that differs from the one before when another process or another Store committed
// something in between; commits of this store do not change it. It costs some microseconds and
// waits in line with the writes.
func (s *Store) Changed(ctx context.Context) (uint64, error) {
	var version uint64
	err := s.do(ctx, func(t *tx) error {
		row, err := t.first("PRAGMA data_version")
		if row != nil {
			version = uint64(asInt(row[0])) //nolint:gosec // compared, not counted
		}
		return err
	})
	return version, err
}

// SourcePosition returns what SetSourcePosition kept for the source; empty when there is nothing.
func (s *Store) SourcePosition(ctx context.Context, name string) (string, error) {
	return s.setting(ctx, settingPosition+name)
}

// SetSourcePosition keeps where a source stands, such as the id of the last stream entry. It has no audit record.
func (s *Store) SetSourcePosition(ctx context.Context, name, id string) error {
	return s.do(ctx, func(t *tx) error {
		_, err := t.run(upsertSetting, settingPosition+name, id)
		return err
	})
}

func (s *Store) setting(ctx context.Context, name string) (string, error) {
	var value string
	err := s.read(ctx, func(c *conn) error {
		row, err := c.first(ctx, selectSetting, name)
		if row != nil {
			value = asText(row[0])
		}
		return err
	})
	return value, err
}
