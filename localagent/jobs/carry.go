package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// begin lets the job run in this process. j.mu is held; the lock is released when the job has ended.
func (j *Jobs) begin(ctx context.Context, r Record, lock *files.Locked, work Work) {
	// The job outlives the order's place in the pipeline; Close and Cancel end it.
	own, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	live := &job{kind: r.Kind, record: r, cancel: cancel, ended: make(chan struct{})}
	j.live[r.ID] = live
	j.wg.Go(func() {
		defer cancel(nil)
		j.carryOut(own, live, lock, work)
	})
}

// carryOut runs the work when it is its turn and writes down what became of it.
func (j *Jobs) carryOut(ctx context.Context, live *job, lock *files.Locked, work Work) {
	kept := false
	defer func() {
		if !kept {
			lock.Release()
		}
	}()
	var (
		detail string
		result any
		err    error
	)
	if goesOn(live.kind) {
		// A program works by itself; only who waits for it is here.
		detail, result, err = j.run(ctx, live, work)
	} else {
		select {
		case j.turn <- struct{}{}:
			detail, result, err = j.run(ctx, live, work)
			<-j.turn
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	if errors.Is(err, ErrGoesOn) {
		j.leave(live)
		return
	}
	if errors.Is(err, ErrNotBegun) {
		j.drop(live)
		return
	}
	live.mu.Lock()
	r := &live.record
	r.State, r.Detail, r.Note, r.Ended = bridge.StateDone, detail, "", j.cfg.Now().UTC()
	if err != nil {
		r.State, r.Detail = bridge.StateFailed, err.Error()
	}
	if result != nil {
		b, merr := json.Marshal(result)
		if merr != nil {
			j.cfg.Logger.Error("result of a job cannot be kept", "order", r.ID, "err", merr)
		}
		r.Result = b
	}
	*r = r.short()
	ended := *r
	live.mu.Unlock()
	if err != nil {
		j.cfg.Logger.Warn("job failed", "order", ended.ID, "task", string(ended.Kind), "err", err)
	}
	if werr := j.write(ended); werr != nil {
		j.cfg.Logger.Error("end of a job was not written down, it is tried again", "order", ended.ID, "err", werr)
		kept = true
		j.keep(live, ended, lock)
		return
	}
	j.forget(live)
}

// leave writes down how far the job is and forgets it.
func (j *Jobs) leave(live *job) {
	if err := j.write(live.now()); err != nil {
		j.cfg.Logger.Warn("progress of a job was not written down", "order", live.record.ID, "err", err)
	}
	j.forget(live)
}

// drop removes the record of a job that never began.
func (j *Jobs) drop(live *job) {
	if err := os.Remove(j.file(live.record.ID)); err != nil {
		j.cfg.Logger.Warn("record of a job that did not begin was not removed", "order", live.record.ID, "err", err)
	}
	j.forget(live)
}

func (j *Jobs) forget(live *job) {
	j.mu.Lock()
	delete(j.live, live.record.ID)
	j.mu.Unlock()
	close(live.ended)
}

// run does the work; a panic of it is a failure of the job and of nothing else.
func (j *Jobs) run(ctx context.Context, live *job, work Work) (detail string, result any, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the work broke off: %v", v)
			if note := live.now().Note; note != "" {
				err = fmt.Errorf("%s; %w", note, err)
			}
		}
	}()
	var told time.Time
	return work(ctx, func(text string) {
		live.mu.Lock()
		live.record.Detail = text
		if live.record.Note != "" {
			live.record.Detail = live.record.Note + "; " + text
		}
		r := live.record
		live.mu.Unlock()
		if now := j.cfg.Now(); now.Sub(told) >= tellEvery {
			told = now
			if err := j.write(r); err != nil {
				j.cfg.Logger.Warn("progress of a job was not written down", "order", r.ID, "err", err)
			}
		}
	})
}

// Note writes down what a job of this process is about to change, or has changed: the text is on disk when it returns and stays in front of
// later progress. A job with a note that is broken off ends as unknown. The empty text takes the note back.
func (j *Jobs) Note(id, text string) error {
	j.mu.Lock()
	live := j.live[id]
	j.mu.Unlock()
	if live == nil {
		return ErrUnknown
	}
	live.mu.Lock()
	live.record.Note = text
	if text != "" {
		live.record.Detail = text
	}
	r := live.record
	live.mu.Unlock()
	if err := j.write(r); err != nil {
		return fmt.Errorf("write down what the job changes: %w", err)
	}
	return nil
}
