package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/edr-bridge/edr-bridge/bridge/redisbus"
	"github.com/edr-bridge/edr-bridge/configs"
	"github.com/edr-bridge/edr-bridge/localagent/sensor"
)

const (
	maxRuleFile      = 1 << 20
	maxIndicatorFile = 64 << 20
	// sensorReport is how often a sensor that publishes says how it does.
	sensorReport = 10 * time.Minute
)

func (a *app) sensorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sensor",
		Short: "Watch processes start and publish suspicious chains to Redis",
		Long: `Watch the processes of this machine and publish suspicious chains (an office program that starts a shell, a web server that does) as alerts
of the preset python-edr to the Redis sources named in sensor.publish, where a bridge reads them. A bridge can also watch by itself: give it a
source of type sensor. It needs root for the kernel's events; without them it lists the processes again and again, and says so.`,
		Example: `  edr-bridge sensor -c edr-bridge.yaml
  edr-bridge sensor rules > sensor.yaml     # the built-in rules, to start from`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, err := a.openServing()
			if err != nil {
				return err
			}
			defer w.close()
			return w.runSensor(cmd.Context())
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use: "rules", Short: "Print the built-in rules", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := a.std.out.Write(sensor.DefaultRulesFile())
			return err
		},
	})
	return cmd
}

// runSensor publishes until ctx ends.
func (w *wiring) runSensor(ctx context.Context) error {
	if len(w.set.Sensor.Publish) == 0 {
		return fail(exitConfig, "config.sensor", errors.New("sensor.publish names no Redis source: alerts would go nowhere"),
			"sensor: {publish: [NAME OF A REDIS SOURCE]}, or a bridge with a source of type sensor")
	}
	if err := w.trustOwn(w.set); err != nil {
		return err
	}
	redisbus.SetLogger(w.log)
	emit, err := w.publishers()
	if err != nil {
		return err
	}
	cfg, err := w.sensorConfig("sensor")
	if err != nil {
		return err
	}
	cfg.Emit = emit
	s, err := sensor.New(cfg)
	if err != nil {
		return fail(exitConfig, "config.sensor", err, "edr-bridge config check")
	}
	report := time.NewTicker(sensorReport)
	defer report.Stop()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	select {
	case <-s.Ready():
		st := s.Status()
		w.log.Info("sensor watches", "method", st.Method, "why", st.Why)
	case err := <-done:
		return err
	}
	for {
		select {
		case err := <-done:
			return err
		case <-report.C:
			st := s.Status()
			w.log.Info("sensor", "starts", st.Execs, "alerts", st.Alerts, "waiting", st.Waiting, "suppressed", st.Suppressed, "lost", st.Lost, "overruns", st.Overruns)
		}
	}
}

// sensorConfig is what the settings say about the sensor.
func (w *wiring) sensorConfig(name string) (sensor.Config, error) {
	set := w.set.Sensor
	host := ""
	if len(w.self.Names) > 0 {
		host = w.self.Names[0]
	}
	dir := filepath.Join(w.set.Local.State, "sensor", name)
	cfg := sensor.Config{
		Name: name, Host: host, Logger: w.log,
		Spool: sensor.Spool{Dir: dir},
		Baseline: sensor.Baseline{
			Enabled: set.Baseline.Enabled, File: filepath.Join(dir, "baseline.json"), Learn: set.Baseline.Learn,
			Score: float64(set.Baseline.Score),
		},
	}
	bad := func(err error) error {
		return fail(exitConfig, "config.sensor", err, "edr-bridge sensor rules prints the form")
	}
	if len(set.Rules) > 0 {
		cfg.Rules = []sensor.Rule{} // a file without rules means none, not the built-in ones
	}
	for _, path := range set.Rules {
		data, err := readBounded(path, maxRuleFile)
		if err != nil {
			return cfg, bad(err)
		}
		rules, err := sensor.ParseRules(path, data)
		if err != nil {
			return cfg, bad(err)
		}
		cfg.Rules = append(cfg.Rules, rules...)
	}
	for _, path := range set.Indicators {
		data, err := readBounded(path, maxIndicatorFile)
		if err != nil {
			return cfg, bad(err)
		}
		var list []netip.Prefix
		if list, err = sensor.ParseIndicators(path, data); err != nil {
			return cfg, bad(err)
		}
		cfg.Indicators = append(cfg.Indicators, list...)
	}
	return cfg, nil
}

// readBounded reads a file of the settings.
func readBounded(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes, allowed are %d", path, info.Size(), limit)
	}
	return os.ReadFile(path) //nolint:gosec // the settings name the file
}

// openSensor makes the sensor a source of the bridge.
func (w *wiring) openSensor(ctx context.Context, name string, s *configs.Source) (reader, error) {
	cfg, err := w.sensorConfig(name)
	if err != nil {
		return nil, err
	}
	cfg.Preset, cfg.OnNote = s.Preset, w.noter(ctx)
	return sensor.New(cfg)
}

// checkSensor says how the sensor would see processes here.
func (w *wiring) checkSensor(ctx context.Context) []check {
	wanted := len(w.set.Sensor.Publish) > 0
	for _, s := range w.set.Sources {
		wanted = wanted || s.Type == configs.OwnSensor
	}
	if !wanted {
		return nil
	}
	method, err := sensor.Probe(ctx)
	if err != nil {
		return []check{{
			levelWarn, "sensor", fmt.Sprintf("%s, short-lived processes are missed: %v", orDash(method), err),
			"run the sensor as root, outside of containers", 0,
		}}
	}
	return []check{{Level: levelOK, Name: "sensor", Detail: method}}
}

// publishers returns what puts an alert to where a bridge reads, by the names of the sources.
func (w *wiring) publishers() (map[string]sensor.Emit, error) {
	to := make(map[string]sensor.Emit, len(w.set.Sensor.Publish))
	for _, name := range w.set.Sensor.Publish {
		source := w.set.Sources[name]
		opts, err := w.redisOptions(source)
		if err != nil {
			return nil, err
		}
		pub, err := redisbus.NewPublisher(redisbus.PublisherConfig{Options: opts, Logger: w.log})
		if err != nil {
			return nil, sourceError(name, err)
		}
		w.onClose(func() { _ = pub.Close() })
		if source.Type == configs.RedisStream {
			to[name] = func(ctx context.Context, alert []byte) error {
				_, err := pub.Add(ctx, source.Stream, alert, sensor.AlertID(alert))
				return err
			}
			continue
		}
		to[name] = func(ctx context.Context, alert []byte) error {
			n, err := pub.Publish(ctx, source.Channel, alert)
			if err == nil && n == 0 {
				return fmt.Errorf("nobody listens to channel %s: is a bridge running?", source.Channel)
			}
			return err
		}
	}
	return to, nil
}
