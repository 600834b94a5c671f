package store

import (
	"crypto/sha256"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	// maxStored bounds documents, params and bodies in bytes; the largest lawful ones are the archives of iocScan (8 MiB, base64).
	maxStored = 32 << 20
	// maxDetail bounds what is kept of Order.Detail and Note.Detail in bytes; the rest is cut off.
	maxDetail = 4096
)

// orderRow is an order as the table holds it.
type orderRow struct {
	order       bridge.Order
	seq         int64
	trail       int64 // Seq of its first audit record
	alert       int   // place of its alert in the admission, counted from 1
	alertSeq    int64
	kind        bridge.Kind
	params      []byte
	subject     []byte
	names       []byte
	approval    []byte
	payload     []byte // digest
	isolates    string // host of an isolateHost order, in lower case
	key         int64
	hasIntent   bool
	dedupeUntil time.Time
	owner       string
	approver    string
}

// newOrderRow encodes what needs encoding and refuses what cannot be stored.
func newOrderRow(o bridge.Order, owner string) (orderRow, error) {
	if !keepsIntent(o.State) {
		o.Intent.Second, o.Intent.Body = time.Time{}, ""
	}
	r := orderRow{order: o, owner: owner, approver: o.Approval.By}
	if o.ID == "" {
		return r, errors.New("no id")
	}
	if !slices.Contains(bridge.States(), o.State) {
		return r, fmt.Errorf("%s: unknown state %q", o.ID, o.State)
	}
	var err error
	if o.Task != nil {
		r.kind = o.Task.Kind()
		if r.kind == bridge.KindIsolateHost {
			r.isolates = strings.ToLower(o.Host)
		}
		if r.params, err = bridge.EncodeParams(o.Task); err != nil {
			return r, fmt.Errorf("%s: %w", o.ID, err)
		}
	}
	if y := o.Subject.Started.Year(); y < 0 || y > 9999 {
		o.Subject.Started, r.order.Subject.Started = time.Time{}, time.Time{} // JSON has four digits for the year
	}
	if o.Subject != (bridge.Process{}) {
		if r.subject, err = json.Marshal(subjectJSON(o.Subject)); err != nil {
			return r, fmt.Errorf("%s: subject: %w", o.ID, err)
		}
	}
	if len(o.Intent.Names) > 0 {
		if r.names, err = json.Marshal(o.Intent.Names); err != nil {
			return r, fmt.Errorf("%s: intent names: %w", o.ID, err)
		}
	}
	if o.Approval != (bridge.Approval{}) {
		a := &r.order.Approval
		a.At = asTime(nanos(a.At))
		a.By, a.Why, a.Digest = strings.ToValidUTF8(a.By, "�"), strings.ToValidUTF8(a.Why, "�"), strings.ToValidUTF8(a.Digest, "�")
		if r.approval, err = json.Marshal(approvalJSON(r.order.Approval)); err != nil {
			return r, fmt.Errorf("%s: approval: %w", o.ID, err)
		}
	}
	if n := max(len(r.params), len(o.Intent.Body)); n > maxStored {
		return r, fmt.Errorf("%s: %d bytes: at most %d are stored", o.ID, n, maxStored)
	}
	r.order.Intent.Second = o.Intent.Second.UTC().Truncate(time.Second)
	r.seal()
	r.order.Detail = cut(o.Detail)
	// What is answered is what will be read back.
	for _, at := range []*time.Time{&r.order.AlertTime, &r.order.Created, &r.order.NotAfter} {
		*at = asTime(nanos(*at))
	}
	return r, nil
}

// seal fills in what is derived from the intent.
func (r *orderRow) seal() {
	in := &r.order.Intent
	r.payload = nil
	if in.Body != "" {
		sum := sha256.Sum256([]byte(in.Body))
		r.payload = sum[:]
	}
	r.key, r.hasIntent = 0, in.Target != "" || in.Body != "" || !in.Second.IsZero()
	if r.hasIntent {
		r.key = intentKey(in.Target, r.payload)
	}
	if r.payload == nil && r.params != nil {
		sum := sha256.Sum256(r.params)
		r.payload = sum[:]
	}
}

// keepsIntent reports whether an order in this state may have been sent as its intent says. The others are sent, if ever, with an
// intent of another second; target and names stay with them, because the guards go by those.
func keepsIntent(s bridge.State) bool {
	switch s {
	case bridge.StateHeld, bridge.StateQueued, bridge.StateRefused, bridge.StateDuplicate, bridge.StateShadow:
		return false
	case bridge.StateSending, bridge.StateAccepted, bridge.StateRunning, bridge.StateDone, bridge.StateFailed, bridge.StateExpired,
		bridge.StateCancelled, bridge.StateUnknown:
		return true
	default:
		return true
	}
}

// judged gives the order the state a guard decided on.
func (r *orderRow) judged(j bridge.Judgement) {
	o := &r.order
	o.State, o.Reason, o.Detail, o.Covers = j.State, j.Reason, cut(j.Detail), j.Covers
	if !keepsIntent(o.State) {
		o.Intent.Second, o.Intent.Body = time.Time{}, ""
		r.seal()
	}
}

// approvalJSON gives bridge.Approval its names in the database.
type approvalJSON struct {
	By     string    `json:"by,omitempty"`
	Why    string    `json:"why,omitempty"`
	At     time.Time `json:"at,omitzero"`
	Digest string    `json:"digest,omitempty"`
}

