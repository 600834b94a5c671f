package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// recordJSON gives bridge.AuditRecord its names in exports and archives:
//
//	{"seq":7,"time":"2026-05-06T07:08:09.000000001Z","what":"admit","order":"o1…","to":"queued","rule":"…","task":"isolateHost",
//	 "host":"ws1","source":"bus","alert":"<64 hex>","payload":"<64 hex>","policy":"<32 hex>","prev":"<64 hex>","hash":"<64 hex>"}
//
// Empty fields are left out. A line with "type" is no record: "archive", "order" and "alert" carry the rest of an archive in "data".
type recordJSON struct {
	Seq      int64         `json:"seq"`
	Time     time.Time     `json:"time"`
	What     string        `json:"what"`
	Order    string        `json:"order,omitempty"`
	From     bridge.State  `json:"from,omitempty"`
	To       bridge.State  `json:"to,omitempty"`
	Reason   bridge.Reason `json:"reason,omitempty"`
	Rule     string        `json:"rule,omitempty"`
	Task     bridge.Kind   `json:"task,omitempty"`
	Host     string        `json:"host,omitempty"`
	Source   string        `json:"source,omitempty"`
	Actor    string        `json:"actor,omitempty"`
	Approver string        `json:"approver,omitempty"`
	Count    int64         `json:"count,omitempty"`
	Attempts int           `json:"attempts,omitempty"`
	Ref      string        `json:"ref,omitempty"`
	Detail   string        `json:"detail,omitempty"`
	Alert    digits        `json:"alert,omitempty"`
	Payload  digits        `json:"payload,omitempty"`
	Policy   digits        `json:"policy,omitempty"`
	Keyed    bool          `json:"keyed,omitempty"`
	Prev     digits        `json:"prev"`
	Hash     digits        `json:"hash"`
}

// digits are bytes that JSON holds as lower-case hex.
type digits []byte

// MarshalText returns the hex digits.
func (d digits) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d), nil }

// UnmarshalText reads hex digits.
func (d *digits) UnmarshalText(text []byte) error {
	raw, err := hex.AppendDecode(nil, text)
	*d = raw
	return err
}

// EncodeRecord returns the record as one JSON object without a line end, as ExportAudit's callers write it.
func EncodeRecord(r AuditRecord) ([]byte, error) {
	return encodeLine(recordJSON{
		Seq: r.Seq, Time: r.Time.UTC(), What: r.What, Order: r.Order, From: r.From, To: r.To, Reason: r.Reason, Rule: r.Rule, Task: r.Task,
		Host: r.Host, Source: r.Source, Actor: r.Actor, Approver: r.Approver, Count: r.Count, Attempts: r.Attempts, Ref: r.Ref,
		Detail: r.Detail, Alert: r.Alert, Payload: r.Payload, Policy: r.Policy, Keyed: r.Keyed, Prev: r.Prev[:], Hash: r.Hash[:],
	})
}

// encodeLine returns a value as JSON without the escapes that only HTML needs and without a line end.
func encodeLine(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// DecodeRecord reads what EncodeRecord writes. Unknown fields, a missing hash and anything after the object are errors.
func DecodeRecord(line []byte) (AuditRecord, error) {
	var r recordJSON
	if err := decodeStrict(line, &r); err != nil {
		return AuditRecord{}, fmt.Errorf("audit record: %w", err)
	}
	if len(r.Prev) != sha256.Size || len(r.Hash) != sha256.Size {
		return AuditRecord{}, fmt.Errorf("audit record %d: prev and hash: want %d hex digits", r.Seq, 2*sha256.Size)
	}
	return r.record(), nil
}

func (r *recordJSON) record() AuditRecord {
	out := AuditRecord{
		Seq: r.Seq, Time: r.Time.UTC(), What: r.What, Order: r.Order, From: r.From, To: r.To, Reason: r.Reason, Rule: r.Rule, Task: r.Task,
		Host: r.Host, Source: r.Source, Actor: r.Actor, Approver: r.Approver, Count: r.Count, Attempts: r.Attempts, Ref: r.Ref,
		Detail: r.Detail, Alert: r.Alert, Payload: r.Payload, Policy: r.Policy, Keyed: r.Keyed,
	}
	copy(out.Prev[:], r.Prev)
	copy(out.Hash[:], r.Hash)
	return out
}

func decodeStrict(line []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the object")
	}
	return nil
}

// The values of typedLine.Type.
const (
	lineArchive = "archive" // the first line: archiveJSON
	lineOrder   = "order"   // orderJSON
	lineAlert   = "alert"   // alertJSON
)

// typedLine is a line of an archive that is no audit record.
type typedLine struct {
	Type string          `json:"type"`
	Data json.RawMessage `json:"data"`
}

// archiveJSON says what the archive holds.
type archiveJSON struct {
	// Version is that of the format: 1.
	Version int `json:"version"`
	// First and Last are the Seq of its records.
	First int64     `json:"first"`
	Last  int64     `json:"last"`
	Made  time.Time `json:"made"`
}

// archiveVersion is the format this program writes and reads.
const archiveVersion = 1

// typePrefix is how every typedLine begins as encoding/json writes it.
const typePrefix = `{"type":`

func encodeTyped(kind string, v any) ([]byte, error) {
	data, err := encodeLine(v)
	if err != nil {
		return nil, err
	}
	return encodeLine(typedLine{Type: kind, Data: data})
}

// isTyped tells the kinds of lines apart. A record never begins so: its first field is seq.
func isTyped(line []byte) bool { return bytes.HasPrefix(line, []byte(typePrefix)) }

// alertJSON is a document as an archive holds it.
type alertJSON struct {
	// Seq names it within the store; orders name it so.
	Seq      int64     `json:"seq"`
	Source   string    `json:"source,omitempty"`
	ID       string    `json:"id,omitempty"`
	Preset   string    `json:"preset,omitempty"`
	Tenant   string    `json:"tenant,omitempty"`
	Case     string    `json:"case,omitempty"`
	Received time.Time `json:"received,omitzero"`
	// Raw is the document, base64; RawOf names the alert before that has the same.
	Raw   []byte `json:"raw,omitempty"`
	RawOf int64  `json:"raw_of,omitempty"`
}
