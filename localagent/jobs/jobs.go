package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	defaultAtOnce = 2
	// defaultKeep is how long ended jobs are remembered: longer than any order can still be looked for.
	defaultKeep = 30 * 24 * time.Hour
	// maxQueued bounds the scans that run or wait for their turn, maxPrograms the started programs that are waited for: each costs a goroutine
	// and an open lock file, and most of them hours.
	maxQueued   = 64
	maxPrograms = 1024
	// tellEvery is how often progress is written down; Follow answers from memory.
	tellEvery = 10 * time.Second
)

// ErrUnknown is returned for a job nobody has begun, or whose record was removed when its time was over.
var ErrUnknown = errors.New("no job of this order is known")

// ErrGoesOn is returned by Work for what goes on by itself although nobody waits for it any more: the job stays running and can be resumed.
var ErrGoesOn = errors.New("it goes on by itself")

// ErrNotBegun is returned by Work that found nothing begun and began nothing: the job is forgotten, as if nobody had begun it.
var ErrNotBegun = errors.New("nothing was begun")

// Cancelled reports whether ctx ended because a person cancelled the job.
func Cancelled(ctx context.Context) bool { return errors.Is(context.Cause(ctx), errCancelled) }

// errInterrupted is the cause of the end of jobs that a stop of the agent cut short.
var errInterrupted = errors.New("the agent was stopped")

// errCancelled is the cause of the end of jobs a person took back.
var errCancelled = errors.New("cancelled")

// Work does the job. It returns what became of it in words and what it found (marshalled to JSON; nil = nothing), or an error:
// then the job has failed. It may tell how far it is as often as it likes. It ends soon after ctx does.
type Work func(ctx context.Context, tell func(detail string)) (detail string, result any, err error)

// Config says where records are kept and how much goes on at once.
type Config struct {
	// Dir is the directory of the records, made when it is missing (0700). Required.
	Dir string
	// AtOnce is how many scans run at the same time, 1 to 16; the others wait. Zero = 2. Programs that were started run by themselves.
	AtOnce int
	// Keep is how long ended jobs are remembered; zero = 30 days.
	Keep time.Duration
	// Logger hears of jobs that fail; nil discards.
	Logger *slog.Logger
	// Now is the clock; nil = time.Now.
	Now func() time.Time
}

// Jobs carries out jobs, each once. It is safe for many goroutines, and several processes may share its directory.
type Jobs struct {
	cfg  Config
	turn chan struct{}

	// mu guards live, unwritten and closed.
	mu        sync.Mutex
	live      map[string]*job
	unwritten map[string]*unwritten
	closed    bool
	wg        sync.WaitGroup
}

// job is one that runs in this process.
type job struct {
	kind bridge.Kind
	// mu guards record.
	mu     sync.Mutex
	record Record
	cancel context.CancelCauseFunc
	ended  chan struct{}
}

// New checks cfg; it opens nothing.
func New(cfg Config) (*Jobs, error) {
	if cfg.Dir == "" {
		return nil, errors.New("jobs: a directory is required")
	}
	if cfg.AtOnce < 0 || cfg.AtOnce > 16 {
		return nil, fmt.Errorf("jobs: %d at once is not between 1 and 16", cfg.AtOnce)
	}
	cfg.AtOnce, cfg.Keep = cmp.Or(cfg.AtOnce, defaultAtOnce), cmp.Or(cfg.Keep, defaultKeep)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Jobs{
		cfg: cfg, turn: make(chan struct{}, cfg.AtOnce), live: make(map[string]*job), unwritten: make(map[string]*unwritten),
	}, nil
}

