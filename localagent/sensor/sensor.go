package sensor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
)

const (
	// receiveBuffer is what the kernel keeps for a sensor that does not get to run: some thousand events.
	receiveBuffer = 4 << 20
	// maxSightings is how many alerts wait for their digest, each with an open file. One more goes out without it.
	maxSightings = 256
	// digestTime is how long an alert waits for the digest of its image, and of those before it.
	digestTime = 250 * time.Millisecond
	// emitTime bounds one call of Emit.
	emitTime = 30 * time.Second
	// saveEvery is how often the counts of the baseline are written.
	saveEvery = time.Minute
)

// Sensor watches the processes of this machine. Its methods may be called by many goroutines, Receive by one at a time.
type Sensor struct {
	cfg    Config
	log    *slog.Logger
	life   *bridge.SourceLife
	world  world
	boot   string
	rules  atomic.Pointer[ruleset]
	listed *indicators
	known  *frequencies // nil = no baseline
	damper *damper
	// outboxes are one for each receiver, or the one Receive reads.
	outboxes []*outbox
	digests  files.Cache
	count    counters
	state    watching
	// noted is what OnNote was told.
	noted struct{ lost, overruns uint64 }
	// sightings carries alerts to the goroutine that hashes; it has one sender.
	sightings chan sighting
	// buffer is the size of the kernel's receive buffer; tests make it small.
	buffer int
}

var _ bridge.Source = (*Sensor)(nil)

// New returns a sensor. It reports every problem of cfg at once, does no I/O and starts nothing.
func New(cfg Config) (*Sensor, error) {
	errs := []error{cfg.check()}
	if cfg.Rules == nil {
		rules, err := DefaultRules()
		errs = append(errs, err)
		cfg.Rules = rules
	}
	rules, err := compile(cfg.Rules)
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("sensor: %w", err)
	}
	cfg.fill()
	s := &Sensor{
		cfg: cfg, log: cfg.Logger, life: bridge.NewSourceLife(), world: system{},
		damper: newDamper(max(cfg.Dedupe, 0), cfg.Rate, cfg.RuleRate), sightings: make(chan sighting, maxSightings), buffer: receiveBuffer,
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Emit)) {
		s.outboxes = append(s.outboxes, newOutbox(name, cfg.Emit[name], cfg.Now))
	}
	if len(s.outboxes) == 0 {
		s.outboxes = []*outbox{newOutbox("", nil, cfg.Now)}
	}
	s.rules.Store(rules)
	if cfg.Baseline.Enabled {
		s.known = newFrequencies(cfg.Baseline)
	}
	if len(cfg.Indicators) > 0 {
		s.listed = newIndicators(cfg.Indicators)
	}
	s.cfg.Rules, s.cfg.Indicators = nil, nil
	return s, nil
}

// SetRules replaces the rules at once; on an error the old ones stay.
func (s *Sensor) SetRules(rules []Rule) error {
	set, err := compile(rules)
	if err != nil {
		return fmt.Errorf("sensor: %w", err)
	}
	s.rules.Store(set)
	return nil
}

// Run watches until ctx ends or Close is called, and then returns nil. An error says that the spool or the list of processes cannot be read.
// Where the kernel sends no process events it says so in the log and in Status, and lists the processes instead. It may
// be called once. With Emit it ends as Close does; as a source it leaves what is not settled to Receive and Close.
func (s *Sensor) Run(ctx context.Context) error {
	ctx, cancel, err := s.life.Begin(ctx)
	if err != nil {
		return err
	}
	defer s.life.End()
	defer cancel()
	if err := s.begin(ctx); err != nil {
		return fmt.Errorf("sensor: %w", errors.Join(err, s.closeOutboxes()))
	}
	var finishing, others sync.WaitGroup
	finishing.Go(func() { s.finishAll(context.WithoutCancel(ctx)) }) // what was seen is finished although ctx has ended
	for _, box := range s.outboxes {
		if box.emit != nil {
			others.Go(func() { s.emitAll(ctx, box) })
		}
	}
	if s.listed != nil {
		others.Go(func() { s.watchConnections(ctx) })
	}
	others.Go(func() { s.keep(ctx) })
	err = s.watch(ctx)
	cancel()
	others.Wait()
	close(s.sightings)
	finishing.Wait()
	s.tellOmitted()
	s.note()
	if s.known != nil {
		err = errors.Join(err, s.known.save())
	}
	if len(s.cfg.Emit) > 0 {
		err = errors.Join(err, s.closeOutboxes())
	}
	if err != nil {
		return fmt.Errorf("sensor: %w", err)
	}
	return nil
}

func (s *Sensor) begin(ctx context.Context) error {
	s.boot = s.world.boot()
	for _, box := range s.outboxes {
		dir := s.cfg.Spool.Dir
		if dir != "" {
			dir = filepath.Join(dir, box.name)
		}
		damaged, err := box.open(dir, s.cfg.Spool.MaxBytes)
		if err != nil {
			return err
		}
		if damaged > 0 {
			s.log.WarnContext(ctx, "the spool of the sensor was damaged, alerts in it are lost", "dir", dir, "bytes", damaged)
		}
	}
	if s.known == nil {
		return nil
	}
	if err := s.known.load(); err != nil {
		// Learning again costs days without alerts of one kind; not to start would cost all of them.
		s.log.WarnContext(ctx, "the baseline cannot be read, learning begins again and the file is kept as "+damagedSuffix, "err", err)
		return setAside(s.cfg.Baseline.File)
	}
	return nil
}

