package firewall

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

const (
	recordName    = "isolation.json"
	recordVersion = 1
	// maxRecord bounds what is read of a record: 512 names with 64 addresses each fit in.
	maxRecord = 4 << 20
)

// errRecord marks a record that cannot be believed.
var errRecord = errors.New("the record of the isolation is damaged")

// record is an isolation as it is kept on disk, so that it goes on after a restart for the time that is left.
type record struct {
	Version int `json:"version"`
	// OrderID, Reason and Who are those of the order that isolated first.
	OrderID string `json:"order"`
	Reason  string `json:"reason,omitempty"`
	Who     string `json:"who,omitempty"`
	// Serial counts the records that were written: a running agent follows a later one of another process.
	Serial uint64 `json:"serial,omitempty"`
	// Since is when the machine was isolated.
	Since time.Time `json:"since"`
	// deadline is the end; a permanent isolation has none.
	deadline
	Permanent bool `json:"permanent,omitempty"`
	// Claim is until when somebody holds the isolation who has no lease: a lapse goes back to it.
	Claim deadline `json:"claim,omitzero"`
	// Names are the addresses the peers' names stood for: early at boot nobody can be asked.
	Names map[string][]netip.Addr `json:"names,omitempty"`
	// Servers are the name servers that were in use.
	Servers []netip.Addr `json:"servers,omitempty"`
	// Namespaces are the other network namespaces it was put into, by their numbers in that boot of the machine: a release has to
	// come by there, at once or when they can be found again.
	Namespaces     []uint64 `json:"namespaces,omitempty"`
	NamespacesBoot string   `json:"namespaces_boot,omitempty"`
	// Released is when the isolation was ended; such a record tells a running agent that nobody else took the isolation away.
	Released time.Time `json:"released,omitzero"`
}

// live reports whether the machine is to be isolated.
func (r *record) live() bool { return r != nil && r.Released.IsZero() }

// left returns how long the isolation goes on. It is negative when the time is over, and 0 for a permanent one.
func (r *record) left(now moment) time.Duration {
	if r.Permanent {
		return 0
	}
	return r.deadline.left(now)
}

// anchor makes a record from before a restart of the machine count by the clock nobody sets, and reports whether it did.
func (r *record) anchor(now moment) bool {
	if r.Boot == now.boot {
		return false
	}
	moved := false
	for _, d := range []*deadline{&r.deadline, &r.Claim} {
		if left := d.left(now); left > 0 {
			d.Boot, d.Ends, moved = now.boot, now.up+left, true
		}
	}
	return moved
}

func (r *record) check() error {
	switch {
	case r.Version != recordVersion:
		return fmt.Errorf("%w: it is of version %d, this program writes %d", errRecord, r.Version, recordVersion)
	case r.Permanent != r.Until.IsZero():
		return fmt.Errorf("%w: it says neither an end nor permanent", errRecord)
	case r.Since.IsZero(), r.Armed.IsZero(), !r.Permanent && !r.sane(), r.Claim != deadline{} && !r.Claim.sane():
		return fmt.Errorf("%w: its times make no sense", errRecord)
	}
	return nil
}

// sealed is a record with the digest of its bytes: a torn or edited file is told from a whole one.
type sealed struct {
	SHA256 string          `json:"sha256"`
	Record json.RawMessage `json:"isolation"`
}

func encodeRecord(r *record) ([]byte, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode the record: %w", err)
	}
	sum := sha256.Sum256(body)
	return json.Marshal(sealed{hex.EncodeToString(sum[:]), body})
}

func decodeRecord(b []byte) (*record, error) {
	var s sealed
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("%w: %w", errRecord, err)
	}
	if sum := sha256.Sum256(s.Record); hex.EncodeToString(sum[:]) != s.SHA256 {
		return nil, fmt.Errorf("%w: its digest does not match", errRecord)
	}
	var r record
	dec := json.NewDecoder(bytes.NewReader(s.Record))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return nil, fmt.Errorf("%w: %w", errRecord, err)
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	return &r, nil
}

// loadRecord returns nil when there is none. An error that wraps errRecord means one that cannot be believed.
func (w *Firewall) loadRecord() (*record, error) {
	if w.cfg.State == "" {
		return nil, nil //nolint:nilnil // no record is an answer, not an error
	}
	f, err := os.Open(filepath.Join(w.cfg.State, recordName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no record is an answer, not an error
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errRecord, err)
	}
	defer func() { _ = f.Close() }()
	if err := trusted(f); err != nil {
		return nil, fmt.Errorf("%w: %w", errRecord, err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errRecord, err)
	}
	if len(b) > maxRecord {
		return nil, fmt.Errorf("%w: it is larger than %d bytes", errRecord, maxRecord)
	}
	r, err := decodeRecord(b)
	if err != nil {
		return nil, err
	}
	w.recallNamespaces(r)
	return r, nil
}

// saveRecord puts r where the next start finds it, as the latest record: it is on disk when this returns. Nil removes the record.
func (w *Firewall) saveRecord(r *record) error {
	if w.cfg.State == "" {
		return nil
	}
	name := filepath.Join(w.cfg.State, recordName)
	if r == nil {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the record of the isolation: %w", err)
		}
		return files.SyncDir(w.cfg.State)
	}
	if disk, err := w.loadRecord(); err == nil && disk != nil {
		r.Serial = max(r.Serial, disk.Serial)
	}
	r.Serial++
	if r.Namespaces = w.namespaces(); len(r.Namespaces) > 0 {
		r.NamespacesBoot = w.now().boot
	}
	b, err := encodeRecord(r)
	if err != nil {
		return err
	}
	if err := files.WriteDurable(name, b, 0o600); err != nil {
		return fmt.Errorf("write the record of the isolation: %w", err)
	}
	return nil
}

// saveEnd writes that the isolation is over. A full disk must not keep a machine isolated: the record that cannot be replaced is
// removed then, which needs no room.
func (w *Firewall) saveEnd(orderID string, since time.Time) error {
	now := w.now()
	gone := &record{
		Version: recordVersion, OrderID: short(orderID), Since: since, deadline: deadline{Armed: now.wall}, Permanent: true, Released: now.wall,
	}
	err := w.saveRecord(gone)
	if err == nil {
		return nil
	}
	if rerr := w.saveRecord(nil); rerr != nil {
		return errors.Join(err, rerr)
	}
	w.log.Warn("the end of an isolation could not be written, its record was removed", "order", orderID, "err", err)
	return nil
}