// Begin begins the job of an order and returns its record, StateRunning; fresh is true. When the order has one already, in this process
// or before, nothing is begun and its record is returned. The record is durable before the work begins. Errors are *verdict.Error.
func (j *Jobs) Begin(ctx context.Context, id string, kind bridge.Kind, work Work) (r Record, fresh bool, err error) {
	if err := checkID(id); err != nil {
		return Record{}, false, verdict.Refuse(bridge.ReasonInvalid, "%w", err)
	}
	if err := verdict.Stopped(ctx, "not begun"); err != nil {
		return Record{}, false, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return Record{}, false, verdict.Untouched("not begun: %w", errInterrupted)
	}
	if old, ok := j.live[id]; ok {
		return old.now(), false, nil
	}
	if ended, ok := j.unwritten[id]; ok {
		return ended.record, false, nil
	}
	if err := os.MkdirAll(j.cfg.Dir, 0o700); err != nil {
		return Record{}, false, verdict.Hopeless("folder of jobs: %w", err)
	}
	lock, err := files.LockFile(j.file(id) + lockSuffix)
	if errors.Is(err, files.ErrLocked) {
		r, err := j.read(id)
		if err != nil {
			return Record{}, false, verdict.Untouched("another process begins it: %w", err)
		}
		return r, false, nil
	}
	if err != nil {
		return Record{}, false, verdict.Hopeless("lock of the job: %w", err)
	}
	r, err = j.read(id)
	switch {
	case err == nil && r.State == bridge.StateRunning && goesOn(kind):
		j.begin(ctx, r, lock, work)
		return r, false, nil
	case err == nil:
		defer lock.Release()
		return j.interrupted(r), false, nil
	case !errors.Is(err, fs.ErrNotExist):
		lock.Release()
		return Record{}, false, verdict.Undecided("%w", err)
	}
	if err := j.room(kind); err != nil {
		lock.Release()
		return Record{}, false, err
	}
	r = Record{ID: id, Kind: kind, State: bridge.StateRunning, Detail: "waits for its turn", Begun: j.cfg.Now().UTC()}
	if err := j.write(r); err != nil {
		lock.Release()
		return Record{}, false, verdict.Hopeless("record of the job: %w", err)
	}
	j.begin(ctx, r, lock, work)
	return r, true, nil
}

// room refuses what would be one job too many. j.mu is held.
func (j *Jobs) room(kind bridge.Kind) error {
	if j.writeAgain(); len(j.unwritten) >= maxUnwritten {
		return verdict.Untouched("the ends of %d jobs could not be written: look at the disk of %s", len(j.unwritten), j.cfg.Dir)
	}
	most, same := maxQueued, 0
	if goesOn(kind) {
		most = maxPrograms
	}
	for _, live := range j.live {
		if goesOn(live.kind) == goesOn(kind) {
			same++
		}
	}
	if same >= most {
		return verdict.Untouched("%d jobs of this sort are under way already", same)
	}
	return nil
}

// Resume goes on with jobs that a process which ended left behind: work returns how, or nil for what cannot go on; such a job
// has then failed as broken off. It is called once, before anybody asks about orders. Jobs that another process carries out are left alone.
// A record that cannot be read is logged and keeps no other job back; the error is that of the directory, or why ctx ended.
func (j *Jobs) Resume(ctx context.Context, work func(Record) Work) error {
	ids, err := j.ids()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if err := j.resume(ctx, id, work); err != nil && !errors.Is(err, fs.ErrNotExist) {
			j.cfg.Logger.Warn("job of an earlier process cannot go on", "order", id, "err", err)
		}
	}
	return nil
}

