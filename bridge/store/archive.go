package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// settingArchiving is the archive whose records are being deleted, an archivingJSON.
const settingArchiving = "audit/archiving"

// ArchiveReport is what Archive did.
type ArchiveReport struct {
	// File is the path of the archive; empty = there was nothing to archive.
	File string
	// First and Last are the Seq of its records, Records, Orders and Alerts how many it holds.
	First, Last, Records, Orders, Alerts int64
	// Head is its last record.
	Head Anchor
	// Stays says why the record after the last one stays in the store.
	Stays string
}

// archivingJSON is an archive that was written and verified, and whose content is to be deleted.
type archivingJSON struct {
	File   string `json:"file"` // name in the folder
	SHA256 digits `json:"sha256"`
	First  int64  `json:"first"`
	Last   int64  `json:"last"`
	Alerts int64  `json:"alerts"` // every alert up to this seq may go
}

// ErrArchiving is returned by Archive when another process archives the same store.
var ErrArchiving = errors.New("another process archives this store")

// Archive moves the oldest audit records, with the orders that ended with them and their documents, to the file
// audit-FIRST-LAST.jsonl.gz in dir (made with mode 0700, the file has 0600; see VerifyExport for its form). It
// takes records older than before, and stops at the first one whose order has not ended, whose window is open, or that a lease or
// a guard still needs. Nothing is deleted that is not in a file that was synced, read back and found whole; what is deleted goes in small
// pieces between the admissions. An audit note (NoteArchive) names the file, its SHA-256 and its last record, and the chain goes
// on from that. After a crash at any point the next call carries on; a file that was written and not used yet may then stay
// behind, its records are in the next one too. Space in the database is used again, the file does not shrink.
func (s *Store) Archive(ctx context.Context, before time.Time, dir string) (ArchiveReport, error) {
	return (&archiver{store: s, dir: dir, before: before, stop: func(string) error { return nil }}).run(ctx)
}

// archiver is one call of Archive.
type archiver struct {
	store  *Store
	dir    string
	before time.Time
	// stop is asked at every point where a crash would leave something half done; its error ends the call there.
	stop func(point string) error
}

// The points of archiver.stop.
const (
	stopBegun    = "begun"    // the file has a part of its lines
	stopWritten  = "written"  // the file is whole, under its temporary name
	stopRenamed  = "renamed"  // it has its name
	stopNoted    = "noted"    // the chain tells of it, the first piece is deleted
	stopPiece    = "piece"    // one piece more is deleted
	stopRecords  = "records"  // all records and orders are deleted
	stopFinished = "finished" // everything is deleted, and the settings say so
)

func (a *archiver) run(ctx context.Context) (ArchiveReport, error) {
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return ArchiveReport{}, fmt.Errorf("archive: %w", err)
	}
	if err := a.resume(ctx); err != nil {
		return ArchiveReport{}, fmt.Errorf("archive: go on with the last one: %w", err)
	}
	p, err := a.write(ctx)
	if err != nil || p.report.Records == 0 {
		return p.report, wrapArchive(err)
	}
	if err := a.stop(stopRenamed); err != nil {
		return p.report, err
	}
	if err := a.begin(ctx, p); err != nil {
		return p.report, wrapArchive(err)
	}
	return p.report, wrapArchive(a.drop(ctx, p.mark))
}

func wrapArchive(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("archive: %w", err)
}

// resume deletes what an interrupted call had written and not deleted yet, if its file is still what it was.
func (a *archiver) resume(ctx context.Context) error {
	value, err := a.store.setting(ctx, settingArchiving)
	if err != nil || value == "" {
		return err
	}
	var m archivingJSON
	if err := json.Unmarshal([]byte(value), &m); err != nil {
		return fmt.Errorf("setting %s: %w", settingArchiving, err)
	}
	sum, err := fileSum(filepath.Join(a.dir, filepath.Base(m.File)))
	if err == nil && string(sum) == string(m.SHA256) {
		return a.drop(ctx, m)
	}
	// What is left of it is written to another file.
	a.store.log.Warn("an unfinished archive is not there any more as it was: what is left of it is archived anew", "file", m.File, "err", err)
	return a.store.do(ctx, func(t *tx) error {
		_, err := t.run(`DELETE FROM settings WHERE name = ? AND value = ?`, settingArchiving, value)
		return err
	})
}

// begin records the archive in the chain and in the settings; from then on its content may go.
func (a *archiver) begin(ctx context.Context, p *plan) error {
	value, err := json.Marshal(p.mark)
	if err != nil {
		return err
	}
	return a.store.do(ctx, func(t *tx) error {
		head, err := t.conn.archived(t.ctx)
		if err != nil {
			return err
		}
		other, err := t.setting(settingArchiving)
		if err != nil {
			return err
		}
		if other != "" || head.Anchor != p.from.Anchor {
			return refusal{ErrArchiving}
		}
		t.audit(AuditRecord{
			What: bridge.NoteArchive, Count: p.report.Records, Ref: FormatAnchor(p.report.Head), Payload: p.mark.SHA256,
			Detail: cut("records " + fmt.Sprint(p.report.First) + " to " + fmt.Sprint(p.report.Last) + " moved to " + p.mark.File),
		})
		_, err = t.run(upsertSetting, settingArchiving, string(value))
		return err
	})
}

