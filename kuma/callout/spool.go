package callout

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

var (
	// ErrSpoolFull says that the spool directory holds as many calls as it may: nobody takes them up. The call was not kept.
	ErrSpoolFull = errors.New("the spool directory is full: the bridge does not take calls up")
	// ErrSpoolForeign marks an entry of the spool directory that is no whole call: it is to be put aside and never carried out.
	ErrSpoolForeign = errors.New("not a whole call")
)

const (
	// SpoolBad is the folder of the spool directory for what is put aside.
	SpoolBad = "bad"
	// SpoolTemp is how the names of unfinished files begin.
	SpoolTemp = ".tmp"

	spoolMaxFiles = 10_000
	spoolMaxBytes = 256 << 20
	spoolSuffix   = ".json"
	spoolDigits   = 19 // of nanoseconds since 1970, until the year 2286
	// spoolFileMode lets the group of the directory read: the writer is user kuma, the reader the bridge's user.
	spoolFileMode = 0o640
	// spoolDirMode hands the group of the directory on to its files, and lets nobody remove the files of others but the directory's owner.
	spoolDirMode = 0o3770 // as for mkdir(2): S_ISGID, S_ISVTX
	// spoolTorn is after what time an unfinished file counts as left behind; spoolMaxBad how many files are kept aside.
	spoolTorn   = time.Minute
	spoolMaxBad = 1000
)

// SpoolLimits say when a spool directory is full. Writers that come at the same instant may go over by one call each.
type SpoolLimits struct {
	// Files is how many calls may wait, 0 = 10,000; Bytes how large they may be together, 0 = 256 MiB.
	Files int
	Bytes int64
}

func (l SpoolLimits) filled() SpoolLimits {
	return SpoolLimits{Files: cmp.Or(l.Files, spoolMaxFiles), Bytes: cmp.Or(l.Bytes, spoolMaxBytes)}
}

// SpoolName is what the name of a spooled file says: when the call was made, its id and how many bytes the document has. So names sort by
// age, the size of a directory is known from its names, and a file that was cut off does not fit its name.
type SpoolName struct {
	// At is when the call was made, in nanoseconds since 1970; ID its id; Size the length of its document in bytes.
	At   int64
	ID   string
	Size int64
}

// String returns the name: TIME-ID-SIZE.json, the time with 19 digits.
func (n SpoolName) String() string {
	return fmt.Sprintf("%0*d-%s-%d%s", spoolDigits, n.At, n.ID, n.Size, spoolSuffix)
}

// ParseSpoolName reads the name of a file; ok is false for what String does not write.
func ParseSpoolName(name string) (n SpoolName, ok bool) {
	rest, ok := strings.CutSuffix(name, spoolSuffix)
	at, rest, ok2 := strings.Cut(rest, "-")
	last := strings.LastIndexByte(rest, '-')
	if !ok || !ok2 || last < 0 || len(at) != spoolDigits {
		return n, false
	}
	var err error
	if n.At, err = strconv.ParseInt(at, 10, 64); err != nil {
		return n, false
	}
	n.ID = rest[:last]
	if n.Size, err = strconv.ParseInt(rest[last+1:], 10, 64); err != nil || n.Size < 0 {
		return n, false
	}
	// Only the one spelling: +5 and 007 are numbers too.
	return n, callIsID(n.ID) && n.String() == name
}

// Spool keeps a call in the spool directory until a bridge takes it up. When it returns nil the call is on disk, whole; killed
// at any instant it leaves the whole call or none. It blocks for the time of two syncs. The error wraps ErrSpoolFull when there is no room, and
// errors.ErrUnsupported where the system is not Linux.
func Spool(dir string, limits SpoolLimits, call Call) error {
	doc, err := call.MarshalJSON()
	if err != nil {
		return err
	}
	if err := call.check(); err != nil {
		return err
	}
	if len(doc) > MaxCallBytes {
		return fmt.Errorf("the call is %d bytes long, allowed are %d", len(doc), MaxCallBytes)
	}
	if err := spoolCall(dir, limits.filled(), SpoolName{call.At.UnixNano(), call.ID, int64(len(doc))}, doc); err != nil {
		return fmt.Errorf("spool %s: %w", dir, err)
	}
	return nil
}

func spoolCall(path string, limits SpoolLimits, name SpoolName, doc []byte) (err error) {
	d, err := OpenSpool(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.room(limits, int64(len(doc))); err != nil {
		return err
	}
	return d.write(name.String(), doc)
}

// room reports whether a call of the size has a place.
func (d *SpoolDir) room(limits SpoolLimits, size int64) error {
	names, err := d.names(limits.Files)
	if err != nil {
		return err
	}
	total := size
	for _, name := range names {
		if n, ok := ParseSpoolName(name); ok {
			total += n.Size
		}
	}
	// What is no call counts as one: it takes the reader's time too.
	if len(names) >= limits.Files || total > limits.Bytes {
		return fmt.Errorf("%w (%d entries, %d MiB)", ErrSpoolFull, len(names), total>>20)
	}
	return nil
}
