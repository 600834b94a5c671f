package callout

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	spoolWorld = 0o002 // the bit that lets everybody write
	spoolKnown = unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NOCTTY
)

// SpoolDir is an open spool directory. All files are reached through it, so that nobody can put another one in its place.
type SpoolDir struct {
	file *os.File
	info unix.Stat_t
}

// MakeSpool makes the spool directory for the group its writers are in (the group's id, negative = that of this process): mode 03770,
// so that files belong to the group, everybody in it may write, and nobody else comes in. One that is there is put right.
func MakeSpool(path string, gid int) error {
	if err := unix.Mkdir(path, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return &fs.PathError{Op: "mkdir", Path: path, Err: err}
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|spoolKnown, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	file := os.NewFile(uintptr(fd), path)
	if gid >= 0 {
		err = file.Chown(-1, gid)
	}
	if err == nil {
		err = unix.Fchmod(fd, spoolDirMode) // after the owner: chown(2) may clear the bit
	}
	return errors.Join(err, file.Close())
}

// OpenSpool opens a spool directory and refuses one everybody may write to and remove from. Errors wrap errors.ErrUnsupported where
// the system is not Linux.
func OpenSpool(path string) (*SpoolDir, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|spoolKnown, 0)
	if err != nil {
		return nil, err
	}
	d := &SpoolDir{file: os.NewFile(uintptr(fd), path)}
	if err := unix.Fstat(fd, &d.info); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if d.info.Mode&spoolWorld != 0 && d.info.Mode&unix.S_ISVTX == 0 {
		return nil, errors.Join(errors.New("everybody may write to it: chmod 3770"), d.Close())
	}
	return d, nil
}

// Close closes the directory.
func (d *SpoolDir) Close() error { return d.file.Close() }

func (d *SpoolDir) fd() int { return int(d.file.Fd()) }

// Public reports whether everybody may write to the directory, sticky or not.
func (d *SpoolDir) Public() bool { return d.info.Mode&spoolWorld != 0 }

// InPlace returns an error when writers who open the path do not find this directory.
func (d *SpoolDir) InPlace() error {
	var st unix.Stat_t
	if err := unix.Lstat(d.file.Name(), &st); err != nil {
		return err
	}
	if st.Dev != d.info.Dev || st.Ino != d.info.Ino {
		return errors.New("another directory was put in its place")
	}
	return nil
}

// Names lists the entries in no order, at most twice as many as may wait.
func (d *SpoolDir) Names() ([]string, error) { return d.names(2 * spoolMaxFiles) }

// names lists up to limit entries in no order.
func (d *SpoolDir) names(limit int) ([]string, error) {
	if _, err := d.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	names, err := d.file.Readdirnames(limit)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, err
}

// write makes the file appear whole or not at all: it has no name before its bytes are on disk.
func (d *SpoolDir) write(name string, doc []byte) error {
	fd, err := unix.Openat(d.fd(), ".", unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err == nil {
		file := os.NewFile(uintptr(fd), name)
		err = d.fill(file, doc)
		if err == nil {
			// open(2): the way that needs no privilege.
			err = unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), d.fd(), name, unix.AT_SYMLINK_FOLLOW)
		}
		err = errors.Join(err, file.Close())
	}
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ENOENT) {
		err = d.writeNamed(name, doc) // a file system without unnamed files, or no /proc
	}
	if err != nil {
		return err
	}
	return d.file.Sync()
}

// writeNamed is write with a temporary name, which a kill may leave behind.
func (d *SpoolDir) writeNamed(name string, doc []byte) error {
	temp := SpoolTemp + name
	fd, err := unix.Openat(d.fd(), temp, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|spoolKnown, 0o600)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), temp)
	err = errors.Join(d.fill(file, doc), file.Close())
	if err == nil {
		err = unix.Renameat(d.fd(), temp, d.fd(), name)
	}
	if err != nil {
		return errors.Join(err, unix.Unlinkat(d.fd(), temp, 0))
	}
	return nil
}

// fill writes and syncs the document with the mode and group its reader needs, whatever the umask is.
func (d *SpoolDir) fill(file *os.File, doc []byte) error {
	if _, err := file.Write(doc); err != nil {
		return err
	}
	if d.info.Mode&unix.S_ISGID == 0 {
		_ = file.Chown(-1, int(d.info.Gid)) // works for members of the group; the reader says so if it cannot read
	}
	if err := file.Chmod(spoolFileMode); err != nil {
		return err
	}
	return file.Sync()
}

