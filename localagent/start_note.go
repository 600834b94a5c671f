package localagent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

const (
	// noteVersion is that of the records; another one is refused.
	noteVersion = 1
	// maxNote bounds a record: its arguments are the longest in it.
	maxNote = 4 << 20
	// groupPrefix begins the names of control groups of programs.
	groupPrefix = "edr-bridge-program-"
)

// The files in the folder of a program.
const (
	fileNote   = "program.json"
	fileLock   = "lock"
	fileStdout = "stdout"
	fileStderr = "stderr"
)

// note is the record of one program. It is written before the program begins, when its process is known, and when it has ended.
type note struct {
	Version int    `json:"version"`
	Order   string `json:"order"`

	Path   string        `json:"path"`
	MD5    string        `json:"md5"`
	SHA256 string        `json:"sha256"`
	Args   []string      `json:"args,omitempty"`
	Folder string        `json:"folder,omitempty"`
	Limit  time.Duration `json:"limit"`
	Notes  []string      `json:"notes,omitempty"`

	// Boot is the id of the run of the kernel PID and Start belong to.
	Boot  string    `json:"boot,omitempty"`
	Begun time.Time `json:"begun"`
	// PID is 0 until the process is known.
	PID   int    `json:"pid,omitempty"`
	Start uint64 `json:"start,omitempty"`
	// Group is the folder of the control group, or empty.
	Group string `json:"group,omitempty"`

	// Failed says why the program could not be started.
	Failed string    `json:"failed,omitempty"`
	Ended  time.Time `json:"ended,omitzero"`
	Exit   *Exit     `json:"exit,omitempty"`
}

func (l *Launcher) folder(order string) string { return filepath.Join(l.cfg.Dir, order) }

// read returns the record of an order; errors.Is(err, fs.ErrNotExist) when there is none.
func (l *Launcher) read(order string) (note, error) {
	b, err := files.ReadOwn(filepath.Join(l.folder(order), fileNote), maxNote)
	if err != nil {
		return note{}, err
	}
	return parseNote(b, order)
}

func parseNote(b []byte, order string) (note, error) {
	var n note
	if err := json.Unmarshal(b, &n); err != nil {
		return note{}, err
	}
	switch {
	case n.Version != noteVersion:
		return note{}, fmt.Errorf("it has version %d, this program reads %d", n.Version, noteVersion)
	case n.Order != order:
		return note{}, errors.New("it belongs to another order")
	case n.PID < 0 || n.PID == 1 || n.PID > maxPID || (n.PID == 0) != (n.Start == 0) || n.PID != 0 && n.Begun.IsZero():
		return note{}, errors.New("it names no process of the agent")
	case n.Limit < 0 || n.Limit > maxTimeLimit:
		return note{}, fmt.Errorf("a time limit of %s is not between 0 and %s", n.Limit, maxTimeLimit)
	case n.Group != "" && (!filepath.IsAbs(n.Group) || filepath.Clean(n.Group) != n.Group || filepath.Base(n.Group) != groupPrefix+order):
		return note{}, errors.New("it names a control group that is not the program's")
	}
	return n, nil
}

func (l *Launcher) write(n note) error {
	n.Version = noteVersion
	b, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return files.WriteDurable(filepath.Join(l.folder(n.Order), fileNote), b, 0o600)
}

// tell writes what happened; the program runs or has ended whether or not that can be written down.
func (l *Launcher) tell(n note) {
	if err := l.write(n); err != nil {
		l.log.Error("record of a program was not written", "order", n.Order, "err", err)
	}
}

// forget removes the record of a program that was not started, so that it can be tried again.
func (l *Launcher) forget(n note) {
	if err := os.Remove(filepath.Join(l.folder(n.Order), fileNote)); err != nil {
		l.log.Error("record of a program was not removed", "order", n.Order, "err", err)
	}
	l.ungroup(&n)
}
