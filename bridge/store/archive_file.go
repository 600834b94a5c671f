package store

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// orderJSON is an order as an archive holds it: what stood in the store when it was archived.
type orderJSON struct {
	ID        string          `json:"id"`
	Alert     int64           `json:"alert,omitempty"` // alertJSON.Seq
	Source    string          `json:"source,omitempty"`
	AlertID   string          `json:"alert_id,omitempty"`
	Rule      string          `json:"rule,omitempty"`
	At        string          `json:"at,omitempty"`
	Actor     string          `json:"actor,omitempty"`
	Host      string          `json:"host,omitempty"`
	Task      string          `json:"task,omitempty"`
	Params    json.RawMessage `json:"params,omitempty"` // a text where it is no JSON
	Subject   *subjectJSON    `json:"subject,omitempty"`
	Mode      bridge.Mode     `json:"mode,omitempty"`
	Via       bridge.Via      `json:"via,omitempty"`
	For       time.Duration   `json:"for,omitempty"` // nanoseconds
	Dedupe    string          `json:"dedupe,omitempty"`
	Window    time.Duration   `json:"window,omitempty"` // nanoseconds
	AlertTime time.Time       `json:"alert_time,omitzero"`
	Created   time.Time       `json:"created,omitzero"`
	NotAfter  time.Time       `json:"not_after,omitzero"`
	Updated   time.Time       `json:"updated,omitzero"`
	State     bridge.State    `json:"state"`
	Reason    bridge.Reason   `json:"reason,omitempty"`
	Detail    string          `json:"detail,omitempty"`
	Covers    string          `json:"covers,omitempty"`
	Executor  string          `json:"executor,omitempty"`
	Attempts  int             `json:"attempts,omitempty"`
	Ref       string          `json:"ref,omitempty"`
	Target    string          `json:"intent_target,omitempty"`
	Names     []string        `json:"intent_names,omitempty"`
	Second    time.Time       `json:"intent_second,omitzero"`
	Body      string          `json:"intent_body,omitempty"`
	Approval  *approvalJSON   `json:"approval,omitempty"`
}

func newOrderJSON(row []driver.Value, alert int64) (orderJSON, error) {
	o := scanOrder(row)
	out := orderJSON{
		ID: o.ID, Alert: alert, Source: o.Source, AlertID: o.AlertID, Rule: o.Rule, At: o.At, Actor: o.Actor, Host: o.Host,
		Task: asText(row[10]), Mode: o.Mode, Via: o.Via, For: o.For, Dedupe: o.Dedupe, Window: o.Window, AlertTime: o.AlertTime,
		Created: o.Created, NotAfter: o.NotAfter, Updated: o.Updated, State: o.State, Reason: o.Reason, Detail: o.Detail, Covers: o.Covers,
		Executor: o.Executor, Attempts: o.Attempts, Ref: o.Ref, Target: o.Intent.Target, Names: o.Intent.Names, Second: o.Intent.Second,
		Body: o.Intent.Body,
	}
	if o.Subject != (bridge.Process{}) {
		out.Subject = new(subjectJSON(o.Subject))
	}
	if o.Approval != (bridge.Approval{}) {
		out.Approval = new(approvalJSON(o.Approval))
	}
	params := asText(row[11])
	if params == "" || json.Valid([]byte(params)) {
		out.Params = json.RawMessage(params)
		return out, nil
	}
	var err error
	out.Params, err = encodeLine(params)
	return out, err
}

// archiveFile is an archive as it is written.
type archiveFile struct {
	file *os.File
	sum  interface {
		io.Writer
		Sum(b []byte) []byte
	}
	buf *bufio.Writer
	zip *gzip.Writer
}

func newArchiveFile(dir string) (*archiveFile, error) {
	f, err := os.CreateTemp(dir, ".audit-*.tmp") // mode 0600
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	buf := bufio.NewWriterSize(io.MultiWriter(f, sum), 256<<10)
	zip, err := gzip.NewWriterLevel(buf, gzip.BestSpeed)
	return &archiveFile{file: f, sum: sum, buf: buf, zip: zip}, err
}

func (f *archiveFile) line(line []byte, err error) error {
	if err != nil {
		return err
	}
	if _, err := f.zip.Write(line); err != nil {
		return err
	}
	_, err = f.zip.Write([]byte("\n"))
	return err
}

// finish syncs and closes the file and returns its digest.
func (f *archiveFile) finish() ([]byte, error) {
	for _, step := range []func() error{f.zip.Close, f.buf.Flush, f.file.Sync, f.file.Close} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return f.sum.Sum(nil), nil
}

// discard deletes a file that has not got its name.
func (f *archiveFile) discard() {
	_ = f.file.Close()           // it may be closed already
	_ = os.Remove(f.file.Name()) // what is left is a temporary file
}

