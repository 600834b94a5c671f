package prevention

import (
	"time"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// Outcome says what became of an execution, or of an open, a rule is about.
type Outcome string

// The outcomes. All but Denied went on.
const (
	Denied    Outcome = "denied"    // it failed with EPERM
	Logged    Outcome = "logged"    // the mode is LogOnly
	Broken    Outcome = "broken"    // the breaker stopped the rule: it denied too many different files within a second
	Shielded  Outcome = "shielded"  // the file is protected; the rule has to go
	Own       Outcome = "own"       // the agent itself started it
	Undecided Outcome = "undecided" // nobody knew in time whether a rule is about the file
)

// Denial is one execution, or open, a rule is about. Its texts are those of the system and of strangers: show them through
// verdict.Shown.
type Denial struct {
	Time    time.Time
	Outcome Outcome
	// Open says that the file was opened for reading (by an interpreter, a loader, a viewer), not executed.
	Open bool
	// Rule is the id of the rule, empty for Undecided.
	Rule string
	// Path is what the kernel calls the file: absolute, as seen by the agent.
	Path string
	// MD5 and SHA256 are the digests of the file; what is not known is empty.
	MD5, SHA256 string
	File        files.ID
	Caller      Caller
	// Why says in words what Outcome does not: the entry that protects the file, what took too long.
	Why string
}

// Caller is the process that wanted to execute or open a file, as it was at that moment: it had not become the file yet.
type Caller struct {
	PID, PPID int
	// Start is when it began, in clock ticks since boot (proc_pid_stat(5), field 22); zero = it was gone before anybody looked.
	Start uint64
	// UID is its effective user.
	UID uint32
	// Exe is its image, Cmdline its arguments joined by blanks, at most 4 KiB; empty = not known.
	Exe, Cmdline string
}

// Status is how the guard stands. Counters are those of the listener that runs, or of the last one.
type Status struct {
	Mode    Mode
	Running bool
	// Rules is how many are stored.
	Rules int
	// PID is the listener process, Since when it was ready; zero = none runs.
	PID   int
	Since time.Time
	// Filesystems are the mount points that are watched, Skipped those that are not, with the reason; at most 64 each.
	Filesystems, Skipped []string
	// Marks is how many single files are watched for opens as well, Known how many digests are remembered.
	Marks, Known int
	// Decisions counts the answers: Decided from memory, Hashed after reading the file, Timeouts let go because that took too
	// long, Busy let go because too many waited, Denials and Spared (a rule was about it and it went on).
	Decided, Hashed, Timeouts, Busy, Denials, Spared uint64
	// Dropped is how many reports were lost because nobody took them, or because the kernel's queue was full.
	Dropped uint64
	// Restarts is how often the listener ended by itself.
	Restarts int
	// LastError is the last thing that went wrong, in words.
	LastError string
	// Disabled says that the emergency switch is on, Breaker which rules deny nothing because it stopped them; empty = none.
	Disabled bool
	Breaker  string
	// Gaps are the executions the guard cannot prevent on this system, in words.
	Gaps []string
}
