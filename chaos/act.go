package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/edr-bridge/edr-bridge/ksc/ksctest"
)

const (
	// quietEnd is the part of an act in whose last kills no host is isolated any more, so that few leases are left to wait for.
	quietEnd = 0.3
	// A long act is interrupted by calm runs, in which the bridge is left in peace and its figures are kept.
	calmEvery = 250
	calmFor   = 15 * time.Second
	calmRate  = 50 // alerts a second
	minHosts  = 200
	// alertsPerHost keeps the tasks of a host below the 100 that the mock keeps.
	alertsPerHost = 40
)

// actConfig says how an act is played.
type actConfig struct {
	name          string
	console       bool // whether the mock makes tasks of incidents
	kills, alerts int
	hits          int // of each crash point
	loss          float64
	seed          uint64
	patience      time.Duration
}

// act is one bridge with one store that is killed again and again, left in peace at the end, and checked.
type act struct {
	cfg    actConfig
	stage  *stage
	feed   *feeder
	deck   *deck
	watch  *watch
	hits   map[string]int // by crash point
	missed int            // bridges that did not come by their crash point in time
	killed atomic.Int64
}

const (
	chaosKSC = "timeout: 1s, settle_time: 1s, in_flight: 8, tasks: {hold: 100000, follow_every: 1s}"
	// chaosRest lifts what would rightly hold a flood of isolations: here every order has to be carried out.
	chaosRest = `limits: []
damping: {max: 1000, within: 1m}
undo: {max: 0}
`
)

func newAct(ctx context.Context, dir, bin string, cfg actConfig) (*act, error) {
	random := rand.New(rand.NewPCG(cfg.seed, cfg.seed)) //nolint:gosec // repeatable on purpose
	hosts := max(minHosts, cfg.alerts/alertsPerHost)
	s, err := newStage(ctx, filepath.Join(dir, cfg.name), bin, ksctest.Config{
		Hosts: inventory(hosts), BackgroundConnection: cfg.console, TaskDelay: 100 * time.Millisecond, Seed: cfg.seed,
	}, chaosKSC, chaosRest, killRules)
	if err != nil {
		return nil, err
	}
	for _, f := range []ksctest.Fault{
		{Kind: ksctest.FaultReset, Method: "HostGroup.AddIncident", Probability: cfg.loss},
		{Kind: ksctest.FaultReset, Method: "HostGroup.AddIncident", Probability: cfg.loss, Stored: true},
		{Kind: ksctest.FaultUnavailable, Method: "HostGroup.FindIncidents", Probability: cfg.loss / 2},
		{Kind: ksctest.FaultReset, Method: "HostGroup.UpdateIncident", Probability: cfg.loss / 2, Stored: true},
	} {
		if f.Probability == 0 {
			continue
		}
		if _, err := s.ksc.Faults().Add(f); err != nil {
			s.close()
			return nil, err
		}
	}
	return &act{
		cfg: cfg, stage: s, feed: &feeder{stage: s, random: random, hosts: hosts}, deck: newDeck(random, cfg.kills, cfg.hits),
		watch: &watch{}, hits: map[string]int{},
	}, nil
}

// play kills the bridge as often as asked, lets it finish, and checks what came of it.
func (a *act) play(ctx context.Context) (findings, error) {
	done := make(chan struct{})
	defer close(done)
	go progress(os.Stderr, done, a.line)
	quiet := a.cfg.kills - int(quietEnd*float64(a.cfg.kills))
	for k := 0; k < a.cfg.kills || a.deck.owes() && k < a.most(); k++ {
		left := a.cfg.alerts - int(a.feed.added.Load())
		isolate := k < quiet || a.deck.owes()
		if err := a.killOnce(ctx, left/(a.most()-k), isolate); err != nil {
			return findings{}, err
		}
		a.killed.Add(1)
		if (k+1)%calmEvery == 0 {
			if err := a.calm(ctx, isolate); err != nil {
				return findings{}, err
			}
		}
	}
	if err := a.feed.add(ctx, a.cfg.alerts-int(a.feed.added.Load()), false); err != nil {
		return findings{}, err
	}
	if err := a.finish(ctx); err != nil {
		return findings{}, err
	}
	e, err := a.collect(ctx)
	if err != nil {
		return findings{}, err
	}
	return check(e), nil
}

// most is how many kills an act has when some crash points were missed too often.
func (a *act) most() int { return a.cfg.kills + max(a.cfg.kills/10, 1) }

func (a *act) line() string {
	f := a.watch.now()
	return fmt.Sprintf("chaos: %s: %d of %d kills, %d of %d alerts, %d incidents, rss %.1f MiB, %d descriptors",
		a.cfg.name, a.killed.Load(), a.cfg.kills, a.feed.added.Load(), a.cfg.alerts, a.stage.ksc.AddedIncidents(), f.rss, f.fds)
}

// calm lets the bridge work for a while, keeps its figures and kills it then.
func (a *act) calm(ctx context.Context, isolate bool) error {
	r, err := a.stage.run(ctx, "")
	if err != nil {
		return err
	}
	a.watch.set(r.cmd.Process.Pid)
	end := time.Now().Add(calmFor)
	for time.Now().Before(end) && ctx.Err() == nil {
		left := a.cfg.alerts - int(a.feed.added.Load())
		if err := a.feed.add(ctx, min(calmRate/10, left/2), isolate); err != nil {
			r.kill()
			return err
		}
		if r.wait(ctx, time.Second/10) {
			return fmt.Errorf("%w: %w", errEndedByItself, r.err)
		}
	}
	a.watch.keep(a.watch.now())
	r.kill()
	return nil
}

// finish runs the bridge undisturbed until nothing is left to do or the patience ends.
func (a *act) finish(ctx context.Context) error {
	r, err := a.stage.run(ctx, "")
	if err != nil {
		return err
	}
	a.watch.set(r.cmd.Process.Pid)
	deadline := time.Now().Add(a.cfg.patience)
	for quiet := 0; quiet < 4 && time.Now().Before(deadline); {
		if r.wait(ctx, time.Second/2) {
			return fmt.Errorf("%w in the end: %w", errEndedByItself, r.err)
		}
		if ctx.Err() != nil {
			break
		}
		settled, err := a.settled(ctx)
		if err != nil {
			r.kill()
			return err
		}
		quiet++
		if !settled {
			quiet = 0
		}
	}
	return errors.Join(context.Cause(ctx), r.stop(context.WithoutCancel(ctx)))
}
