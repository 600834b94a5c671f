package sensor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	// digestTime is how long an alert waits for the digest of its image.
	digestTime = 250 * time.Millisecond
	// emitTime bounds one call of Emit.
	emitTime = 30 * time.Second
	// saveEvery is how often the counts of the baseline are written.
	saveEvery = time.Minute
)

// Sensor watches the processes of this machine. Its methods may be called by many goroutines, Receive by one at a time.
type Sensor struct {
	cfg     Config
	log     *slog.Logger
	life    *bridge.SourceLife
	world   world
	boot    string
	rules   atomic.Pointer[ruleset]
	listed  *indicators
	known   *frequencies // nil = no baseline
	damper  *damper
	outbox  *outbox
	digests files.Cache
	count   counters
	state   watching
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
		damper: newDamper(max(cfg.Dedupe, 0), cfg.Rate, cfg.RuleRate), outbox: newOutbox(cfg.Now),
		sightings: make(chan sighting, maxSightings), buffer: receiveBuffer,
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
		return fmt.Errorf("sensor: %w", errors.Join(err, s.outbox.close()))
	}
	var finishing, others sync.WaitGroup
	finishing.Go(func() { s.finishAll(context.WithoutCancel(ctx)) }) // what was seen is finished although ctx has ended
	if s.cfg.Emit != nil {
		others.Go(func() { s.emitAll(ctx) })
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
	s.tellOmitted(true)
	if s.known != nil {
		err = errors.Join(err, s.known.save())
	}
	if s.cfg.Emit != nil {
		err = errors.Join(err, s.outbox.close())
	}
	if err != nil {
		return fmt.Errorf("sensor: %w", err)
	}
	return nil
}

func (s *Sensor) begin(ctx context.Context) error {
	s.boot = s.world.boot()
	damaged, err := s.outbox.open(s.cfg.Spool.Dir, s.cfg.Spool.MaxBytes)
	if err != nil {
		return err
	}
	if damaged > 0 {
		s.log.WarnContext(ctx, "the spool of the sensor was damaged, alerts in it are lost", "bytes", damaged)
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
	ctx, cancel := context.WithTimeout(ctx, digestTime)
	defer cancel()
	if d, err := s.digests.Of(ctx, x.file, false, true); err == nil {
		x.SHA256 = d.SHA256
	}
	x.drop()
}

// finish puts an alert into the outbox.
func (s *Sensor) finish(x sighting) {
	x.Lost = s.outbox.untold()
	doc, err := x.marshal()
	if err == nil {
		err = s.outbox.put(doc)
	}
	if err != nil {
		if s.state.mayLogLoss(s.cfg.Now()) {
			s.log.Error("alerts of the sensor are lost", "rule", x.Rule, "alert", x.ID, "err", err)
		}
		return
	}
	s.outbox.telling(x.Lost)
	s.count.alerts.Add(1)
}

// emitAll publishes what is in the outbox, in order, until ctx ends.
func (s *Sensor) emitAll(ctx context.Context) {
	for {
		w, err := s.outbox.next(ctx, s.life.Closing(), nil)
		if err != nil {
			return
		}
		for {
			err := s.emit(ctx, w.body)
			s.state.emitted(ctx, s.log, err)
			if err == nil {
				_ = s.outbox.settle(w) // it only fails once the outbox is closed
				break
			}
			if !wait(ctx, s.outbox.postpone(w)) {
				_ = s.outbox.giveBack(w, 0)
				return
			}
		}
	}
}

func (s *Sensor) emit(ctx context.Context, doc []byte) error {
	ctx, cancel := context.WithTimeout(ctx, emitTime)
	defer cancel()
	return s.cfg.Emit(ctx, doc)
}

// keep writes the counts and tells what was left out, until ctx ends.
func (s *Sensor) keep(ctx context.Context) {
	last := s.cfg.Now()
	for wait(ctx, saveEvery) {
		now := s.cfg.Now()
		s.tellOmitted(false)
		if s.known == nil {
			continue
		}
		// A clock that was set forward must not end the learning.
		s.known.ran(min(now.Sub(last), 2*saveEvery))
		last = now
		if err := s.known.save(); err != nil {
			s.log.WarnContext(ctx, "the baseline of the sensor cannot be saved", "err", err)
		}
	}
}

// tellOmitted makes an alert of every rule whose alerts were left out and that has had none since.
func (s *Sensor) tellOmitted(all bool) {
	for _, left := range s.damper.omitted(s.cfg.Now(), all) {
		now := stamp(s.cfg.Now())
		s.finish(sighting{document: document{
			Level: LevelLow, Title: "Alerts left out", Rule: RuleSummary, Host: s.cfg.Host, Timestamp: now, Suppressed: left.count,
			Description: fmt.Sprintf("%d alerts of rule %s were left out: there were too many, or they were alike", left.count, left.rule),
			ID:          alertID("summary", s.cfg.Host, s.boot, left.rule, now), Method: s.method(),
		}})
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
