package files

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// putBackTries is how often a stray file is offered its old name: whoever swaps in a loop leaves it free now and then.
const putBackTries = 16

// Taken is a file that is out of everybody's reach: it stands in a stage under a name of ours. End it with Unlink or PutBack.
type Taken struct {
	p     *Pinned
	stage *Stage
	name  string
	flags uint32 // inode flags that were cleared
}

// At is where the file is at this moment.
func (t *Taken) At() string { return path.Join(t.stage.path, t.name) }

// Take renames the pinned file into the stage and looks afterwards whether it is the pinned file: a name that somebody swapped
// in between leads to a *StrayError (errors.Is ErrSwapped), and the other file is put back. Flags that forbid to move the file
// or to change its folder (chattr +i, +a) are taken away; those of the folder come back at once. After an error nothing is
// changed but what a StrayError says. Errors wrap fs.ErrNotExist, ErrSwapped, ErrReadOnly, ErrImmovable, or ErrNoStage when the
// stage does not fit after all.
func (p *Pinned) Take(stage *Stage, name string) (*Taken, error) {
	if err := p.Still(); err != nil {
		return nil, err
	}
	flags, err := clearFlags(int(p.File.Fd()))
	if err != nil {
		return nil, fmt.Errorf("%w: its flag immutable or append-only cannot be cleared: %w", ErrImmovable, err)
	}
	t, err := p.take(stage, name)
	if err != nil {
		return nil, errors.Join(err, setFlags(int(p.File.Fd()), flags))
	}
	t.flags = flags
	return t, nil
}

func (p *Pinned) take(stage *Stage, name string) (*Taken, error) {
	err := p.rename(stage, name)
	switch {
	case err == nil:
		return p.check(&Taken{p: p, stage: stage, name: name})
	case errors.Is(err, unix.EROFS):
		return nil, ErrReadOnly
	case errors.Is(err, unix.EBUSY):
		return nil, fmt.Errorf("%w: something is mounted on it: %w", ErrImmovable, err)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return nil, fmt.Errorf("%w: %w", ErrImmovable, err)
	case errors.Is(err, unix.EXDEV), errors.Is(err, unix.ENOENT) && p.Still() == nil:
		// A stage that another order has just removed is missing, too.
		return nil, fmt.Errorf("%w: %w", ErrNoStage, err)
	default:
		return nil, &fs.PathError{Op: "rename", Path: p.Path, Err: err}
	}
}

// rename moves whatever has the name into the stage, with the flags of the folder out of the way.
func (p *Pinned) rename(s *Stage, name string) error {
	return unflagged(p.dir, func() error { return renameIntoStage(p.dir, p.Name, s.fd, name) })
}

// unflagged runs act, and runs it again while the folder is neither immutable nor append-only when that forbade it.
func unflagged(dir int, act func() error) error {
	if err := act(); !errors.Is(err, unix.EPERM) {
		return err
	}
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	flags, err := clearFlags(fd)
	if err != nil || flags == 0 {
		return errors.Join(unix.EPERM, err)
	}
	return errors.Join(act(), setFlags(fd, flags))
}

// check looks whether the staged file is the pinned one.
func (p *Pinned) check(t *Taken) (*Taken, error) {
	st, _, err := statAt(t.stage.fd, t.name)
	if err == nil && st.ID == p.Stat.ID {
		return t, nil
	}
	if err != nil {
		// Which file it is cannot be told: it stays where nobody else can reach it.
		return nil, &StrayError{At: t.At(), Err: fmt.Errorf("look at it: %w", err)}
	}
	return nil, t.putStrayBack()
}

func (t *Taken) putStrayBack() error {
	var err error
	for range putBackTries {
		if err = t.back(t.p.Name); err == nil {
			return &StrayError{At: t.p.Path, Back: true}
		}
		if !errors.Is(err, unix.EEXIST) {
			break
		}
	}
	beside := t.p.Name[:min(len(t.p.Name), 200)] + ".edr-bridge-" + strings.ToLower(rand.Text()[:8])
	if t.back(beside) == nil {
		return &StrayError{At: path.Join(path.Dir(t.p.Path), beside), Err: err}
	}
	return &StrayError{At: t.At(), Err: err}
}