const (
	// The pieces of a deletion grow and shrink so that one takes about this long, the wait for the disk included.
	pieceTime          = 8 * time.Millisecond
	minPiece, maxPiece = 8, 1024
	selectFirstAlert   = `SELECT alert FROM orders WHERE alert IS NOT NULL ORDER BY seq LIMIT 1`
	deleteEndedOrders  = `DELETE FROM orders WHERE id IN (SELECT order_id FROM audit WHERE seq BETWEEN ?1 AND ?2 AND order_id IS NOT NULL)
	AND json_extract('[' || trail || ']', '$[#-1]') BETWEEN ?1 AND ?2`
	deleteAuditRecords  = `DELETE FROM audit WHERE seq BETWEEN ? AND ?`
	deleteAlerts        = `DELETE FROM alerts WHERE seq IN (SELECT seq FROM alerts WHERE seq <= ? ORDER BY seq LIMIT ?)`
	selectAuditHead     = `SELECT hash, keyed FROM audit WHERE seq = ?`
	selectFirstOrderSeq = `SELECT min(seq) FROM orders`
)

// drop deletes what is in the file of a mark.
func (a *archiver) drop(ctx context.Context, m archivingJSON) error {
	first := true
	err := a.pieces(ctx, func(n int64) (bool, error) {
		var done bool
		err := a.store.do(ctx, func(t *tx) (err error) {
			done, err = t.dropRecords(m, n)
			return err
		})
		point := stopPiece
		if first {
			point, first = stopNoted, false
		}
		return done, errors.Join(err, a.stop(point))
	})
	if err == nil {
		err = a.stop(stopRecords)
	}
	if err == nil {
		err = a.pieces(ctx, func(n int64) (bool, error) {
			var done bool
			err := a.store.do(ctx, func(t *tx) (err error) {
				done, err = t.dropAlerts(m, n)
				return err
			})
			return done, errors.Join(err, a.stop(stopPiece))
		})
	}
	if err != nil {
		return err
	}
	return a.stop(stopFinished)
}

// pieces calls fn with sizes that keep each call short, and leaves the writer to others as long as it kept them waiting.
func (a *archiver) pieces(ctx context.Context, fn func(n int64) (done bool, err error)) error {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for n := int64(minPiece); ; {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-pause.C:
		}
		start := time.Now()
		done, err := fn(n)
		if err != nil || done {
			return err
		}
		took := time.Since(start)
		switch {
		case took > pieceTime:
			n = max(minPiece, n/2)
		case took < pieceTime/2:
			n = min(maxPiece, n*2)
		}
		pause.Reset(took)
	}
}

// dropRecords deletes the next n records and the orders that ended with one of them, and moves the beginning of the chain in the
// same transaction.
func (t *tx) dropRecords(m archivingJSON, n int64) (done bool, err error) {
	head, err := t.conn.archived(t.ctx)
	if err != nil || head.Anchor.Seq >= m.Last {
		return true, err
	}
	from, to := head.Anchor.Seq+1, min(head.Anchor.Seq+n, m.Last)
	row, err := t.first(selectAuditHead, to)
	if err != nil {
		return false, err
	}
	if row == nil || from < m.First {
		return false, refusal{fmt.Errorf("%w: audit record %d is not where the archive %s has it", ErrDamaged, to, m.File)}
	}
	head.Anchor.Seq, head.Keyed = to, head.Keyed || asInt(row[1]) != 0
	copy(head.Anchor.Hash[:], asBytes(row[0]))
	if _, err := t.run(deleteEndedOrders, from, to); err != nil {
		return false, err
	}
	if _, err := t.run(deleteAuditRecords, from, to); err != nil {
		return false, err
	}
	value, err := encodeHead(head)
	if err != nil {
		return false, err
	}
	_, err = t.run(upsertSetting, settingArchived, value)
	return to == m.Last, err
}

// dropAlerts deletes the next n documents that no order is left of, and in the end the mark.
func (t *tx) dropAlerts(m archivingJSON, n int64) (done bool, err error) {
	until := m.Alerts
	// An order may have moved on after it was archived; then it is here still, and so is its document.
	row, err := t.first(selectFirstAlert)
	if err != nil {
		return false, err
	}
	if row != nil && asInt(row[0]) <= until {
		if until, err = t.conn.wholeDeliveries(t.ctx, asInt(row[0])-1); err != nil {
			return false, err
		}
	}
	gone, err := t.run(deleteAlerts, until, n)
	if err != nil || gone == n {
		return false, err
	}
	if row, err = t.first(selectFirstOrderSeq); err != nil {
		return false, err
	}
	if err := t.dropHosts(asInt(row[0])); err != nil {
		return false, err
	}
	_, err = t.run(`DELETE FROM settings WHERE name = ?`, settingArchiving)
	return true, err
}
