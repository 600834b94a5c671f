package jobs

import (
	"errors"
	"fmt"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// maxUnwritten is how many ends of jobs may wait for the disk before no other job begins. Those that run then may still end: what they found
// is left out, so that memory holds at most maxUnwritten results.
const maxUnwritten = 64

// unwritten is the end of a job that is not on disk. The lock, which is held meanwhile, keeps other processes from telling it as broken off.
type unwritten struct {
	record Record
	lock   *files.Locked
}

// keep takes over the end of a job that could not be written, and its lock.
func (j *Jobs) keep(live *job, ended Record, lock *files.Locked) {
	ended = ended.short()
	j.mu.Lock()
	if len(j.unwritten) >= maxUnwritten && ended.Result != nil {
		ended.Detail += "; what it found could not be kept, because the disk takes nothing"
		ended.Result = nil
	}
	j.unwritten[ended.ID] = &unwritten{ended, lock}
	delete(j.live, ended.ID)
	j.mu.Unlock()
	close(live.ended)
}

// writeAgain writes the ends that could not be written before. j.mu is held. It gives up at the first that fails, so that a broken disk costs
// every question one attempt; which comes first is left to chance, so that one that always fails keeps the others back for a while only.
func (j *Jobs) writeAgain() {
	for id, u := range j.unwritten {
		if err := j.write(u.record); err != nil {
			j.cfg.Logger.Debug("end of a job still cannot be written down", "order", id, "err", err)
			return
		}
		j.cfg.Logger.Info("end of a job was written down late", "order", id)
		u.release()
		delete(j.unwritten, id)
	}
}

// giveUp tries all of them a last time and gives their locks back.
func (j *Jobs) giveUp() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var errs []error
	for id, u := range j.unwritten {
		err := j.write(u.record)
		u.release()
		if err != nil {
			errs = append(errs, fmt.Errorf("end of job %s was not written down: %w", id, err))
			continue
		}
		delete(j.unwritten, id)
	}
	return errors.Join(errs...)
}

func (u *unwritten) release() {
	if u.lock != nil {
		u.lock.Release()
		u.lock = nil
	}
}

// waits reports whether the end of the job is not on disk.
func (j *Jobs) waits(id string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.unwritten[id] != nil
}
