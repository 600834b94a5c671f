package redisbus

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// entryID is the id of a stream entry, "<milliseconds>-<sequence>", in a form that compares.
type entryID struct{ ms, seq uint64 }

// parseID also reads "<milliseconds>", which Redis takes for sequence 0.
func parseID(s string) (entryID, error) {
	ms, seq, ok := strings.Cut(s, "-")
	if !ok {
		seq = "0"
	}
	var id entryID
	var err error
	if id.ms, err = strconv.ParseUint(ms, 10, 64); err != nil {
		return entryID{}, fmt.Errorf("stream id %q is not <ms>-<seq>", clip(s))
	}
	if id.seq, err = strconv.ParseUint(seq, 10, 64); err != nil {
		return entryID{}, fmt.Errorf("stream id %q is not <ms>-<seq>", clip(s))
	}
	return id, nil
}

// String returns the form Redis uses.
func (id entryID) String() string {
	return strconv.FormatUint(id.ms, 10) + "-" + strconv.FormatUint(id.seq, 10)
}

func (id entryID) less(other entryID) bool {
	return id.ms < other.ms || (id.ms == other.ms && id.seq < other.seq)
}

// before returns the greatest id below; 0-0 stays.
func (id entryID) before() entryID {
	switch {
	case id.seq > 0:
		return entryID{id.ms, id.seq - 1}
	case id.ms > 0:
		return entryID{id.ms - 1, math.MaxUint64}
	default:
		return id
	}
}

// stage is where an entry in hand stands.
type stage int

const (
	queued    stage = iota // read, waits for Receive
	delivered              // with the caller, not settled
	waiting                // to be delivered again when due
	settling               // to be dead-lettered or acknowledged
	taken                  // another consumer owns it: not delivered any more
)

// entry is one stream entry in hand: read and not yet acknowledged. The fields below stage belong to Stream.mu.
type entry struct {
	id       entryID
	text     string // the id as Redis spells it
	doc      string
	size     int64
	received time.Time

	stage    stage
	attempts int       // deliveries so far
	touched  time.Time // when Redis was last known to count it as ours and idle since
	due      time.Time // of a waiting entry
	reason   string    // of a dead letter
	// quiet entries may be missing at XACK without that meaning anything.
	quiet bool
}

// document picks the document out of the fields of an entry: the named field, else the only one, else
// all of them as a JSON object of strings.
func document(fields map[string]any, name string) string {
	if v, ok := fields[name]; ok {
		return text(v)
	}
	if len(fields) == 1 {
		for _, v := range fields {
			return text(v)
		}
	}
	all := make(map[string]string, len(fields))
	for k, v := range fields {
		all[k] = text(v)
	}
	b, err := json.Marshal(all)
	if err != nil {
		return "" // a map of strings always marshals
	}
	return string(b)
}

func text(v any) string {
	s, ok := v.(string)
	if !ok {
		return fmt.Sprint(v)
	}
	return s
}
