package sensor

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// maxShownLine is how much of a command line stands in an alert, maxShownPath of a path (Linux paths have at most 4096).
	maxShownLine = 4096
	maxShownPath = 4096
	maxShownName = 256
	// maxShownParents is how many ancestors stand in an alert.
	maxShownParents = 16
	alertIDLength   = 32
)

// The rule names of alerts no rule of the file made.
const (
	// RuleBaseline is a chain that was never seen before on this host.
	RuleBaseline = "baseline"
	// RuleIndicator is a connection to a listed address.
	RuleIndicator = "indicator"
	// RuleSummary says how many alerts were left out.
	RuleSummary = "summary"
)

// document is an alert as it goes out: the first six fields are those of a plain Python sensor, the others are added. What is not known
// is absent.
type document struct {
	Level       string `json:"level"`
	Title       string `json:"title"`
	Description string `json:"description"`
	Details     string `json:"details"`
	// Timestamp is RFC 3339 in UTC.
	Timestamp string `json:"timestamp"`
	// ActionablePID is absent when the process has ended: its number may be another's.
	ActionablePID int `json:"actionable_pid,omitempty"`

	ID   string `json:"id"`
	Rule string `json:"rule"`
	Host string `json:"host,omitempty"`
	// PID is the process of an alert, also when it has ended.
	PID        int    `json:"pid,omitempty"`
	StartTicks uint64 `json:"start_ticks,omitempty"`
	Exe        string `json:"exe,omitempty"`
	// ExeDeleted says that the file of the image was removed since.
	ExeDeleted  bool   `json:"exe_deleted,omitempty"`
	SHA256      string `json:"sha256,omitempty"`
	Script      string `json:"script,omitempty"`
	Cmdline     string `json:"cmdline,omitempty"`
	UID         *int64 `json:"uid,omitempty"`
	Exited      bool   `json:"exited,omitempty"`
	PPID        int    `json:"ppid,omitempty"`
	ParentExe   string `json:"parent_exe,omitempty"`
	ParentTicks uint64 `json:"parent_start_ticks,omitempty"`
	// InPlace says that the process itself ran the suspicious parent's program before.
	InPlace bool     `json:"in_place,omitempty"`
	Parents []parent `json:"parents,omitempty"`
	// Score is the surprise of a chain in bits.
	Score float64 `json:"score,omitempty"`

	// SourceIP is the listed address a process talks to, whoever began.
	SourceIP   string `json:"source_ip,omitempty"`
	RemotePort int    `json:"remote_port,omitempty"`
	LocalIP    string `json:"local_ip,omitempty"`
	LocalPort  int    `json:"local_port,omitempty"`
	Protocol   string `json:"protocol,omitempty"`
	Indicator  string `json:"indicator,omitempty"`

	// Suppressed is how many alerts like this one were left out before it; Lost how many did not find room in the spool.
	Suppressed uint64 `json:"suppressed,omitempty"`
	Lost       uint64 `json:"lost,omitempty"`
	Method     string `json:"method,omitempty"`
}

// parent is one ancestor, the nearest first.
type parent struct {
	PID    int    `json:"pid"`
	Exe    string `json:"exe,omitempty"`
	Script string `json:"script,omitempty"`
}

// marshal returns the alert in one line.
func (d *document) marshal() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(d); err != nil {
		return nil, fmt.Errorf("write an alert: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// AlertID returns the id of an alert made by a Sensor: 32 lower-case hex digits that stay the same when it is sent again; "" when doc
// is none. It suits the alert id of a stream's publisher.
func AlertID(doc []byte) string {
	var d struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(doc, &d) != nil || len(d.ID) != alertIDLength {
		return ""
	}
	return d.ID
}

// alertID derives the id from what happened: the same start on the same machine has the same one.
func alertID(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(p)))
		h.Write(size[:])
		h.Write([]byte(p))
	}
	return hex.EncodeToString(h.Sum(nil))[:alertIDLength]
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// pathShown is a path for the field a task may take it from: absolute, or absent.
func pathShown(path string) string {
	if !filepath.IsAbs(path) || len(path) > maxShownPath {
		return ""
	}
	return clean(path, maxShownPath)
}

// clean makes text from outside valid UTF-8 without NUL, cut to limit bytes.
func clean(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
		// A cut in the middle of a character takes that character out.
		for i := 0; i < utf8.UTFMax && !utf8.ValidString(s); i++ {
			s = s[:len(s)-1]
		}
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// shown makes text from outside fit for the sentences of an alert: quoted as soon as a character is not printable.
func shown(s string) string {
	s = clean(s, maxShownName)
	if s == "" || strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) || c == '\'' }) {
		return strconv.Quote(s)
	}
	return "'" + s + "'"
}

// lineShown joins arguments by blanks, as people write them.
func lineShown(line []byte) string {
	return clean(strings.Join(arguments(line), " "), maxShownLine)
}

func (d *document) ancestors(p *process, first *image) {
	im := first
	for _, a := range p.ancestors(maxShownParents) {
		if im == nil {
			im = a.image
		}
		entry := parent{PID: a.pid}
		if im != nil {
			entry.Exe, entry.Script = pathShown(im.path), clean(im.script, maxShownPath)
		}
		d.Parents = append(d.Parents, entry)
		im = a.born
	}
}

func (d *document) connection(c connection, indicator netip.Prefix) {
	d.SourceIP, d.RemotePort = c.remote.Addr().WithZone("").String(), int(c.remote.Port())
	d.LocalIP, d.LocalPort = c.local.Addr().WithZone("").String(), int(c.local.Port())
	d.Protocol, d.Indicator = c.protocol, indicator.String()
	if indicator.IsSingleIP() {
		d.Indicator = indicator.Addr().String()
	}
}
