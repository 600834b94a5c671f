package files

import (
	"errors"
	"fmt"
)

// stageName is the folder a file is taken into when the agent's own stage lies on another filesystem. It is made root-only in the
// mount point of the file's filesystem, where it is found again after a crash, and removed as soon as it is empty.
const stageName = ".edr-bridge-stage"

var (
	// ErrNoStage says that no root-only folder can be had on the filesystem of a file.
	ErrNoStage = errors.New("no root-only folder can be made on the filesystem of the file")
	// ErrImmovable says that the system forbids to move a file.
	ErrImmovable = errors.New("the system does not let the file go")
	// ErrReadOnly says that a filesystem is mounted read-only.
	ErrReadOnly = errors.New("the filesystem is mounted read-only: mount it writable and order again")
	// ErrExists says that a name is taken; nothing was overwritten.
	ErrExists = errors.New("the name is taken, and nothing is ever overwritten")
	// ErrAtRestart says that a file is in use and that the system removes it when the machine starts again.
	ErrAtRestart = errors.New("the file is in use: it goes when the machine starts again")
)

// RestartError says where a file is until the machine starts again, when the system removes it.
type RestartError struct {
	At string
}

// Error says what will happen, and where the file is until then.
func (e *RestartError) Error() string {
	return fmt.Sprintf("%v, until then it is %q", ErrAtRestart, e.At)
}

// Is reports that the error is an ErrAtRestart.
func (e *RestartError) Is(target error) bool { return target == ErrAtRestart }

// StrayError says that Take got hold of another file, which somebody had put at the name in that moment, or of one it could not look
// at, and where that file is.
type StrayError struct {
	// At is where the other file is: its old path when it could be put back.
	At string
	// Back says that it is at its old path again.
	Back bool
	// Err is why it could not be put back.
	Err error
}

// Error says what happened and where the other file is.
func (e *StrayError) Error() string {
	if e.Back {
		return "another file stood at the name and was put back"
	}
	return fmt.Sprintf("a file that was not the one that was meant could not be put back (%v) and is kept as %s", e.Err, e.At)
}

// Is reports that the error is an ErrSwapped.
func (e *StrayError) Is(target error) bool { return target == ErrSwapped }

// Unwrap returns why the file could not be put back.
func (e *StrayError) Unwrap() error { return e.Err }
