package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// other is the label of what is in no closed set.
const other = "other"

// MeterConfig is what a Meter needs.
type MeterConfig struct {
	// Sources are the names of the sources in the settings; what comes from elsewhere counts under "other".
	Sources []string
	// Gauges reads what stands in the store at this moment, once per scrape; it must heed its context, which ends after 2 s.
	// When it fails the page shows no gauges instead of old ones.
	Gauges func(context.Context) (Gauges, error)
	// Logger; nil = nobody is told.
	Logger *slog.Logger
}

// Meter counts for the page with metrics, in a registry of its own. All labels come from closed sets and stand on the page
// from the start. It is safe for concurrent use and does not block.
type Meter struct {
	registry *prometheus.Registry
	log      *slog.Logger

	alerts, lost                    map[string]prometheus.Counter // by source
	requests, documents             map[string]prometheus.Counter // over HTTP, by source
	refusals                        map[string]prometheus.Counter // of HTTP requests, by reason
	orders, refused, held, alarms   map[string]prometheus.Counter // by state or reason
	admit                           prometheus.Histogram
	execute                         map[string]prometheus.Observer           // by executor
	executeErrors                   map[string]map[string]prometheus.Counter // by executor and class
	storeErrors, clockJumps, scrape prometheus.Counter
	reloaded                        prometheus.Gauge
}

var _ bridge.Meter = (*Meter)(nil)

// NewMeter makes the registry. It opens nothing.
func NewMeter(cfg MeterConfig) (*Meter, error) {
	if cfg.Gauges == nil {
		return nil, errors.New("metrics: gauges are required")
	}
	for _, s := range cfg.Sources {
		if !utf8.ValidString(s) {
			return nil, fmt.Errorf("metrics: the source name %q is no UTF-8", s)
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Meter{registry: prometheus.NewRegistry(), log: cfg.Logger}
	m.counters(cfg.Sources)
	m.histograms()
	g := newGauges(cfg, m.scrape)
	return m, errors.Join(
		m.registry.Register(g), m.registry.Register(collectors.NewGoCollector()),
		m.registry.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})),
	)
}

func (m *Meter) counters(sources []string) {
	sources = withOther(sources)
	reasons := withOther(words(bridge.Reasons()))
	m.alerts = m.countBy("edrbridge_alerts_total", "Documents that sources handed over.", "source", sources)
	m.lost = m.countBy("edrbridge_lost_alerts_total", "Alerts that are known to be lost.", "source", sources)
	m.requests = m.countBy("edrbridge_http_requests_total", "Requests to HTTP sources that were answered as done.", "source", sources)
	m.documents = m.countBy("edrbridge_http_documents_total", "Documents of these requests.", "source", sources)
	m.refusals = m.countBy("edrbridge_http_refused_total", "Requests to HTTP sources that were refused, by reason.", "reason",
		withOther(words(IngressReasons())))
	m.orders = m.countBy("edrbridge_orders_total", "Orders by the state they were admitted in and the state they ended in.",
		"state", withOther(words(countedStates())))
	m.refused = m.countBy("edrbridge_orders_refused_total", "Orders refused, by reason.", "reason", reasons)
	m.held = m.countBy("edrbridge_orders_held_total", "Orders held, by reason.", "reason", reasons)
	m.alarms = m.countBy("edrbridge_alarms_total", "Orders that ended so that a person has to look.", "state", words(alarmStates()))
	m.storeErrors = m.count("edrbridge_store_errors_total", "Changes the store could not write.")
	m.clockJumps = m.count("edrbridge_clock_jumps_total", "Jumps of the machine's clock.")
	m.scrape = m.count("edrbridge_gauge_errors_total", "Scrapes for which the gauges could not be read; they are missing then.")
	m.reloaded = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "edrbridge_config_last_reload_successful", Help: "Whether the last attempt to read settings and rules succeeded (1) or not (0).",
	})
	m.reloaded.Set(1)
	m.registry.MustRegister(m.reloaded)
}

