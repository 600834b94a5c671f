package api

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const gaugesTimeout = 2 * time.Second

// Gauges is what stands in the store at some moment.
type Gauges struct {
	Counts
	// LiveTasks is how many unfinished response tasks KSC has, of the budget it may have.
	LiveTasks int64
	Hold      bool
	// AnchorSeq is the Seq of the newest audit record that was anchored; 0 = none.
	AnchorSeq int64
}

// gauges reads them once per scrape.
type gauges struct {
	read   func(context.Context) (Gauges, error)
	failed prometheus.Counter
	log    *slog.Logger

	queue, budget, leases, letters, hold, anchor *prometheus.Desc
}

func newGauges(cfg MeterConfig, failed prometheus.Counter) *gauges {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &gauges{
		read: cfg.Gauges, failed: failed, log: cfg.Logger,
		queue:   desc("edrbridge_queue", "Orders that have not ended, by state.", "state"),
		budget:  desc("edrbridge_ksc_task_budget_used", "Unfinished response tasks at KSC."),
		leases:  desc("edrbridge_leases", "Leases that hold."),
		letters: desc("edrbridge_dead_letters", "Documents nobody could read that wait for a person."),
		hold:    desc("edrbridge_hold", "Whether the bridge is on hold (1) or not (0)."),
		anchor:  desc("edrbridge_anchor_seq", "Number of the newest audit record that was anchored."),
	}
}

// Describe implements prometheus.Collector.
func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{g.queue, g.budget, g.leases, g.letters, g.hold, g.anchor} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. Its interface has no context.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), gaugesTimeout)
	defer cancel()
	v, err := g.read(ctx)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		g.failed.Inc()
		g.log.Warn("metrics: gauges could not be read", "err", err)
		return
	}
	put := func(d *prometheus.Desc, n float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n, labels...)
	}
	for state, n := range v.byState() {
		put(g.queue, float64(*n), string(state))
	}
	put(g.budget, float64(v.LiveTasks))
	put(g.leases, float64(v.Leases))
	put(g.letters, float64(v.DeadLetters))
	put(g.hold, bit(v.Hold))
	put(g.anchor, float64(v.AnchorSeq))
}
