package scan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	// maxFindings bounds the findings that are told one by one.
	maxFindings = 1000
	// maxGroups and maxExamples bound what is told of files that were not looked at.
	maxGroups, maxExamples = 32, 8
)

// Progress is how far a scan has come.
type Progress struct {
	// Done counts the files that are settled, Found those that were reached so far. Expected is how many there will be about; 0 =
	// not known yet.
	Done, Found, Expected int64
	// Bytes is the size of the files that were looked at, Findings how many are infected.
	Bytes, Findings int64
}

// Kind says what a finding is, and so what can be done about it.
type Kind string

// The kinds.
const (
	// KindFile is a file Path leads to.
	KindFile Kind = "file"
	// KindImage is the content of a process nobody can reach by a path: the file was deleted, or lives in memory only.
	KindImage Kind = "image"
	// KindRegion is the beginning of the disk or partition Path.
	KindRegion Kind = "region"
)

// Finding is one infected thing.
type Finding struct {
	Scope bridge.ScanType
	Kind  Kind
	// Path is as the system spells it: show it through verdict.Shown. Member is a place inside an archive, fit for logs, or
	// empty.
	Path, Member string
	// Signature is what was found, Engine who found it; both fit for logs.
	Signature, Engine string
	// MD5 and SHA256 are lower-case hex digests of the whole file, empty when it could not be read again.
	MD5, SHA256 string
	// Stat is the file that was looked at. To act on it, pin Path and compare Stat.ID and the digests.
	Stat files.Stat
	// Processes run this file or have it mapped as their image: PID, Start and Path are set.
	Processes []bridge.Process
	// Protected says why the file may not be touched; empty when it may.
	Protected string
}

// Group counts files that share a reason.
type Group struct {
	Reason string
	Count  int64
	// Examples are paths of the first eight, fit for logs.
	Examples []string
}

// ObjectState says what became of one scan object.
type ObjectState string

// The states of objects.
const (
	ObjectScanned     ObjectState = "scanned"
	ObjectDisabled    ObjectState = "disabled"        // not asked for
	ObjectNothing     ObjectState = "nothing to scan" // the machine has no such thing
	ObjectUnsupported ObjectState = "unsupported"     // the scope means nothing on this system
	ObjectFailed      ObjectState = "failed"          // see Detail
	ObjectNotReached  ObjectState = "not reached"     // the scan ended before, or in the middle of it
)

// ObjectResult is what became of one scan object.
type ObjectResult struct {
	Object bridge.ScanObject
	State  ObjectState
	// Detail says more in words, fit for logs; may be empty.
	Detail string
	// Found counts the files it led to that no object before it had.
	Found int64
}

// Result is what a scan saw.
type Result struct {
	Engine  EngineInfo
	Objects []ObjectResult
	// Found = Clean + Infected + sum of Skipped + sum of Failed + files that were not reached.
	Found, Clean, Infected int64
	// Bytes is the size of the files an engine looked at.
	Bytes int64
	// Findings are the first 1000 of Infected, in the order of their paths.
	Findings []Finding
	// Skipped were not looked at, or not whole, on purpose; Failed could not be. Neither is clean. Larger groups come first.
	Skipped, Failed []Group
	// Truncated says why the scan ended early; empty when it did not.
	Truncated      string
	Started, Ended time.Time
}

// Complete reports whether everything that was asked for was looked at whole.
func (r Result) Complete() bool {
	if r.Truncated != "" || len(r.Skipped) > 0 || len(r.Failed) > 0 {
		return false
	}
	for _, o := range r.Objects {
		if o.State == ObjectFailed || o.State == ObjectUnsupported || o.State == ObjectNotReached {
			return false
		}
	}
	return true
}

// Shorten cuts the list of findings, and of the processes of each, to their first entries.
func (r *Result) Shorten(most int) {
	r.Findings = r.Findings[:min(most, len(r.Findings))]
	for i := range r.Findings {
		f := &r.Findings[i]
		f.Processes = f.Processes[:min(most, len(f.Processes))]
	}
}

