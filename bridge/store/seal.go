package store

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"math"
)

// minKey is how many bytes an audit key has at least.
const minKey = 16

// ErrNoKey is returned by Open for a chain that is sealed with a key when there is none.
var ErrNoKey = errors.New("the audit chain is sealed with a key")

// auditKey is the key of the chain, nil = none. It is never shown.
type auditKey []byte

// String hides the key.
func (auditKey) String() string { return "[redacted]" }

// GoString hides the key.
func (auditKey) GoString() string { return "[redacted]" }

// LogValue hides the key.
func (auditKey) LogValue() slog.Value { return slog.StringValue("[redacted]") }

func checkKey(key []byte) error {
	if len(key) < minKey {
		return fmt.Errorf("audit.key has %d bytes: at least %d are required", len(key), minKey)
	}
	return nil
}

// askKey asks for the key of the chain; nil when there is nobody to ask.
func askKey(ctx context.Context, ask func(context.Context) ([]byte, error)) (auditKey, error) {
	if ask == nil {
		return nil, nil
	}
	key, err := ask(ctx)
	if err != nil {
		return nil, fmt.Errorf("audit.key: %w", err)
	}
	return key, checkKey(key)
}

// seal computes the hashes of the chain. It is used by one goroutine at a time.
type seal struct {
	mac hash.Hash // HMAC-SHA256 under the audit key; nil = no key
	buf []byte
}

// newSeal makes a seal; a nil key means plain SHA-256.
func newSeal(key auditKey) *seal {
	if key == nil {
		return &seal{}
	}
	return &seal{mac: hmac.New(sha256.New, key)}
}

func (s *seal) keyed() bool { return s.mac != nil }

// can reports whether the hash of the record can be computed.
func (s *seal) can(r *AuditRecord) bool { return !r.Keyed || s.mac != nil }

// sum returns the hash of the record: SHA-256, or HMAC-SHA256 where Keyed, over its canonical form.
func (s *seal) sum(r *AuditRecord) (sum [sha256.Size]byte) {
	s.buf = canonical(s.buf[:0], r)
	if !r.Keyed {
		return sha256.Sum256(s.buf)
	}
	s.mac.Reset()
	s.mac.Write(s.buf)
	s.mac.Sum(sum[:0])
	return sum
}

// canonical appends what the hash of a record covers: the hash of the record before, then every field but Hash in the order of
// bridge.AuditRecord. Numbers have 8 bytes, times are nanoseconds since 1970, texts and digests have their length in front, so
// that no two different records have the same form.
func canonical(buf []byte, r *AuditRecord) []byte {
	when, ok := nanos(r.Time).(int64)
	if !ok {
		when = math.MinInt64
	}
	buf = append(buf, r.Prev[:]...)
	buf = appendNumber(buf, r.Seq)
	buf = appendNumber(buf, when)
	buf = appendField(buf, r.What)
	buf = appendField(buf, r.Order)
	buf = appendField(buf, r.From)
	buf = appendField(buf, r.To)
	buf = appendField(buf, r.Reason)
	buf = appendField(buf, r.Rule)
	buf = appendField(buf, r.Task)
	buf = appendField(buf, r.Host)
	buf = appendField(buf, r.Source)
	buf = appendField(buf, r.Actor)
	buf = appendField(buf, r.Approver)
	buf = appendNumber(buf, r.Count)
	buf = appendNumber(buf, int64(r.Attempts))
	buf = appendField(buf, r.Ref)
	buf = appendField(buf, r.Detail)
	buf = appendField(buf, r.Alert)
	buf = appendField(buf, r.Payload)
	buf = appendField(buf, r.Policy)
	if r.Keyed {
		return append(buf, 1)
	}
	return append(buf, 0)
}

func appendNumber(buf []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(buf, uint64(n)) //nolint:gosec // bits, not a quantity
}

func appendField[S ~string | ~[]byte](buf []byte, s S) []byte {
	buf = binary.BigEndian.AppendUint64(buf, uint64(len(s)))
	return append(buf, s...)
}
