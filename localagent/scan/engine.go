package scan

import (
	"context"
	"errors"
	"os"
	"time"
)

// State says what is known of a file after an engine was asked about it.
type State int

// The states. The zero value is the safe one: nobody vouches for the file.
const (
	Failed   State = iota // could not be looked at
	Skipped               // was not looked at whole, on purpose: too large, encrypted, a limit of the engine
	Clean                 // was looked at whole, nothing was found
	Infected              // a signature was found
)

// String returns the word used in results and logs.
func (s State) String() string {
	switch s {
	case Failed:
		return "failed"
	case Skipped:
		return "skipped"
	case Clean:
		return "clean"
	case Infected:
		return "infected"
	default:
		return "unknown"
	}
}

// Verdict is what an engine says about one file.
type Verdict struct {
	State State
	// Signature is what was found, fit for logs; empty unless the state is Infected.
	Signature string
	// Member is the place inside an archive, fit for logs; empty when the file itself is meant or the engine does not tell.
	Member string
	// Reason says why the file was skipped, in words of this program; empty in the other states.
	Reason string
}

// FileInfo describes the file an engine is asked about.
type FileInfo struct {
	// Path is for people only: the engine reads the open file and nothing else. It comes from outside.
	Path string
	// Size is in bytes.
	Size int64
}

// EngineInfo describes an engine.
type EngineInfo struct {
	// Name is "clamd" or "built-in".
	Name string
	// Version is the engine's own, fit for logs.
	Version string
	// Signatures says which signatures it has, fit for logs: the number of clamd's database, or how many were read.
	Signatures string
	// Date is when the signatures were made, or last written; zero = unknown.
	Date time.Time
	// MaxFile is the size in bytes above which the engine does not vouch for a file; 0 = it says so itself.
	MaxFile int64
	// Silent says that the engine calls files clean it did not look at whole because of its own limits: no container is clean then.
	Silent bool
	// Notes are what a reader of the result should know about the engine.
	Notes []string
}

// Engine looks at files.
type Engine interface {
	// Scan looks at the open file from its first byte to its last, wherever its offset stands, and blocks for that long. It
	// changes nothing, may be called by many goroutines at once, and ends soon after ctx. An error means that nothing is known
	// of the file; one that wraps ErrEngineGone means that asking about other files is in vain as well.
	Scan(ctx context.Context, f *os.File, info FileInfo) (Verdict, error)
	// Info says what the engine is. It blocks as long as the engine takes to answer.
	Info(ctx context.Context) (EngineInfo, error)
}

// ErrEngineGone says that the engine does not answer any more.
var ErrEngineGone = errors.New("the engine does not answer")

func clean() Verdict                { return Verdict{State: Clean} }
func skipped(reason string) Verdict { return Verdict{State: Skipped, Reason: reason} }