// write makes the archive file with its name, or none when there is nothing to archive.
func (a *archiver) write(ctx context.Context) (*plan, error) {
	p := &plan{}
	f, err := newArchiveFile(a.dir)
	if err != nil {
		return p, err
	}
	if err = a.fill(ctx, f, p); err == nil && p.report.Records > 0 {
		err = a.settle(f, p)
	}
	if err != nil || p.report.Records == 0 {
		f.discard()
	}
	return p, err
}

// fill writes the lines.
func (a *archiver) fill(ctx context.Context, f *archiveFile, p *plan) error {
	now := a.store.now()
	err := a.store.read(ctx, func(c *conn) (err error) {
		if p.from, err = c.archived(ctx); err == nil {
			p.stays, err = c.needed(ctx, now)
		}
		return err
	})
	if err != nil {
		return damaged(err)
	}
	p.report.Head = p.from.Anchor
	for more := true; more; {
		if err := a.store.read(ctx, func(c *conn) (err error) {
			more, err = a.fillPage(ctx, c, f, p, now)
			return err
		}); err != nil {
			return damaged(err)
		}
		if err := a.stop(stopBegun); err != nil {
			return err
		}
	}
	if p.report.Records == 0 {
		return nil
	}
	p.report.First, p.report.Last = p.from.Anchor.Seq+1, p.report.Head.Seq
	if err := a.fillAlerts(ctx, f, p); err != nil {
		return damaged(err)
	}
	return f.line(encodeTyped(lineArchive, archiveJSON{Version: archiveVersion, First: p.report.First, Last: p.report.Last, Made: now}))
}

// fillPage writes the next records, each after the order that ended with it.
func (a *archiver) fillPage(ctx context.Context, c *conn, f *archiveFile, p *plan, now time.Time) (more bool, err error) {
	page, err := c.auditPage(ctx, p.report.Head.Seq, nil)
	if err != nil {
		return false, err
	}
	for i := range page {
		r := &page[i]
		if r.Seq != p.report.Head.Seq+1 || r.Prev != p.report.Head.Hash {
			return false, fmt.Errorf("%w: audit record %d does not follow from the one before", ErrDamaged, r.Seq)
		}
		if !r.Time.Before(a.before) {
			p.report.Stays = "it is not old enough"
			return false, nil
		}
		if r.Order != "" {
			var what fate
			if what, err = c.fateOf(ctx, r, p, now); err != nil {
				return false, err
			}
			if what.stays != "" {
				p.report.Stays = "order " + r.Order + ": " + what.stays
				return false, nil
			}
			if what.ends {
				if err := a.fillOrder(ctx, c, f, p, r.Order, what); err != nil {
					return false, err
				}
			}
		}
		if err := f.line(EncodeRecord(*r)); err != nil {
			return false, err
		}
		p.report.Records++
		p.report.Head = Anchor{Seq: r.Seq, Hash: r.Hash}
	}
	return len(page) == exportPage, nil
}

func (a *archiver) fillOrder(ctx context.Context, c *conn, f *archiveFile, p *plan, id string, what fate) error {
	if what.alert > 0 && !p.alerts.has(what.alert) {
		if err := c.each(ctx, selectArchivedAlert+` WHERE seq = ?`, []driver.Value{what.alert}, func(row []driver.Value) (bool, error) {
			return false, f.alert(ctx, c, p, row)
		}); err != nil {
			return err
		}
	}
	row, err := c.first(ctx, selectOrder+` WHERE id = ?`, id)
	if err != nil || row == nil {
		return errors.Join(err, fmt.Errorf("order %s is gone", id))
	}
	o, err := newOrderJSON(row, what.alert)
	if err != nil {
		return err
	}
	p.orders.add(what.seq)
	p.report.Orders++
	return f.line(encodeTyped(lineOrder, o))
}

const selectArchivedAlert = `SELECT seq, source, id, preset, tenant, in_case, received, raw, raw_of FROM alerts`

// alert writes a document that is not in the file yet. One that stands for another is written with its content unless that
// is in the file.
func (f *archiveFile) alert(ctx context.Context, c *conn, p *plan, row []driver.Value) error {
	al := alertJSON{
		Seq: asInt(row[0]), Source: asText(row[1]), ID: asText(row[2]), Preset: asText(row[3]), Tenant: asText(row[4]), Case: asText(row[5]),
		Received: asTime(row[6]), Raw: asBytes(row[7]), RawOf: asInt(row[8]),
	}
	if al.RawOf > 0 && !p.alerts.has(al.RawOf) {
		raw, err := c.first(ctx, `SELECT raw FROM alerts WHERE seq = ?`, al.RawOf)
		if err != nil || raw == nil {
			return errors.Join(err, fmt.Errorf("%w: the document of alert %d is not there", ErrDamaged, al.Seq))
		}
		al.Raw, al.RawOf = asBytes(raw[0]), 0
	}
	p.alerts.add(al.Seq)
	p.report.Alerts++
	return f.line(encodeTyped(lineAlert, al))
}

