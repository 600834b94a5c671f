package store

import (
	"context"
	"crypto/sha256"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	insertLetter = `INSERT INTO letters (id, source, entry, document, error, attempts, first, last) VALUES (?,?,?,?,?,1,?,?)`
	// Another attempt answers what a person asked for.
	repeatLetter = `UPDATE letters SET attempts = attempts + 1, last = ?, error = ?, retry = NULL, retry_by = NULL WHERE id = ?`
	selectLetter = `SELECT seq, id, source, entry, document, error, attempts, first, last, retry, retry_by FROM letters`
	deleteLetter = `DELETE FROM letters WHERE id = ?`
	// maxLetterPage is how many bytes of documents end a page of letters.
	maxLetterPage = 16 << 20
)

// Bury implements bridge.Store. Source, Entry, Document and Error of l are kept; an empty ID is filled in, First and Last are the
// moment of the commit. The audit record carries the SHA-256 of the document.
func (s *Store) Bury(ctx context.Context, l bridge.DeadLetter) error {
	if len(l.Document) > maxStored {
		return fmt.Errorf("dead letter: document of %d bytes: at most %d are stored", len(l.Document), maxStored)
	}
	if l.ID == "" {
		l.ID = bridge.LetterID(l.Source, l.Entry, l.Document)
	}
	if l.Error = cut(l.Error); l.Error == "" {
		return errors.New("dead letter: says not what is wrong with it")
	}
	digest := sha256.Sum256(l.Document)
	return s.do(ctx, func(t *tx) error {
		n, err := t.run(repeatLetter, nanos(t.now), l.Error, l.ID)
		if err == nil && n == 0 {
			_, err = t.run(insertLetter, l.ID, text(l.Source), text(l.Entry), blob(l.Document), l.Error, nanos(t.now), nanos(t.now))
		}
		if err != nil {
			return err
		}
		t.audit(AuditRecord{
			What: bridge.NoteDeadLetter, Source: l.Source, Count: 1, Detail: cut("letter " + l.ID + ": " + l.Error), Alert: digest[:],
		})
		return nil
	})
}

// Letters implements bridge.Desk. A page ends early after 16 MiB of documents.
func (s *Store) Letters(ctx context.Context, p bridge.Page) ([]bridge.DeadLetter, bridge.Page, error) {
	var out []bridge.DeadLetter
	var bytes int
	err := s.read(ctx, func(c *conn) error {
		return c.each(ctx, selectLetter+` WHERE seq > ? ORDER BY seq LIMIT ?`, []driver.Value{p.After, int64(clampLimit(p.Limit))},
			func(row []driver.Value) (bool, error) {
				l := scanLetter(row)
				out, p.After = append(out, l), asInt(row[0])
				bytes += len(l.Document)
				return bytes < maxLetterPage, nil
			})
	})
	return out, p, err
}

// Letter implements bridge.Desk.
func (s *Store) Letter(ctx context.Context, id string) (bridge.DeadLetter, error) {
	var found bridge.DeadLetter
	err := s.read(ctx, func(c *conn) (err error) {
		found, err = c.letter(ctx, id)
		return err
	})
	return found, err
}

// letter returns the dead letter whose id is, or begins with, the given text.
func (c *conn) letter(ctx context.Context, id string) (bridge.DeadLetter, error) {
	id, err := c.whole(ctx, "letters", id)
	if err != nil {
		return bridge.DeadLetter{}, fmt.Errorf("dead letter %w", err)
	}
	row, err := c.first(ctx, selectLetter+` WHERE id = ?`, id)
	if err == nil && row == nil {
		err = fmt.Errorf("dead letter %q: %w", id, bridge.ErrNotFound)
	}
	if err != nil {
		return bridge.DeadLetter{}, err
	}
	return scanLetter(row), nil
}

// RetryLetter implements bridge.Desk. The running bridge reads the letter once more, see Retries.
func (s *Store) RetryLetter(ctx context.Context, id, actor string) (bridge.DeadLetter, error) {
	return s.changeLetter(ctx, id, func(t *tx, l *bridge.DeadLetter) error {
		l.Retry, l.By = t.now, actor
		t.note(bridge.Note{What: bridge.NoteRetry, Source: l.Source, Actor: actor, Count: 1, Detail: "letter " + l.ID})
		_, err := t.run(`UPDATE letters SET retry = ?, retry_by = ? WHERE id = ?`, nanos(l.Retry), text(actor), l.ID)
		return err
	})
}

// DropLetter implements bridge.Desk. What is left is the audit record with the SHA-256 of the document.
func (s *Store) DropLetter(ctx context.Context, id, actor, why string) (bridge.DeadLetter, error) {
	return s.changeLetter(ctx, id, func(t *tx, l *bridge.DeadLetter) error {
		digest := sha256.Sum256(l.Document)
		t.audit(AuditRecord{
			What: bridge.NoteDrop, Source: l.Source, Actor: actor, Count: 1, Detail: cut("letter " + l.ID + ": " + why), Alert: digest[:],
		})
		_, err := t.run(deleteLetter, l.ID)
		return err
	})
}

func (s *Store) changeLetter(ctx context.Context, id string, fn func(t *tx, l *bridge.DeadLetter) error) (bridge.DeadLetter, error) {
	var out bridge.DeadLetter
	err := s.do(ctx, func(t *tx) error {
		var err error
		if out, err = t.conn.letter(t.ctx, id); err != nil {
			return refused(err)
		}
		return fn(t, &out)
	})
	if err != nil {
		return bridge.DeadLetter{}, err
	}
	return out, nil
}

// Retries implements bridge.Cabinet. It returns at most 16 MiB of documents at once.
func (s *Store) Retries(ctx context.Context) ([]bridge.DeadLetter, error) {
	var out []bridge.DeadLetter
	var bytes int
	err := s.read(ctx, func(c *conn) error {
		return c.each(ctx, selectLetter+` WHERE retry IS NOT NULL ORDER BY seq LIMIT ?`, []driver.Value{int64(maxLimit)},
			func(row []driver.Value) (bool, error) {
				l := scanLetter(row)
				out = append(out, l)
				bytes += len(l.Document)
				return bytes < maxLetterPage, nil
			})
	})
	return out, err
}

// Unbury implements bridge.Cabinet. A letter that is gone already is no error.
func (s *Store) Unbury(ctx context.Context, id string) error {
	return s.do(ctx, func(t *tx) error {
		_, err := t.run(deleteLetter, id)
		return err
	})
}

func scanLetter(row []driver.Value) bridge.DeadLetter {
	return bridge.DeadLetter{
		ID: asText(row[1]), Source: asText(row[2]), Entry: asText(row[3]), Document: asBytes(row[4]), Error: asText(row[5]),
		Attempts: int(asInt(row[6])), First: asTime(row[7]), Last: asTime(row[8]), Retry: asTime(row[9]), By: asText(row[10]),
	}
}