// String tells the result in a sentence or three, fit for a receipt.
func (r Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d files clean, %d infected, %d skipped, %d failed", r.Clean, r.Infected, total(r.Skipped), total(r.Failed))
	fmt.Fprintf(&b, " (%s %s, %s)", r.Engine.Name, r.Engine.Version, r.Engine.Signatures)
	if r.Truncated != "" {
		fmt.Fprintf(&b, "; ended early: %s, %d of the files found until then were not reached", r.Truncated, r.notReached())
	}
	if r.Infected > 0 {
		names := make([]string, 0, len(r.Findings))
		for _, f := range r.Findings {
			names = append(names, verdict.Shown(f.Path)+" ("+f.Signature+")")
		}
		fmt.Fprintf(&b, "; found %s", verdict.List(names))
	}
	for _, groups := range []struct {
		what string
		list []Group
	}{{"skipped", r.Skipped}, {"failed", r.Failed}} {
		if len(groups.list) > 0 {
			g := groups.list[0]
			fmt.Fprintf(&b, "; most %s: %s (%d", groups.what, g.Reason, g.Count)
			if len(g.Examples) > 0 {
				b.WriteString(", as " + g.Examples[0])
			}
			b.WriteString(")")
		}
	}
	for _, note := range r.Engine.Notes {
		b.WriteString("; " + note)
	}
	for _, o := range r.Objects {
		if o.State != ObjectScanned {
			fmt.Fprintf(&b, "; %s %s", objectName(o.Object), o.State)
			if o.Detail != "" {
				b.WriteString(": " + o.Detail)
			}
		}
	}
	return b.String()
}

func (r Result) notReached() int64 {
	return r.Found - r.Clean - r.Infected - total(r.Skipped) - total(r.Failed)
}

// unscanned returns an error that names the objects that failed; those the system does not have count only when nothing else was scanned.
func (r Result) unscanned() error {
	var failed, unsupported []string
	some := false
	for _, o := range r.Objects {
		switch o.State {
		case ObjectScanned, ObjectNothing, ObjectNotReached:
			some = true
		case ObjectFailed:
			failed = append(failed, objectName(o.Object)+": "+o.Detail)
		case ObjectUnsupported:
			unsupported = append(unsupported, objectName(o.Object)+": "+o.Detail)
		case ObjectDisabled:
		}
	}
	switch {
	case !some:
		return verdict.Hopeless("nothing could be scanned: %s", verdict.List(append(failed, unsupported...)))
	case len(failed) > 0:
		return verdict.Hopeless("not all could be scanned: %s", verdict.List(failed))
	default:
		return nil
	}
}

func objectName(o bridge.ScanObject) string {
	if o.Path != "" {
		return o.Type.String() + " " + verdict.Shown(o.Path)
	}
	return o.Type.String()
}

func total(groups []Group) int64 {
	n := int64(0)
	for _, g := range groups {
		n += g.Count
	}
	return n
}

// tally counts by reason.
type tally map[string]*Group

// add counts one file; where more reasons come than are told apart, the rest is one.
func (t tally) add(reason, path string) { t.addMany(reason, path, 1) }

func (t tally) addMany(reason, path string, n int64) {
	g := t[reason]
	if g == nil && len(t) >= maxGroups {
		reason = "other reasons"
		g = t[reason]
	}
	if g == nil {
		g = &Group{Reason: reason}
		t[reason] = g
	}
	g.Count += n
	if len(g.Examples) < maxExamples && path != "" {
		g.Examples = append(g.Examples, verdict.Shown(path))
	}
}

func (t tally) groups() []Group {
	out := make([]Group, 0, len(t))
	for _, g := range t {
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b Group) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Reason, b.Reason)) })
	return out
}