// fillAlerts writes the documents that no order is left of: those of the archive, and those that led to no order.
func (a *archiver) fillAlerts(ctx context.Context, f *archiveFile, p *plan) error {
	var until int64
	if err := a.store.read(ctx, func(c *conn) (err error) {
		until, err = c.lastFreeAlert(ctx, p)
		return err
	}); err != nil {
		return err
	}
	for more := true; more; {
		if err := a.store.read(ctx, func(c *conn) error {
			more = false
			return c.each(ctx, selectArchivedAlert+` WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT 64`, []driver.Value{p.mark.Alerts, until},
				func(row []driver.Value) (bool, error) {
					if !asTime(row[4]).Before(a.before) {
						more = false
						return false, nil
					}
					more, p.mark.Alerts = true, asInt(row[0])
					if p.alerts.has(asInt(row[0])) {
						return true, nil
					}
					return true, f.alert(ctx, c, p, row)
				})
		}); err != nil {
			return err
		}
	}
	return a.store.read(ctx, func(c *conn) (err error) {
		p.mark.Alerts, err = c.wholeDeliveries(ctx, p.mark.Alerts)
		return err
	})
}

// settle finishes the file, reads it back and gives it its name.
func (a *archiver) settle(f *archiveFile, p *plan) error {
	sum, err := f.finish()
	if err != nil {
		return err
	}
	if err := a.stop(stopWritten); err != nil {
		return err
	}
	if err := a.readBack(f.file.Name(), sum, p); err != nil {
		return fmt.Errorf("%s was not written as it should be: %w", f.file.Name(), err)
	}
	name, err := a.freeName(p)
	if err != nil {
		return err
	}
	if err := os.Rename(f.file.Name(), filepath.Join(a.dir, name)); err != nil {
		return err
	}
	p.report.File = filepath.Join(a.dir, name)
	p.mark.File, p.mark.SHA256, p.mark.First, p.mark.Last = name, sum, p.report.First, p.report.Last
	return syncDir(a.dir)
}

// freeName returns a name that no other archive has: that of another store may have the same numbers.
func (a *archiver) freeName(p *plan) (string, error) {
	name := fmt.Sprintf("audit-%d-%d", p.report.First, p.report.Last)
	for _, suffix := range []string{"", fmt.Sprintf("-%x", p.report.Head.Hash[:4])} {
		same, err := a.holds(filepath.Join(a.dir, name+suffix+archiveSuffix), p.report.Head)
		if err != nil {
			return "", err
		}
		if same {
			return name + suffix + archiveSuffix, nil
		}
	}
	return "", fmt.Errorf("%s is there already, and another store's", filepath.Join(a.dir, name+archiveSuffix))
}

const archiveSuffix = ".jsonl.gz"

// holds reports whether there is no such file, or one that ends with the same record: what an interrupted call left behind.
func (a *archiver) holds(path string, head Anchor) (bool, error) {
	f, err := os.Open(path) //nolint:gosec // the folder is the operator's setting
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	rep, err := VerifyExport(f, a.store.key, nil)
	return err == nil && rep.FirstBad == 0 && rep.Head == head, f.Close()
}

// readBack checks that the file has the digest of what was written, that every line can be read, and that its records follow from
// the last one archived before and lead to the head of the plan.
func (a *archiver) readBack(path string, sum []byte, p *plan) error {
	got, err := fileSum(path)
	if err != nil {
		return err
	}
	if string(got) != string(sum) {
		return errors.New("its content is not what was written")
	}
	f, err := os.Open(path) //nolint:gosec // the folder is the operator's setting
	if err != nil {
		return err
	}
	v := newVerifier(newSeal(a.store.key), nil)
	v.begin(p.from)
	var orders, alerts int64
	err = readLines(f, lineReader{
		record: v.add,
		order:  func(orderJSON) error { orders++; return nil },
		alert:  func(alertJSON) error { alerts++; return nil },
	})
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, errText(v.report.Problem))
	}
	if v.report.Head != p.report.Head || v.report.Records != p.report.Records || orders != p.report.Orders || alerts != p.report.Alerts {
		return fmt.Errorf("it holds %d records, %d orders and %d alerts, want %d, %d and %d", v.report.Records, orders, alerts,
			p.report.Records, p.report.Orders, p.report.Alerts)
	}
	return nil
}

func errText(s string) error {
	if s == "" {
		return nil
	}
	return errors.New(s)
}

// fileSum returns the SHA-256 of a file.
func fileSum(path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the folder is the operator's setting
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	_, err = io.Copy(sum, f)
	return sum.Sum(nil), errors.Join(err, f.Close())
}
