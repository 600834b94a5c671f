package ioc

import (
	"fmt"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// Result is what a scan found. Its JSON form is stable, ASCII only, and has no null.
type Result struct {
	// Began and Ended are when, by the clock of Config.
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended"`
	// Matches are the documents that match, in the order of the archive.
	Matches []Match `json:"matches"`
	// Files are the files that take part in a match, for those who act on them. Programs of processes and services that match are
	// not among them: what a process was told to do is no reason to take its interpreter away.
	Files []Target `json:"files"`
	// MoreFiles counts records of files in matches that are not among Files; a file may count more than once.
	MoreFiles int64 `json:"more_files"`
	// Undecided are the ids of documents for which more combinations of true terms were seen than can be kept or tried: what
	// matches is right, but there may be more.
	Undecided []Text `json:"undecided"`
	// Report says what was not understood.
	Report Report `json:"report"`
	// Collected says what was looked at.
	Collected []Collected `json:"collected"`
	Counts    Counts      `json:"counts"`
	// Skipped says what was not looked at, or not hashed, and why.
	Skipped []Skipped `json:"skipped"`
	// Stopped says why the scan ended early, else empty.
	Stopped string `json:"stopped"`
}

// Complete reports whether everything in the scope was looked at, but for what Skipped names.
func (r *Result) Complete() bool {
	return r.Unseen() == nil && r.Stopped == "" && len(r.Undecided) == 0
}

// Unseen is an error that says which kinds could not be collected whole; nil when all could, or the scan reached a limit of its Config.
func (r *Result) Unseen() error {
	var errs []string
	for _, c := range r.Collected {
		if c.Error != "" {
			errs = append(errs, fmt.Sprintf("%s: %s", c.Kind, c.Error))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("not all could be looked at: %s", strings.Join(errs, "; "))
}

// Shorten cuts the lists of records, files and of what was left out to their first entries.
func (r *Result) Shorten(most int) {
	for i := range r.Matches {
		m := &r.Matches[i]
		cut := m.Records[min(most, len(m.Records)):]
		m.More += int64(len(cut))
		m.Records = m.Records[:len(m.Records)-len(cut)]
	}
	cut := r.Files[min(most, len(r.Files)):]
	r.MoreFiles += int64(len(cut))
	r.Files = r.Files[:len(r.Files)-len(cut)]
	for i := range r.Skipped {
		r.Skipped[i].Paths = r.Skipped[i].Paths[:min(most, len(r.Skipped[i].Paths))]
	}
}

// Match is a document that matches.
type Match struct {
	// ID, Name and Entry are those of the document.
	ID    Text `json:"id"`
	Name  Text `json:"name"`
	Entry Text `json:"entry"`
	// Terms are the terms that were true of an object in Records, or of one more.
	Terms []Hit `json:"terms"`
	// Records are the objects that take part in the match, the first Config.MaxRecords; More counts the others.
	Records []Record `json:"records"`
	More    int64    `json:"more"`
}

// Hit is a term that was true.
type Hit struct {
	// ID is the id of the term, may be empty.
	ID        Text `json:"id"`
	Search    Text `json:"search"`
	Condition Text `json:"condition"`
	Content   Text `json:"content"`
	// Objects is how many objects of the match it was true of.
	Objects int64 `json:"objects"`
}

// Record is one object.
type Record struct {
	Kind Kind `json:"kind"`
	// Fields are what is known of it, by the names OpenIOC has for them; a field may have several values.
	Fields map[string][]Text `json:"fields"`
	// Terms are the places of the terms of Match.Terms that are true of it.
	Terms []int `json:"terms"`

	target *Target
}

// Target is a file as it was when it was looked at.
type Target struct {
	// Path is the absolute path without links.
	Path Text `json:"path"`
	// Device and Inode are its files.ID.
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
	// Size is in bytes.
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
	// MD5 and SHA256 are lower-case hex; empty when the file could not be read whole, which Skipped tells.
	MD5    string `json:"md5"`
	SHA256 string `json:"sha256"`
	// Documents are the ids of the documents it takes part in.
	Documents []Text `json:"documents"`
}

// Identity returns device and inode.
func (t Target) Identity() files.ID { return files.ID{Dev: t.Device, Ino: t.Inode} }

// Collected is a kind that was collected.
type Collected struct {
	Kind    Kind  `json:"kind"`
	Objects int64 `json:"objects"`
	// Error says why not all of it could be collected, else empty.
	Error Text `json:"error"`
}

// Counts are numbers of a scan.
type Counts struct {
	// Files were looked at, in Folders. Hashed of them were read, which are Bytes.
	Files   int64 `json:"files"`
	Folders int64 `json:"folders"`
	Hashed  int64 `json:"hashed"`
	Bytes   int64 `json:"bytes"`
}

// Skipped is a reason why things were not looked at.
type Skipped struct {
	Why   string `json:"why"`
	Count int64  `json:"count"`
	// Paths are the first 16 of them, where they are known.
	Paths []Text `json:"paths"`
}

// Progress says how far a scan is.
type Progress struct {
	// Kind is what is collected at the moment.
	Kind Kind `json:"kind"`
	// Objects of all kinds were looked at.
	Objects int64  `json:"objects"`
	Counts  Counts `json:"counts"`
	// Elapsed is since the beginning.
	Elapsed time.Duration `json:"elapsed"`
}
