package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() {
	var only string
	flag.StringVar(&only, "only", "", "run only the measurements whose name contains this")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := measureAll(ctx, only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// row is one line of the table.
type row struct {
	name         string
	limit, ours  sample
	unit, target string
	note         string
	higher       bool // more is better
}

func measureAll(ctx context.Context, only string) error {
	s, err := newStage(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	var rows []row
	for _, m := range []struct {
		name string
		run  func(context.Context) ([]row, error)
	}{
		{"send", s.measureSend},
		{"start", s.measureStart},
		{"kill", s.measureKills},
		{"stream", s.measureStream},
		{"slow-ksc", s.measureSlowKSC},
		{"latency", s.measureLatency},
		{"admission", s.measureAdmission},
		{"old", s.measureOld},
		{"recovery", s.measureRecovery},
		{"calls", s.measureCalls},
		{"ingress", s.measureIngress},
		{"siege", s.measureSiege},
	} {
		if !strings.Contains(m.name, only) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s …\n", m.name)
		got, err := m.run(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		rows = append(rows, got...)
	}
	return printTable(rows)
}

func printTable(rows []row) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "WORK\tLIMIT (bare Go)\tEDR-BRIDGE\tRATIO\tTARGET\tNOTE")
	for _, r := range rows {
		ratio := "-"
		if l, o := r.limit.median(), r.ours.median(); l > 0 && o > 0 {
			ratio = fmt.Sprintf("%.2f", o/l)
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.name, r.limit.text(r.unit), r.ours.text(r.unit), ratio, r.target, r.note)
	}
	return w.Flush()
}

// sample are the measured values of one contender.
type sample []float64

func (s *sample) add(d time.Duration) { *s = append(*s, float64(d.Microseconds())/1000) }

func (s sample) at(q float64) float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func (s sample) median() float64 { return s.at(0.5) }

// text gives the median and the spread from the 10th to the 90th percentile.
func (s sample) text(unit string) string {
	switch len(s) {
	case 0:
		return "-"
	case 1:
		return fmt.Sprintf("%.4g %s", s[0], unit)
	default:
		return fmt.Sprintf("%.4g %s (%.3g–%.3g)", s.median(), unit, s.at(0.1), s.at(0.9))
	}
}