// subjectJSON gives bridge.Process its names in the database.
type subjectJSON struct {
	PID         int       `json:"pid,omitempty"`
	Start       uint64    `json:"start,omitempty"`
	Started     time.Time `json:"started,omitzero"`
	Name        string    `json:"name,omitempty"`
	Path        string    `json:"path,omitempty"`
	MD5         string    `json:"md5,omitempty"`
	SHA256      string    `json:"sha256,omitempty"`
	CommandLine string    `json:"command_line,omitempty"`
	ParentName  string    `json:"parent_name,omitempty"`
	ParentPath  string    `json:"parent_path,omitempty"`
	Tree        bool      `json:"tree,omitempty"`
}

// insertArgs returns the values in the order of insertOrder.
func (r *orderRow) insertArgs() []driver.Value {
	o := &r.order
	return []driver.Value{
		r.seq, o.ID, string(o.State), r.owner, nanos(o.Updated), nanos(o.Updated), number(r.alertSeq), text(o.AlertID), text(o.Source),
		text(o.Rule), text(o.At), text(o.Actor), text(o.Host), text(r.kind), text(string(r.params)), text(string(r.subject)), text(o.Mode),
		text(o.Via), number(o.For), text(o.Dedupe), number(o.Window), nanos(r.dedupeUntil), nanos(o.AlertTime), nanos(o.Created),
		nanos(o.NotAfter), text(o.Reason), text(o.Detail), text(o.Covers), text(o.Executor), number(o.Attempts), text(o.Ref),
		text(o.Intent.Target), text(string(r.names)), nanos(o.Intent.Second), r.keyValue(), text(o.Intent.Body),
		nanos(o.Due), text(string(r.approval)), text(r.isolates), r.trail,
	}
}

func (r *orderRow) keyValue() driver.Value {
	if !r.hasIntent {
		return nil
	}
	return r.key
}

// record returns the audit record of a change of this order.
func (r *orderRow) record(what string, from, to bridge.State) AuditRecord {
	o := &r.order
	return AuditRecord{
		What: what, Order: o.ID, From: from, To: to, Reason: o.Reason, Rule: o.Rule, Task: r.kind, Host: o.Host, Source: o.Source,
		Actor: o.Actor, Approver: r.approver, Attempts: o.Attempts, Ref: o.Ref, Detail: o.Detail, Payload: r.payload,
	}
}

// selectOrder names the columns scanOrder reads.
const selectOrder = `SELECT seq, id, state, updated, alert_id, source, rule, at, actor, host, task, params, subject, mode, via, lasts,
	dedupe, dedupe_window, alert_time, created, not_after, reason, detail, covers, executor, attempts, ref, intent_target,
	intent_names, intent_second, intent_body, due, approval FROM orders`

// scanOrder reads a row of selectOrder. What cannot be decoded (a file changed by other hands, a task of a
// later version) is left zero and told in Detail, so that one such order does not hide the others.
func scanOrder(row []driver.Value) bridge.Order {
	o := bridge.Order{
		ID: asText(row[1]), State: bridge.State(asText(row[2])), Updated: asTime(row[3]), AlertID: asText(row[4]), Source: asText(row[5]),
		Rule: asText(row[6]), At: asText(row[7]), Actor: asText(row[8]), Host: asText(row[9]),
		Mode: bridge.Mode(asText(row[13])), Via: bridge.Via(asText(row[14])), For: time.Duration(asInt(row[15])),
		Dedupe: asText(row[16]), Window: time.Duration(asInt(row[17])), AlertTime: asTime(row[18]), Created: asTime(row[19]),
		NotAfter: asTime(row[20]), Reason: bridge.Reason(asText(row[21])), Detail: asText(row[22]), Covers: asText(row[23]),
		Executor: asText(row[24]), Attempts: int(asInt(row[25])), Ref: asText(row[26]),
		Intent: bridge.Intent{Target: asText(row[27]), Second: asTime(row[29]), Body: asText(row[30])}, Due: asTime(row[31]),
	}
	if kind := asText(row[10]); kind != "" {
		task, err := bridge.DecodeTask(bridge.Kind(kind), []byte(asText(row[11])))
		if err != nil {
			o.Detail = fmt.Sprintf("stored %s cannot be read: %v; %s", kind, err, o.Detail)
		} else {
			o.Task = task
		}
	}
	if s := asText(row[12]); s != "" {
		var subject subjectJSON
		if err := json.Unmarshal([]byte(s), &subject); err != nil {
			o.Detail = fmt.Sprintf("stored subject cannot be read: %v; %s", err, o.Detail)
		} else {
			o.Subject = bridge.Process(subject)
		}
	}
	if s := asText(row[32]); s != "" {
		var approval approvalJSON
		if err := json.Unmarshal([]byte(s), &approval); err != nil {
			o.Detail = fmt.Sprintf("stored approval cannot be read: %v; %s", err, o.Detail)
		} else {
			o.Approval = bridge.Approval(approval)
		}
	}
	if s := asText(row[28]); s != "" {
		if err := json.Unmarshal([]byte(s), &o.Intent.Names); err != nil {
			o.Detail = fmt.Sprintf("stored names cannot be read: %v; %s", err, o.Detail)
			o.Intent.Names = nil
		}
	}
	return o
}

// cut shortens text to maxDetail bytes without splitting a character.
func cut(s string) string {
	if len(s) <= maxDetail {
		return s
	}
	end := maxDetail - len("…")
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return strings.Clone(s[:end]) + "…"
}
