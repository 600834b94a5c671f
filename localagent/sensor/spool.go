package sensor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

const (
	// segments is in how many files the spool is cut: a file goes when all its alerts are settled, and no earlier file is left.
	segments      = 8
	segmentPrefix = "alerts-"
	segmentSuffix = ".spool"
	lockName      = "lock"
	// settledReserve is how much of the spool is kept for the records that settle what is in it.
	settledReserve = 16
)

// errSpoolFull says that there is no room for one more alert.
var errSpoolFull = errors.New("the spool is full")

// spool keeps alerts on disk from the moment they are made until they are settled. An alert that was written outlives this process; it
// outlives the machine once sync was called. It is not safe for several goroutines.
type spool struct {
	dir   string
	limit int64
	lock  *files.Locked
	files []*segment // oldest first; the last is written to
	size  int64
	buf   []byte
	// damaged is how many bytes could not be read when the spool was opened.
	damaged int64
}

// segment is one file of the spool.
type segment struct {
	number uint64
	file   *os.File
	size   int64
	open   int // alerts in it that are not settled
}

// spooled is an alert in the spool.
type spooled struct {
	number uint64
	in     *segment
	at     int64
	size   int
}

// openSpool opens the spool and returns what is not settled, oldest first. Only one spool at a time has a folder.
func openSpool(dir string, limit int64) (*spool, []spooled, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("spool: %w", err)
	}
	lock, err := files.LockFile(filepath.Join(dir, lockName))
	if errors.Is(err, files.ErrLocked) {
		err = fmt.Errorf("another program uses it, give each its own folder: %w", err)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("spool %s: %w", dir, err)
	}
	s := &spool{dir: dir, limit: limit, lock: lock}
	list, err := s.recover()
	if err != nil {
		return nil, nil, fmt.Errorf("spool: %w", errors.Join(err, s.close()))
	}
	return s, list, nil
}

func (s *spool) recover() ([]spooled, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), segmentPrefix)
		name, isSegment := strings.CutSuffix(name, segmentSuffix)
		if n, err := strconv.ParseUint(name, 10, 64); ok && isSegment && err == nil && e.Type().IsRegular() {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	alive := map[uint64]spooled{}
	for _, n := range numbers {
		g, err := s.openSegment(n, os.O_RDWR)
		if err != nil {
			return nil, err
		}
		s.files = append(s.files, g)
		if err := s.read(g, alive); err != nil {
			return nil, err
		}
	}
	list := make([]spooled, 0, len(alive))
	for _, a := range alive {
		a.in.open++
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b spooled) int {
		if a.number < b.number {
			return -1
		}
		return 1
	})
	return list, s.drop()
}

// read goes through one file. What is behind a damaged record cannot be told apart and is cut off.
func (s *spool) read(g *segment, alive map[uint64]spooled) error {
	info, err := g.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() > 2*s.limit+maxRecord {
		return fmt.Errorf("%s has %d bytes, far more than the limit: move it away", g.file.Name(), info.Size())
	}
	b := make([]byte, info.Size())
	if n, err := g.file.ReadAt(b, 0); err != nil && int64(n) != info.Size() {
		return err
	}
	for int(g.size) < len(b) {
		r, size, ok := readRecord(b[g.size:])
		if !ok {
			s.damaged += int64(len(b)) - g.size
			if err := g.file.Truncate(g.size); err != nil {
				return err
			}
			break
		}
		switch r.kind {
		case recordAlert:
			alive[r.number] = spooled{r.number, g, g.size, size}
		case recordSettled:
			delete(alive, r.number)
		}
		g.size += int64(size)
	}
	s.size += g.size
	return nil
}

func (s *spool) openSegment(number uint64, flags int) (*segment, error) {
	name := filepath.Join(s.dir, fmt.Sprintf("%s%016d%s", segmentPrefix, number, segmentSuffix))
	f, err := os.OpenFile(name, flags, 0o600) //nolint:gosec // the settings name the folder
	if err != nil {
		return nil, err
	}
	return &segment{number: number, file: f}, nil
}

// put writes one alert; errSpoolFull when there is no room.
func (s *spool) put(number uint64, body []byte) (spooled, error) {
	if len(body) == 0 || len(body) > maxRecord {
		return spooled{}, fmt.Errorf("an alert of %d bytes does not fit into the spool", len(body))
	}
	size := int64(len(body) + recordHead)
	if s.size+size > s.limit-s.limit/settledReserve {
		return spooled{}, errSpoolFull
	}
	g, err := s.last()
	if err != nil {
		return spooled{}, err
	}
	at, err := s.write(g, record{recordAlert, number, body})
	if err != nil {
		return spooled{}, err
	}
	g.open++
	return spooled{number, g, at, int(size)}, nil
}

// last returns the file to write to.
func (s *spool) last() (*segment, error) {
	next := uint64(1)
	if n := len(s.files); n > 0 {
		g := s.files[n-1]
		if g.size < s.limit/segments {
			return g, nil
		}
		next = g.number + 1
	}
	g, err := s.openSegment(next, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	s.files = append(s.files, g)
	return g, nil
}

func (s *spool) write(g *segment, r record) (int64, error) {
	s.buf = r.append(s.buf[:0])
	at := g.size
	if _, err := g.file.WriteAt(s.buf, at); err != nil {
		// Half a record would hide what is written behind it.
		return 0, errors.Join(fmt.Errorf("spool: %w", err), g.file.Truncate(at))
	}
	g.size += int64(len(s.buf))
	s.size += int64(len(s.buf))
	return at, nil
}

// body reads an alert again.
func (s *spool) body(a spooled) ([]byte, error) {
	b := make([]byte, a.size)
	if _, err := a.in.file.ReadAt(b, a.at); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	r, _, ok := readRecord(b)
	if !ok || r.number != a.number {
		return nil, fmt.Errorf("spool: an alert in %s is damaged", a.in.file.Name())
	}
	return r.body, nil
}

// settle notes that an alert needs not be kept any more.
func (s *spool) settle(a spooled) error {
	a.in.open--
	g := s.files[len(s.files)-1]
	if len(s.files) == 1 && g.open == 0 && g.size >= s.limit/segments/2 {
		// Nothing is left: to empty the file is the shorter way to say so.
		if err := g.file.Truncate(0); err != nil {
			return fmt.Errorf("spool: %w", err)
		}
		s.size, g.size = s.size-g.size, 0
		return nil
	}
	if _, err := s.write(g, record{kind: recordSettled, number: a.number}); err != nil {
		return err
	}
	return s.drop()
}

// drop removes files from the oldest on, as long as nothing in them is needed: a later file may settle alerts of an earlier one.
func (s *spool) drop() error {
	for len(s.files) > 1 && s.files[0].open == 0 {
		g := s.files[0]
		if err := errors.Join(g.file.Close(), os.Remove(g.file.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("spool: %w", err)
		}
		s.size -= g.size
		s.files = s.files[1:]
	}
	return nil
}

// sync makes what was written outlive the machine.
func (s *spool) sync() error {
	var errs []error
	for _, g := range s.files {
		errs = append(errs, g.file.Sync())
	}
	return errors.Join(append(errs, files.SyncDir(s.dir))...)
}

func (s *spool) close() error {
	var errs []error
	for _, g := range s.files {
		errs = append(errs, g.file.Close())
	}
	s.files = nil
	if s.lock != nil {
		s.lock.Release()
		s.lock = nil
	}
	return errors.Join(errs...)
}
