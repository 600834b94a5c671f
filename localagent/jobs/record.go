package jobs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
)

const (
	// version is that of the files; another one is refused.
	version = 1
	// maxRecord bounds a file.
	maxRecord = 4 << 20
	// maxID is the longest order id.
	maxID      = 64
	suffix     = ".json"
	lockSuffix = ".lock"
)

// MaxResult is how many bytes of JSON a job may leave as its result. Longer ones are left out, and the record says so.
const MaxResult = 2 << 20

// Record is what is known of a job.
type Record struct {
	// ID is the id of the order, Kind its task.
	ID   string      `json:"id"`
	Kind bridge.Kind `json:"kind"`
	// State is StateRunning, StateDone or StateFailed; StateUnknown when the agent ended after the job had begun to change something.
	State bridge.State `json:"state"`
	// Detail says in words how far it is, or what became of it.
	Detail string `json:"detail,omitempty"`
	// Note says what the job has begun to change, or has changed, while it runs.
	Note string `json:"note,omitempty"`
	// Begun and Ended are UTC; Ended is zero while it runs.
	Begun time.Time `json:"begun"`
	Ended time.Time `json:"ended,omitzero"`
	// Result is what the job found, in the form of its task; nil when there is none.
	Result json.RawMessage `json:"result,omitempty"`
}

// stored is a record as it stands in its file.
type stored struct {
	Version int `json:"version"`
	Record
}

// checkID keeps ids from being paths.
func checkID(id string) error {
	if id == "" || len(id) > maxID {
		return fmt.Errorf("an order id has 1 to %d characters", maxID)
	}
	if strings.ContainsFunc(id, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	}) {
		return errors.New("an order id holds letters, digits, - and _ only")
	}
	return nil
}

// read returns the record of the id; errors.Is(err, fs.ErrNotExist) when there is none.
func (j *Jobs) read(id string) (Record, error) {
	b, err := files.ReadOwn(j.file(id), maxRecord)
	if err != nil {
		return Record{}, err
	}
	var s stored
	if err := json.Unmarshal(b, &s); err != nil {
		return Record{}, fmt.Errorf("job %s: %s cannot be read: move it away, and look on the machine what became of it", id, j.file(id))
	}
	if s.Version != version || s.ID != id {
		return Record{}, fmt.Errorf("job %s: %s is of version %d and about %q: want version %d", id, j.file(id), s.Version, s.ID, version)
	}
	return s.Record, nil
}

// short returns the record without a result that is too long to keep.
func (r Record) short() Record {
	if len(r.Result) > MaxResult {
		r.Detail += fmt.Sprintf("; its result of %d bytes was too long to keep", len(r.Result))
		r.Result = nil
	}
	return r
}

// write makes the record durable before it returns.
func (j *Jobs) write(r Record) error {
	b, err := json.Marshal(stored{version, r.short()})
	if err != nil {
		return err
	}
	return files.WriteDurable(j.file(r.ID), b, 0o600)
}

func (j *Jobs) file(id string) string { return filepath.Join(j.cfg.Dir, id+suffix) }

// ids returns the ids of all records.
func (j *Jobs) ids() ([]string, error) {
	entries, err := os.ReadDir(j.cfg.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), suffix); ok && e.Type().IsRegular() && checkID(id) == nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}