// back moves the staged file into the folder it comes from.
func (t *Taken) back(name string) error {
	return unflagged(t.p.dir, func() error { return renameNoReplace(t.stage.fd, t.name, t.p.dir, name) })
}

// PutBack gives the file its old name and its flags again. It answers ErrExists when the name is taken: then the file stays in
// the stage, and the error names the place.
func (t *Taken) PutBack() error {
	err := t.back(t.p.Name)
	if errors.Is(err, unix.EEXIST) {
		err = ErrExists
	}
	if err != nil {
		return fmt.Errorf("put %q back to %q: %w", t.At(), t.p.Path, err)
	}
	return errors.Join(setFlags(int(t.p.File.Fd()), t.flags), syncFD(t.p.dir))
}

// Unlink removes the file for good and makes that durable in both folders. It has no undo. The content lives on under other
// names (Stat.Links) and in the processes that hold it open (Holders).
func (t *Taken) Unlink() error {
	if err := unix.Unlinkat(t.stage.fd, t.name, 0); err != nil {
		return &fs.PathError{Op: "unlink", Path: t.At(), Err: err}
	}
	return errors.Join(syncFD(t.p.dir), syncFD(t.stage.fd))
}

// Remove removes the pinned file from a folder nobody else can write into, such as a stage. It has no undo.
func (p *Pinned) Remove() error {
	if err := p.Still(); err != nil {
		return err
	}
	if err := unix.Unlinkat(p.dir, p.Name, 0); err != nil {
		return &fs.PathError{Op: "unlink", Path: p.Path, Err: err}
	}
	return syncFD(p.dir)
}

// MoveTo gives the pinned file, which lies in a folder nobody else can write into, the path to on the same mount, and the
// inode flags immutable and append-only that are among flags. It answers ErrExists when the name is taken.
func (p *Pinned) MoveTo(to string, flags uint32) error {
	if err := p.Still(); err != nil {
		return err
	}
	if err := moveTo(p.dir, p.Name, to); err != nil {
		return err
	}
	return setFlags(int(p.File.Fd()), flags&holdingFlags)
}

// MoveOut gives whatever is at the path from, in a folder nobody else can write into, the path to on the same mount: a folder, a FIFO
// or a link as well. It answers ErrExists when the name is taken.
func MoveOut(from, to string) error {
	dir, base := split(from)
	fd, err := openPath(dir)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return moveTo(fd, base, to)
}

// moveTo moves name from the folder from to the path to.
func moveTo(from int, name, to string) error {
	dir, base := split(to)
	fd, err := openPath(dir)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	err = unflagged(fd, func() error { return renameNoReplace(from, name, fd, base) })
	if errors.Is(err, unix.EEXIST) {
		err = ErrExists
	}
	if err != nil {
		return fmt.Errorf("move %q to %q: %w", name, to, err)
	}
	return errors.Join(syncFD(fd), syncFD(from))
}

// renameIntoStage moves whatever has the name into a folder nobody else can write into. Filesystems without RENAME_NOREPLACE (NFS, 9p,
// some of FUSE) rename plainly: to link and unlink there would unlink what has the name by then, which nobody has looked at.
func renameIntoStage(fromDir int, from string, stage int, to string) error {
	err := noReplace(fromDir, from, stage, to)
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	if _, _, err := statAt(stage, to); !errors.Is(err, unix.ENOENT) {
		return errors.Join(unix.EEXIST, err)
	}
	return unix.Renameat(fromDir, from, stage, to)
}

// renameNoReplace moves a name out of a folder nobody else can write into, and replaces nothing. Filesystems without RENAME_NOREPLACE
// link and unlink.
func renameNoReplace(fromDir int, from string, toDir int, to string) error {
	err := noReplace(fromDir, from, toDir, to)
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	if err := unix.Linkat(fromDir, from, toDir, to, 0); err != nil {
		return err
	}
	return unix.Unlinkat(fromDir, from, 0)
}

// noReplace is renameat2(2) with RENAME_NOREPLACE.
func noReplace(fromDir int, from string, toDir int, to string) error {
	for {
		if err := unix.Renameat2(fromDir, from, toDir, to, unix.RENAME_NOREPLACE); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// syncFD makes the names in a directory durable that is held by O_PATH.
func syncFD(dir int) error {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Fsync(fd); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}
