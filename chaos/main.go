// Command chaos does to a running bridge what a machine may do to it, and looks whether something was lost or done twice.
//
// It kills the bridge with SIGKILL again and again, at each named crash point and at random instants, while alerts come in over
// a Redis stream, hosts are isolated for seconds, and the mock KSC loses requests and answers. Then it lets the bridge
// finish and compares the record of the mock with the orders and the audit records. Its last line is
//
//	chaos: kills=200 alerts=5000 missing=0 duplicated=0
//
// With -storm it sends more alerts at once than the budgets let through, and looks whether they hold. Its last line is
//
//	storm: alerts=10000 isolated=5 held=9950 lost=0 live_max=80 hold_ms=12
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func main() {
	var r rehearsal
	storm := flag.Bool("storm", false, "send more alerts at once than the budgets let through, instead of killing the bridge")
	flag.IntVar(&r.kills, "kills", 200, "how often the bridge is killed")
	flag.IntVar(&r.alerts, "alerts", 5000, "how many alerts are added")
	flag.Float64Var(&r.loss, "loss", 0.08, "share of AddIncident requests and, again, of answers that are lost")
	flag.Uint64Var(&r.seed, "seed", 1, "start of the random numbers")
	flag.DurationVar(&r.patience, "patience", 3*time.Minute, "how long the last run may take to finish")
	flag.BoolVar(&r.keep, "keep", false, "keep the working directory and print its name")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	rehearse := r.chaos
	if *storm {
		rehearse = r.storm
	}
	if err := rehearse(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		stop()
		os.Exit(1)
	}
}

// rehearsal is one call of the program.
type rehearsal struct {
	kills, alerts int
	loss          float64
	seed          uint64
	patience      time.Duration
	keep          bool
}

// workdir makes the working directory; done removes it unless it is to be kept.
func (r *rehearsal) workdir() (dir string, done func(), err error) {
	if dir, err = os.MkdirTemp("", "edr-bridge-chaos-"); err != nil {
		return "", nil, err
	}
	if r.keep {
		fmt.Fprintln(os.Stderr, "working directory:", dir)
		return dir, func() {}, nil
	}
	return dir, func() { _ = os.RemoveAll(dir) }, nil
}

// withoutConsole is the part of kills and alerts that meet a KSC which makes no tasks of incidents.
const withoutConsole = 0.4

// maxShown is how many disagreements are printed of each act.
const maxShown = 40

// chaos plays two acts side by side, one without and one with tasks at KSC, and writes what was found.
func (r *rehearsal) chaos(ctx context.Context, out io.Writer) error {
	dir, done, err := r.workdir()
	if err != nil {
		return err
	}
	defer done()
	bin, err := build(ctx, dir, "crashpoints")
	if err != nil {
		return err
	}
	first := actConfig{
		name: "without-tasks", kills: int(withoutConsole * float64(r.kills)), alerts: int(withoutConsole * float64(r.alerts)), loss: r.loss,
		seed: r.seed, patience: r.patience,
	}
	second := first
	second.name, second.console, second.seed = "with-tasks", true, r.seed+1
	second.kills, second.alerts = r.kills-first.kills, r.alerts-first.alerts
	first.hits, second.hits = hitsOf(first.kills), hitsOf(second.kills)
	var sum findings
	hits := map[string]int{}
	killed := 0
	acts := []actConfig{first, second}
	results := make([]result, len(acts))
	var playing sync.WaitGroup
	for i, cfg := range acts {
		playing.Go(func() { results[i] = perform(ctx, dir, bin, cfg) })
	}
	playing.Wait()
	for i, res := range results {
		if res.err != nil {
			return fmt.Errorf("%s: %w", acts[i].name, res.err)
		}
		res.act.watch.report(out)
		_, _ = fmt.Fprintf(out, "%s: %d kills, %d bridges killed because they did not come by their crash point\n", acts[i].name, res.act.killed.Load(), res.act.missed)
		killed += int(res.act.killed.Load())
		for point, n := range res.act.hits {
			hits[point] += n
		}
		res.findings.print(out, acts[i].name)
		sum.missing += res.findings.missing
		sum.duplicated += res.findings.duplicated
		sum.disagreements = append(sum.disagreements, res.findings.disagreements...)
	}
	missed := printHits(out, hits, min(crashHits, first.hits+second.hits))
	_, _ = fmt.Fprintf(out, "chaos: kills=%d alerts=%d missing=%d duplicated=%d\n", killed, r.alerts, sum.missing, sum.duplicated)
	switch {
	case sum.missing > 0 || sum.duplicated > 0:
		return errors.New("alerts were lost or carried out twice")
	case len(sum.disagreements) > 0:
		return fmt.Errorf("the records disagree in %d places", len(sum.disagreements))
	case len(missed) > 0:
		return fmt.Errorf("crash points not hit often enough: %q", missed)
	default:
		return nil
	}
}

// result is what came of an act.
type result struct {
	act      *act
	findings findings
	err      error
}

// perform plays an act from its beginning to its end.
func perform(ctx context.Context, dir, bin string, cfg actConfig) result {
	a, err := newAct(ctx, dir, bin, cfg)
	if err != nil {
		return result{err: err}
	}
	defer a.stage.close()
	f, err := a.play(ctx)
	return result{act: a, findings: f, err: err}
}

// print writes the first disagreements.
func (f *findings) print(out io.Writer, act string) {
	for i, d := range f.disagreements {
		if i == maxShown {
			_, _ = fmt.Fprintf(out, "%s: … and %d more\n", act, len(f.disagreements)-maxShown)
			return
		}
		_, _ = fmt.Fprintf(out, "%s: %s\n", act, d)
	}
}

// printHits writes how often each crash point was hit and returns those that were hit less than least times.
func printHits(out io.Writer, hits map[string]int, least int) (missed []string) {
	_, _ = fmt.Fprint(out, "crash points hit:")
	for _, p := range bridge.CrashPoints() {
		_, _ = fmt.Fprintf(out, " %s=%d", p, hits[p])
		if hits[p] < least {
			missed = append(missed, p)
		}
	}
	_, _ = fmt.Fprintln(out)
	return missed
}