// Read returns the document of a file written by one of the user ids (nil = by anybody). The error wraps ErrSpoolForeign for what is no whole call: links, devices, files that do
// not fit their name, are too large, or were written by somebody who may not call.
func (d *SpoolDir) Read(name string, want SpoolName, writers []uint32) ([]byte, error) {
	// Opening a device or a pipe may have an effect: look first.
	var st unix.Stat_t
	if err := unix.Fstatat(d.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, err
	}
	if err := spoolCheck(&st, want, writers); err != nil {
		return nil, err
	}
	fd, err := unix.Openat(d.fd(), name, unix.O_RDONLY|unix.O_NONBLOCK|spoolKnown, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%w: it is a link", ErrSpoolForeign)
	}
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), name)
	defer func() { _ = file.Close() }()
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if err := spoolCheck(&st, want, writers); err != nil {
		return nil, err
	}
	doc, err := io.ReadAll(io.LimitReader(file, want.Size+1))
	if err != nil {
		return nil, err
	}
	if int64(len(doc)) != want.Size {
		return nil, fmt.Errorf("%w: it has %d bytes, its name says %d", ErrSpoolForeign, len(doc), want.Size)
	}
	return doc, nil
}

func spoolCheck(st *unix.Stat_t, want SpoolName, writers []uint32) error {
	what := ""
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		what = "it is no file"
	case st.Nlink != 1:
		what = "it has more than one name"
	case st.Mode&spoolWorld != 0:
		what = "everybody may write to it"
	case st.Size > MaxCallBytes:
		what = "it is too large"
	case st.Size != want.Size:
		what = fmt.Sprintf("it has %d bytes, its name says %d", st.Size, want.Size)
	case len(writers) > 0 && !slices.Contains(writers, st.Uid):
		what = "it was written by user " + strconv.FormatUint(uint64(st.Uid), 10) + ", who may not call"
	default:
		return nil
	}
	return fmt.Errorf("%w: %s", ErrSpoolForeign, what)
}

// Remove takes a file away whose call is stored. That it is gone is not synced: a call that comes again has the same id.
func (d *SpoolDir) Remove(name string) error {
	err := unix.Unlinkat(d.fd(), name, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// Torn reports whether an unfinished file (SpoolTemp) was left behind by a writer that is gone.
func (d *SpoolDir) Torn(name string, now time.Time) bool {
	var st unix.Stat_t
	if err := unix.Fstatat(d.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false
	}
	return st.Mode&unix.S_IFMT != unix.S_IFREG || now.Sub(time.Unix(st.Mtim.Unix())) > spoolTorn
}

// SetAside moves an entry into the folder for what is not carried out (SpoolBad) and returns its name there. The oldest ones make room.
func (d *SpoolDir) SetAside(name string, now time.Time) (string, error) {
	if err := unix.Mkdirat(d.fd(), SpoolBad, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return "", err
	}
	fd, err := unix.Openat(d.fd(), SpoolBad, unix.O_RDONLY|unix.O_DIRECTORY|spoolKnown, 0)
	if err != nil {
		return "", fmt.Errorf("folder %s: %w", SpoolBad, err)
	}
	bad := &SpoolDir{file: os.NewFile(uintptr(fd), SpoolBad)}
	defer func() { _ = bad.Close() }()
	if err := unix.Fstat(fd, &bad.info); err != nil {
		return "", err
	}
	if owner := bad.info.Uid; owner != 0 && int(owner) != os.Geteuid() || bad.info.Mode&0o022 != 0 {
		return "", fmt.Errorf("folder %s belongs to somebody else or others may write to it", SpoolBad)
	}
	if err := bad.thin(); err != nil {
		return "", err
	}
	// Foreign names may hold anything: only what names a call is kept.
	kept := strconv.FormatInt(now.UnixNano(), 10) + ".foreign"
	if _, ok := ParseSpoolName(name); ok {
		kept = name
	} else if rest, unfinished := strings.CutPrefix(name, SpoolTemp); unfinished {
		if _, ok := ParseSpoolName(rest); ok {
			kept = rest + ".torn"
		}
	}
	if err := unix.Renameat(d.fd(), name, fd, kept); err != nil {
		return "", err
	}
	return SpoolBad + "/" + kept, nil
}

// thin removes the oldest files when there are too many; folders stay.
func (d *SpoolDir) thin() error {
	names, err := d.names(2 * spoolMaxBad)
	if err != nil || len(names) < spoolMaxBad {
		return err
	}
	oldest := names[0]
	for _, name := range names {
		oldest = min(oldest, name)
	}
	return unix.Unlinkat(d.fd(), oldest, 0)
}

// Watch makes woken receive when something appears in the directory. The function it returns ends that and waits for it.
func (d *SpoolDir) Watch(woken chan<- struct{}) (func(), error) {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	events := os.NewFile(uintptr(fd), "inotify")
	// Through the descriptor: the path may lead elsewhere by then.
	at := "/proc/self/fd/" + strconv.Itoa(d.fd())
	if _, err := unix.InotifyAddWatch(fd, at, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ONLYDIR); err != nil {
		return nil, errors.Join(err, events.Close())
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		buf := make([]byte, 16<<10) // many events; what they say does not matter
		for {
			if _, err := events.Read(buf); err != nil {
				return
			}
			select {
			case woken <- struct{}{}:
			default:
			}
		}
	})
	return func() { _ = events.Close(); reading.Wait() }, nil
}
