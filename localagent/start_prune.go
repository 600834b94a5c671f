package localagent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

const (
	// filePruneLock lets one process at a time remove folders. Like prunedPrefix it is no order id, which has no dots.
	filePruneLock = ".prune-lock"
	// prunedPrefix begins the names of folders that are being removed.
	prunedPrefix = ".pruned-"
)

// Prune removes the folders of programs that ended longer ago than keep, their outputs and records with them, and returns how many. A
// program nobody saw the end of counts as ended when its time was over, once its process is gone. Programs that run or may run, what
// they left running under their number, and records that cannot be read stay; the latter are errors, which do not keep the others.
//
// An order whose folder is removed can be started again: keep must be longer than orders come again for. It does nothing while another
// process prunes. keep must not be negative.
func (l *Launcher) Prune(keep time.Duration) (int, error) {
	if keep < 0 {
		return 0, fmt.Errorf("prune programs: keep: %s must not be negative", keep)
	}
	entries, err := os.ReadDir(l.cfg.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("prune programs: %w", err)
	}
	lock, err := files.LockFile(filepath.Join(l.cfg.Dir, filePruneLock))
	if errors.Is(err, files.ErrLocked) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("prune programs: %w", err)
	}
	defer lock.Release()
	removed := 0
	var errs []error
	for _, e := range entries {
		switch name := e.Name(); {
		case !e.IsDir():
		case strings.HasPrefix(name, prunedPrefix):
			errs = append(errs, os.RemoveAll(filepath.Join(l.cfg.Dir, name)))
		case checkOrderID(name) == nil:
			ok, err := l.pruneOne(name, keep)
			if err != nil {
				errs = append(errs, fmt.Errorf("prune program %s: %w", name, err))
			}
			if ok {
				removed++
			}
		}
	}
	return removed, errors.Join(errs...)
}

// pruneOne removes the folder of an order, if it may go, and reports whether it is gone from its place.
func (l *Launcher) pruneOne(order string, keep time.Duration) (bool, error) {
	n, err := l.read(order)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // it may begin at this moment
	}
	if err != nil {
		return false, fmt.Errorf("its record: %w", err)
	}
	end, over := l.over(&n)
	if !over || l.cfg.Now().Sub(end) <= keep {
		return false, nil
	}
	// In one step, so that a crash leaves no folder without its record.
	away := filepath.Join(l.cfg.Dir, prunedPrefix+order)
	if err := errors.Join(os.RemoveAll(away), os.Rename(l.folder(order), away)); err != nil {
		return false, err
	}
	l.ungroup(&n)
	return true, os.RemoveAll(away)
}

// over returns since when a program is over at the latest; false when it runs or may run.
func (l *Launcher) over(n *note) (time.Time, bool) {
	if n.PID != 0 {
		p, err := l.attach(n)
		if err == nil {
			ended := p.ended()
			p.close()
			return n.Ended, ended && !n.Ended.IsZero()
		}
		if !errors.Is(err, errGone) {
			return time.Time{}, false
		}
	}
	switch {
	case !n.Ended.IsZero():
		return n.Ended, true
	case n.PID != 0, n.Boot != bootID():
		return n.Begun.Add(n.Limit), true
	default:
		return time.Time{}, false // whether it was started is not known
	}
}