func (s *Sensor) closeOutboxes() error {
	var errs []error
	for _, box := range s.outboxes {
		errs = append(errs, box.close())
	}
	return errors.Join(errs...)
}

// handOver gives an alert to be finished. It never waits: the kernel's events would be lost meanwhile.
func (s *Sensor) handOver(x sighting) {
	select {
	case s.sightings <- x:
	default:
		x.drop()
		s.finish(x)
	}
}

func (s *Sensor) finishAll(ctx context.Context) {
	for x := range s.sightings {
		s.digest(ctx, &x)
		s.finish(x)
	}
}

// digest hashes the image, unless that takes too long: start time and path name the process well enough.
func (s *Sensor) digest(ctx context.Context, x *sighting) {
	if x.file == nil {
		return
	}
	ctx, cancel := context.WithDeadline(ctx, x.opened.Add(digestTime))
	defer cancel()
	if d, err := s.digests.Of(ctx, x.file, false, true); err == nil {
		x.SHA256 = d.SHA256
	}
	x.drop()
}

// finish puts an alert into the outboxes.
func (s *Sensor) finish(x sighting) {
	kept := false
	for _, box := range s.outboxes {
		err := box.tell(x.document)
		kept = kept || err == nil
		if err != nil && s.state.mayLogLoss(s.cfg.Now()) {
			s.log.Error("alerts of the sensor are lost", "rule", x.Rule, "alert", x.ID, "to", box.name, "err", err)
		}
	}
	if kept {
		s.count.alerts.Add(1)
	}
}

// emitAll publishes what is in an outbox, in order, until ctx ends.
func (s *Sensor) emitAll(ctx context.Context, box *outbox) {
	for {
		w, err := box.next(ctx, s.life.Closing(), nil)
		if err != nil {
			return
		}
		for {
			err := emitOne(ctx, box.emit, w.body)
			box.emitted(ctx, s.log, err)
			if err == nil {
				_ = box.settle(w) // it only fails once the outbox is closed
				break
			}
			if !wait(ctx, box.postpone(w)) {
				_ = box.giveBack(w, 0)
				return
			}
		}
	}
}

func emitOne(ctx context.Context, emit Emit, doc []byte) error {
	ctx, cancel := context.WithTimeout(ctx, emitTime)
	defer cancel()
	return emit(ctx, doc)
}

// keep writes the counts and tells what was left out, until ctx ends.
func (s *Sensor) keep(ctx context.Context) {
	last, warned := s.cfg.Now(), false
	for wait(ctx, saveEvery) {
		now := s.cfg.Now()
		s.tellOmitted()
		s.note()
		if s.known == nil {
			continue
		}
		s.known.ran(now.Sub(last))
		last = now
		if _, pairs, refused := s.known.left(); refused > 0 && !warned {
			warned = true
			s.log.WarnContext(ctx, "the baseline of the sensor is full, what is new is not learned any more", "pairs", pairs)
		}
		if err := s.known.save(); err != nil {
			s.log.WarnContext(ctx, "the baseline of the sensor cannot be saved", "err", err)
		}
	}
}

// tellOmitted makes an alert of every rule whose alerts were left out and that has had none since. It is called once a minute.
func (s *Sensor) tellOmitted() {
	for _, left := range s.damper.omitted() {
		now := stamp(s.cfg.Now())
		s.finish(sighting{document: document{
			Level: LevelLow, Title: "Alerts left out", Rule: RuleSummary, Host: s.cfg.Host, Timestamp: now, Suppressed: left.count,
			Description: fmt.Sprintf("%d alerts of rule %s were left out: there were too many, or they were alike", left.count, left.rule),
			ID:          alertID("summary", s.cfg.Host, s.boot, left.rule, now), Method: s.method(),
		}})
	}
}

// note tells what was lost since it was called last. It is called by one goroutine at a time.
func (s *Sensor) note() {
	st := s.Status()
	for _, n := range []struct {
		now   uint64
		noted *uint64
		note  bridge.Note
	}{
		{st.Lost, &s.noted.lost, bridge.Note{What: bridge.NoteLoss, Detail: "alerts of the sensor found no room in its spool"}},
		{st.Overruns, &s.noted.overruns, bridge.Note{
			What: bridge.NoteGap, Detail: "the kernel dropped process events, what started and ended meanwhile was not seen",
		}},
	} {
		if n.now > *n.noted {
			n.note.Source, n.note.Count = s.cfg.Name, int64(n.now-*n.noted) //nolint:gosec // a count of alerts
			*n.noted = n.now
			s.cfg.OnNote(n.note)
		}
	}
}

// wait reports whether the time passed before ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
