package files

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// stageTries is how many names a stage may have: somebody may have made a folder of the first name.
const stageTries = 3

// enterTries is how often a stage is made that others remove.
const enterTries = 100

// errOccupied says that something else has the name of the stage.
var errOccupied = errors.New("the name of the stage is taken")

// Stage is a root-only folder on the mount of a file, into which the file can be renamed: what is in there, nobody
// but root can swap any more. Close it.
type Stage struct {
	fd      int // for reading, with a shared lock when the stage is not the agent's own
	path    string
	parent  int // O_PATH; -1 for the agent's own stage
	foreign bool
}

// Path is where the stage is.
func (s *Stage) Path() string { return s.path }

// Close lets the stage go and removes it when it was made for a file, is empty, and nobody else uses it.
func (s *Stage) Close() error {
	if s.foreign {
		dropStage(s.parent, path.Base(s.path), s.fd)
		_ = unix.Close(s.parent)
	}
	return unix.Close(s.fd)
}

// DropStage removes the stage at the path, which a killed process left, when it is empty and nobody uses it.
func DropStage(name string) {
	parent, err := openPath(path.Dir(name))
	if err != nil {
		return
	}
	defer func() { _ = unix.Close(parent) }()
	fd, err := unix.Openat(parent, path.Base(name), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	dropStage(parent, path.Base(name), fd)
	_ = unix.Close(fd)
}

// dropStage removes the folder unless somebody else has its lock: a stage must not go between its opening and its use.
func dropStage(parent int, name string, fd int) {
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
		_ = unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
	}
}

// Stage opens the best stage the pinned file may be renamed into: own, when it lies on the same mount, else a folder in the mount
// point, else NearStage. own must exist. The error wraps ErrNoStage or ErrReadOnly.
func (p *Pinned) Stage(own string) (*Stage, error) {
	if err := p.Writable(); err != nil {
		return nil, err
	}
	s, err := p.ownStage(own)
	if err == nil {
		return s, nil
	}
	s, errMount := p.mountStage()
	if errMount == nil {
		return s, nil
	}
	s, errNear := p.NearStage()
	if errNear == nil {
		return s, nil
	}
	return nil, fmt.Errorf("%w: %w", ErrNoStage, errors.Join(err, errMount, errNear))
}

// NearStage opens a stage in the folder of the file, for when Take answers ErrNoStage: a mount can be divided further (btrfs
// subvolumes, project quotas, encryption: rename(2), EXDEV), a folder cannot.
func (p *Pinned) NearStage() (*Stage, error) {
	fd, err := unix.FcntlInt(uintptr(p.dir), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return p.makeStage(fd, path.Dir(p.Path))
}

// Writable answers ErrReadOnly for a file on a read-only mount.
func (p *Pinned) Writable() error {
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(p.File.Fd()), &s); err != nil {
		return fmt.Errorf("statfs: %w", err)
	}
	if s.Flags&unix.ST_RDONLY != 0 {
		return ErrReadOnly
	}
	return nil
}

func (p *Pinned) ownStage(own string) (*Stage, error) {
	fd, err := openPath(own)
	if err != nil {
		return nil, err
	}
	if err := p.fits(fd); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("own stage: %w", err)
	}
	return &Stage{fd: fd, path: own, parent: -1}, nil
}

func (p *Pinned) mountStage() (*Stage, error) {
	point, err := mountPoint(p.mount)
	if err != nil {
		return nil, err
	}
	fd, err := openPath(point)
	if err != nil {
		return nil, err
	}
	return p.makeStage(fd, point)
}

// makeStage makes a stage in the directory parent, which it takes over.
func (p *Pinned) makeStage(parent int, dir string) (*Stage, error) {
	var errs []error
	name := stageName
	for range stageTries {
		fd, err := p.enterStage(parent, name, dir)
		if err == nil {
			return &Stage{fd: fd, path: path.Join(dir, name), parent: parent, foreign: true}, nil
		}
		errs = append(errs, err)
		if !errors.Is(err, errOccupied) || errors.Is(err, unix.EXDEV) {
			break // another name leads to no other mount
		}
		name = stageName + "-" + strings.ToLower(rand.Text()[:8])
	}
	_ = unix.Close(parent)
	return nil, fmt.Errorf("stage in %q: %w", dir, errors.Join(errs...))
}

// enterStage makes the folder and takes its lock. Whoever used it before may remove it in between: then it is made again, but not for
// ever, because the owner of the folder around it may do that as well. What does not fit is removed when it was made here.
func (p *Pinned) enterStage(parent int, name, dir string) (int, error) {
	for range enterTries {
		made := true
		if err := unix.Mkdirat(parent, name, 0o700); errors.Is(err, unix.EEXIST) {
			made = false
		} else if err != nil {
			return -1, fmt.Errorf("mkdir: %w", err)
		}
		fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return -1, fmt.Errorf("%w: %w", errOccupied, &fs.PathError{Op: "open", Path: path.Join(dir, name), Err: err})
		}
		if err := p.fits(fd); err != nil {
			if made {
				dropStage(parent, name, fd)
			}
			_ = unix.Close(fd)
			return -1, fmt.Errorf("%w: %w", errOccupied, err)
		}
		if err := flockShared(fd); err != nil {
			_ = unix.Close(fd)
			return -1, err
		}
		if there, err := sameDir(parent, name, fd); err == nil && there {
			return fd, nil
		}
		_ = unix.Close(fd)
	}
	return -1, errors.New("somebody takes it away again and again")
}

func flockShared(fd int) error {
	for {
		if err := unix.Flock(fd, unix.LOCK_SH); !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("flock", err)
		}
	}
}

// sameDir reports whether the name still leads to the open folder.
func sameDir(parent int, name string, fd int) (bool, error) {
	at, _, err := statAt(parent, name)
	if err != nil {
		return false, err
	}
	open, _, err := statAt(fd, "")
	return err == nil && at.ID == open.ID, err
}

// fits reports why the open directory is no stage for the file: it must be on the file's mount and nobody else's.
func (p *Pinned) fits(fd int) error {
	st, mount, err := statAt(fd, "")
	switch {
	case err != nil:
		return err
	case !st.Perm.IsDir():
		return errors.New("not a directory")
	case mount != p.mount:
		return fmt.Errorf("another mount: %w", unix.EXDEV)
	case int(st.UID) != os.Geteuid() || st.Perm.Perm()&0o077 != 0:
		return errors.New("others may look or write into it")
	default:
		return nil
	}
}

// mountPoint finds a mount by its number.
func mountPoint(mount uint64) (string, error) {
	all, err := Mounts()
	if err != nil && !errors.Is(err, ErrMountsPartial) {
		return "", err
	}
	for _, m := range all {
		if uint64(m.ID) == mount { //nolint:gosec // the kernel's numbers are positive
			return m.Point, nil
		}
	}
	return "", errors.Join(fmt.Errorf("mount %d is not in /proc/self/mountinfo: %w", mount, fs.ErrNotExist), err)
}