func (m *Meter) histograms() {
	m.admit = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "edrbridge_admit_seconds", Help: "Time to commit a new order.", Buckets: prometheus.ExponentialBuckets(0.0001, 2, 14),
	})
	vec := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "edrbridge_execute_seconds", Help: "Time a call of an executor took.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 17),
	}, []string{"executor"})
	errs := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "edrbridge_execute_errors_total", Help: "Calls of an executor that failed, by what may be concluded.",
	}, []string{"executor", "class"})
	m.registry.MustRegister(m.admit, vec, errs)
	m.execute, m.executeErrors = map[string]prometheus.Observer{}, map[string]map[string]prometheus.Counter{}
	for _, ex := range []string{bridge.ExecutorKSC, bridge.ExecutorLocal, other} {
		m.execute[ex] = vec.WithLabelValues(ex)
		m.executeErrors[ex] = map[string]prometheus.Counter{}
		for _, c := range []bridge.Class{bridge.Permanent, bridge.Retry, bridge.Unknown, bridge.Unreachable} {
			m.executeErrors[ex][c.String()] = errs.WithLabelValues(ex, c.String())
		}
	}
}

// count makes a counter. Names and labels are constants of this file, so that registering them cannot fail.
func (m *Meter) count(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	m.registry.MustRegister(c)
	return c
}

// countBy makes a counter for each value of a label; none can be added later.
func (m *Meter) countBy(name, help, label string, values []string) map[string]prometheus.Counter {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	m.registry.MustRegister(vec)
	by := map[string]prometheus.Counter{}
	for _, v := range values {
		by[v] = vec.WithLabelValues(v)
	}
	return by
}

func pick[V any](by map[string]V, value string) V {
	if c, known := by[value]; known {
		return c
	}
	return by[other]
}

// Alert implements bridge.Meter.
func (m *Meter) Alert(source string) { pick(m.alerts, source).Inc() }

// Admitted implements bridge.Meter. A took of 0 was not measured.
func (m *Meter) Admitted(o bridge.Order, took time.Duration) {
	pick(m.orders, string(o.State)).Inc()
	m.entered(o)
	if took > 0 {
		m.admit.Observe(took.Seconds())
	}
}

// Moved implements bridge.Meter.
func (m *Meter) Moved(o bridge.Order, from bridge.State) {
	if o.State == from {
		return
	}
	if o.State.End() {
		pick(m.orders, string(o.State)).Inc()
	}
	m.entered(o)
}

func (m *Meter) entered(o bridge.Order) {
	if o.State == bridge.StateRefused {
		pick(m.refused, string(o.Reason)).Inc()
	}
	if o.State == bridge.StateHeld {
		pick(m.held, string(o.Reason)).Inc()
	}
	if o.State.Alarm() {
		m.alarms[string(o.State)].Inc()
	}
}

// Executed implements bridge.Meter.
func (m *Meter) Executed(executor string, took time.Duration, err error) {
	pick(m.execute, executor).Observe(took.Seconds())
	if err != nil {
		if c, known := pick(m.executeErrors, executor)[bridge.ClassOf(err).String()]; known {
			c.Inc()
		}
	}
}

// Lost implements bridge.Meter.
func (m *Meter) Lost(source string, n int64) {
	if n > 0 {
		pick(m.lost, source).Add(float64(n))
	}
}

// StoreFailed counts a change the store could not write.
func (m *Meter) StoreFailed() { m.storeErrors.Inc() }

// ClockJumped counts a jump of the machine's clock.
func (m *Meter) ClockJumped() { m.clockJumps.Inc() }

// Reloaded says whether the last attempt to read settings and rules succeeded.
func (m *Meter) Reloaded(ok bool) { m.reloaded.Set(bit(ok)) }

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// countedStates are the states an order can be admitted in or end in.
func countedStates() []bridge.State {
	return slices.DeleteFunc(bridge.States(), func(s bridge.State) bool {
		return s == bridge.StateAccepted || s == bridge.StateRunning
	})
}

func alarmStates() []bridge.State {
	return slices.DeleteFunc(bridge.States(), func(s bridge.State) bool { return !s.Alarm() })
}

func words[W ~string](list []W) []string {
	var out []string
	for _, w := range list {
		out = append(out, string(w))
	}
	return out
}

func withOther(values []string) []string {
	if slices.Contains(values, other) {
		return values
	}
	return append(slices.Clone(values), other)
}
