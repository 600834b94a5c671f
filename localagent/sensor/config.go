package sensor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	defaultSpool    = 64 << 20
	minSpool        = 1 << 20
	defaultDedupe   = 10 * time.Second
	defaultPoll     = 250 * time.Millisecond
	minPoll         = 10 * time.Millisecond
	maxPoll         = time.Minute
	defaultConnects = time.Second
	// maxIndicators bounds the list of addresses.
	maxIndicators = 1_000_000
)

// Config is what the sensor watches for, and where its alerts go.
type Config struct {
	// Name is the source's name in the settings, Preset the reading of its documents. Name is required without Emit.
	Name, Preset string
	// Host is what this machine is called in alerts; "" = the bridge's own name for the source stands in.
	Host string
	// Rules are the suspicious chains; nil = DefaultRules.
	Rules []Rule
	// Baseline finds rare chains.
	Baseline Baseline
	// Indicators are addresses no process of this machine should talk to; see ParseIndicators. At most 1,000,000.
	Indicators []netip.Prefix
	// Connections is how often the connections of this network namespace are compared with Indicators, 100 ms to 1 min; zero = 1 s. A
	// TCP connection that this machine closed first is seen for a minute after its end (without its process), any other one that
	// began and ended between two looks is not.
	Connections time.Duration
	// Emit publishes every alert to each of these receivers; none = the sensor is a source, read by Receive. Their names, which must do
	// as file names, are those of their spools: a receiver that fails holds up no other one.
	Emit map[string]Emit
	// Spool is where alerts wait that nobody took.
	Spool Spool
	// Rate limits all alerts, RuleRate those of one rule; zero = 50 a second and 200 at once, 20 and 100 for one rule; a negative
	// PerSecond = no limit. The alert of a process that lives on waits for its turn, the others are left out, counted, and told by the
	// rule's next alert or by a summary within a minute.
	Rate, RuleRate Rate
	// Dedupe is for how long a second alert of the same rule, parent process and child image is left out; zero = 10 s, negative = never.
	// If the process lives for 0.2 s it is made all the same: it is one more to be ended.
	Dedupe time.Duration
	// Self is the process whose descendants make no alert, and neither do those of other processes of root that run its file; zero =
	// this one, negative = all make alerts.
	Self int
	// Ignore reports processes that make no alert either. It is called for each one before an alert, from one goroutine, and must not
	// block; nil = none.
	Ignore func(pid int) bool
	// Poll is how often the processes are listed where the kernel sends no events, 10 ms to 1 min; zero = 250 ms.
	Poll time.Duration
	// OnNote gets alerts known to be lost, and the gaps in which the kernel dropped events, at most a minute later; it may block;
	// nil = none.
	OnNote func(bridge.Note)
	// Logger gets what people should know; nil = nobody is told.
	Logger *slog.Logger
	// Now is the clock; nil = time.Now.
	Now func() time.Time
}

// Emit publishes one alert; it is called in order, and not twice at a time. A nil error means that the receiver has it. After an error
// the alert waits, 0.1 s to 5 s and again; the same alert may so come twice, with the same id (AlertID). The context ends after 30 s.
type Emit func(ctx context.Context, alert []byte) error

// Spool says where alerts wait that nobody took.
type Spool struct {
	// Dir is a folder of the sensor's own, made with mode 0700; "" = at most 1024 alerts wait, in memory, and end with the process.
	Dir string
	// MaxBytes bounds it, or each receiver's part of it, at least 1 MiB; zero = 64 MiB. What finds no room is lost and counted: the oldest alerts are kept, because
	// they tell how it began.
	MaxBytes int64
}

func (c *Config) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Emit) == 0 && c.Name == "" {
		bad("name: required for a source; give emit to publish alerts instead")
	}
	for name, emit := range c.Emit {
		if emit == nil || name != filepath.Base(name) || !filepath.IsLocal(name) || name == "." {
			bad("emit: %q is no receiver with a name that does as a file name", name)
		}
	}
	if c.Spool.MaxBytes != 0 && c.Spool.MaxBytes < minSpool {
		bad("spool.max_bytes: must be at least %d", minSpool)
	}
	if c.Spool.Dir != "" && !filepath.IsAbs(c.Spool.Dir) {
		bad("spool.dir: must be an absolute path")
	}
	if c.Baseline.File != "" && !filepath.IsAbs(c.Baseline.File) {
		bad("baseline.file: must be an absolute path")
	}
	errs = append(errs, c.Baseline.check(), c.Rate.check("rate"), c.RuleRate.check("rule_rate"))
	if c.Poll != 0 && (c.Poll < minPoll || c.Poll > maxPoll) {
		bad("poll: must be between %s and %s", minPoll, maxPoll)
	}
	if c.Connections != 0 && (c.Connections < 100*time.Millisecond || c.Connections > time.Minute) {
		bad("connections: must be between 100ms and 1m")
	}
	if len(c.Indicators) > maxIndicators {
		bad("indicators: %d are too many, the limit is %d", len(c.Indicators), maxIndicators)
	}
	for _, p := range c.Indicators {
		if err := checkIndicator(p); err != nil {
			bad("indicators: %w", err)
		}
	}
	return errors.Join(errs...)
}

func (r Rate) check(field string) error {
	if math.IsNaN(r.PerSecond) || math.IsInf(r.PerSecond, 0) || r.Burst < 0 || r.PerSecond > 0 && r.Burst == 0 {
		return fmt.Errorf("%s: must be a number of alerts a second, and a burst of at least 1", field)
	}
	return nil
}

func (c *Config) fill() {
	if c.Spool.MaxBytes == 0 {
		c.Spool.MaxBytes = defaultSpool
	}
	if c.Rate == (Rate{}) {
		c.Rate = Rate{PerSecond: 50, Burst: 200}
	}
	if c.RuleRate == (Rate{}) {
		c.RuleRate = Rate{PerSecond: 20, Burst: 100}
	}
	if c.Dedupe == 0 {
		c.Dedupe = defaultDedupe
	}
	if c.Poll == 0 {
		c.Poll = defaultPoll
	}
	if c.Connections == 0 {
		c.Connections = defaultConnects
	}
	switch {
	case c.Self == 0:
		c.Self = os.Getpid()
	case c.Self < 0:
		c.Self = 0
	}
	if c.Ignore == nil {
		c.Ignore = func(int) bool { return false }
	}
	if c.OnNote == nil {
		c.OnNote = func(bridge.Note) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Baseline.fill()
}