func (j *Jobs) resume(ctx context.Context, id string, work func(Record) Work) error {
	if r, err := j.read(id); err != nil || r.State != bridge.StateRunning {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.live[id] != nil || j.closed {
		return nil
	}
	lock, err := files.LockFile(j.file(id) + lockSuffix)
	if errors.Is(err, files.ErrLocked) {
		return nil
	}
	if err != nil {
		return err
	}
	r, err := j.read(id) // another process may have ended it before it gave the lock back
	if err != nil || r.State != bridge.StateRunning {
		lock.Release()
		return err
	}
	do := work(r)
	if do == nil {
		j.interrupted(r)
		lock.Release()
		return nil
	}
	j.begin(ctx, r, lock, do)
	return nil
}

// interrupted ends a record that says running although nobody runs it: the process that did was stopped.
func (j *Jobs) interrupted(r Record) Record {
	if r.State != bridge.StateRunning || goesOn(r.Kind) {
		return r
	}
	r.Ended = j.cfg.Now().UTC()
	if r.Note != "" {
		r.State = bridge.StateUnknown
		r.Detail = "broken off when the agent ended, after it had begun to act: " + r.Note
	} else {
		r.State = bridge.StateFailed
		r.Detail = "broken off when the agent ended: send it again (" + r.Detail + ")"
	}
	if err := j.write(r); err != nil {
		j.cfg.Logger.Warn("end of a job was not written down", "order", r.ID, "err", err)
	}
	return r
}

// goesOn reports whether jobs of the kind go on by themselves when nobody waits for them: their end is found by who waits next.
func goesOn(k bridge.Kind) bool { return k == bridge.KindStartProcess }

func (b *job) now() Record {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.record
}

// Of returns the record of an order's job. A job that runs in another process shows the progress that was written down last; one that
// nobody runs any more has failed, or, when it has a note, is unknown. The error wraps ErrUnknown when there is none.
func (j *Jobs) Of(id string) (Record, error) {
	if err := checkID(id); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	j.mu.Lock()
	j.writeAgain()
	j.mu.Unlock()
	return j.of(id)
}

func (j *Jobs) of(id string) (Record, error) {
	j.mu.Lock()
	live, ended := j.live[id], j.unwritten[id]
	j.mu.Unlock()
	if live != nil {
		return live.now(), nil
	}
	if ended != nil {
		return ended.record, nil
	}
	r, err := j.read(id)
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, ErrUnknown
	}
	if err != nil || r.State != bridge.StateRunning {
		return r, err
	}
	lock, err := files.LockFile(j.file(id) + lockSuffix)
	if errors.Is(err, files.ErrLocked) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	defer lock.Release()
	if r, err = j.read(id); err != nil { // it may have ended between the two looks
		return r, err
	}
	return j.interrupted(r), nil
}

// Wait blocks until the job has ended and returns its record, or until ctx ends.
func (j *Jobs) Wait(ctx context.Context, id string) (Record, error) {
	j.mu.Lock()
	live := j.live[id]
	j.mu.Unlock()
	if live == nil {
		return j.Of(id)
	}
	select {
	case <-live.ended:
		return live.now(), nil
	case <-ctx.Done():
		return live.now(), context.Cause(ctx)
	}
}

// Cancel ends a job that runs in this process; it fails as cancelled. It does not wait. The error wraps ErrUnknown when none runs here.
func (j *Jobs) Cancel(id string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	live := j.live[id]
	if live == nil {
		return ErrUnknown
	}
	live.cancel(errCancelled)
	return nil
}

// Close ends all jobs of this process as broken off and waits for them. No job begins after it. The error names the jobs whose end could not
// be written: who looks next believes that they were broken off.
func (j *Jobs) Close() error {
	j.mu.Lock()
	j.closed = true
	for _, live := range j.live {
		live.cancel(errInterrupted)
	}
	j.mu.Unlock()
	j.wg.Wait()
	return j.giveUp()
}

// Remembers reports whether the agent keeps the outcome of orders of this kind by their id: carrying one out again under the same id answers
// from memory and has no second effect.
func Remembers(k bridge.Kind) bool {
	switch k {
	case bridge.KindStartProcess, bridge.KindIOCScan, bridge.KindOnDemandScan, bridge.KindGetFile, bridge.KindQuarantineFile, bridge.KindDeleteFile:
		return true
	case bridge.KindTerminateProcess, bridge.KindIsolateHost, bridge.KindPreventExecution, bridge.KindBlockAddress:
		return false // doing it again changes nothing
	default:
		return false
	}
}
