// Command chaos kills a running bridge with SIGKILL again and again while alerts come in over a Redis stream and the
// mock KSC loses requests and answers, lets it finish and counts: an alert without an incident is missing, an
// incident too many is duplicated. Its last line is
//
//	chaos: kills=100 alerts=3000 missing=0 duplicated=0
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge/redisbus"
	"github.com/edr-bridge/edr-bridge/ksc/ksctest"
)

func main() {
	var c chaos
	flag.IntVar(&c.kills, "kills", 100, "how often the bridge is killed")
	flag.IntVar(&c.alerts, "alerts", 3000, "how many alerts are added")
	flag.Float64Var(&c.loss, "loss", 0.08, "share of AddIncident requests and, again, of answers that are lost")
	flag.Uint64Var(&c.seed, "seed", 1, "start of the random numbers")
	flag.DurationVar(&c.patience, "patience", 3*time.Minute, "how long the last run may take to finish")
	flag.BoolVar(&c.keep, "keep", false, "keep the working directory")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	missing, duplicated, err := c.run(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
	fmt.Printf("chaos: kills=%d alerts=%d missing=%d duplicated=%d\n", c.killed, c.alerts, missing, duplicated)
	if missing > 0 {
		os.Exit(1)
	}
}

type chaos struct {
	kills, alerts int
	loss          float64
	seed          uint64
	patience      time.Duration
	keep          bool

	dir, bin, socket string
	ksc              *ksctest.Server
	random           *rand.Rand
	killed           int
}

const hosts = 200

func hostID(i int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", i%hosts) }

func alertPath(i int) string { return fmt.Sprintf("/opt/chaos/%d", i) }

func (c *chaos) run(ctx context.Context) (missing, duplicated int, err error) {
	c.random = rand.New(rand.NewPCG(c.seed, c.seed)) //nolint:gosec // repeatable on purpose
	if c.dir, err = os.MkdirTemp("", "edr-bridge-chaos-"); err != nil {
		return 0, 0, err
	}
	if !c.keep {
		defer func() { _ = os.RemoveAll(c.dir) }()
	}
	c.bin, c.socket = filepath.Join(c.dir, "edr-bridge"), filepath.Join(c.dir, "redis.sock")
	build := exec.CommandContext(ctx, "go", "build", "-o", c.bin, "./cmd/edr-bridge")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return 0, 0, fmt.Errorf("build: %w", err)
	}
	redis, err := c.startRedis(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = redis.Process.Kill(); _ = redis.Wait() }()
	if err := c.startKSC(ctx); err != nil {
		return 0, 0, err
	}
	defer c.ksc.Close()
	if err := c.settings(); err != nil {
		return 0, 0, err
	}
	added := make(chan error, 1)
	go func() { added <- c.addAlerts(ctx) }()
	if err := c.killLoop(ctx); err != nil {
		return 0, 0, err
	}
	if err := <-added; err != nil {
		return 0, 0, fmt.Errorf("add alerts: %w", err)
	}
	if err := c.finish(ctx); err != nil {
		return 0, 0, err
	}
	missing, duplicated = c.count()
	return missing, duplicated, nil
}

func (c *chaos) startRedis(ctx context.Context) (*exec.Cmd, error) {
	cmd := exec.CommandContext(ctx, "redis-server", "--port", "0", "--unixsocket", c.socket, "--save", "", "--dir", c.dir)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start redis-server (install it: apt-get install redis-server): %w", err)
	}
	for range 200 {
		if _, err := os.Stat(c.socket); err == nil {
			return cmd, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return cmd, errors.New("redis-server did not open its socket")
}

func (c *chaos) startKSC(ctx context.Context) (err error) {
	c.ksc, err = ksctest.New(ksctest.Config{
		Accounts: []ksctest.Account{{User: "lab", Password: "lab"}}, LenientHosts: true, Seed: c.seed,
	})
	if err != nil {
		return err
	}
	for _, f := range []ksctest.Fault{
		{Kind: ksctest.FaultReset, Method: "HostGroup.AddIncident", Probability: c.loss},
		{Kind: ksctest.FaultReset, Method: "HostGroup.AddIncident", Probability: c.loss, Stored: true},
		{Kind: ksctest.FaultUnavailable, Method: "HostGroup.FindIncidents", Probability: c.loss / 2},
	} {
		if f.Probability == 0 {
			continue
		}
		if _, err := c.ksc.Faults().Add(f); err != nil {
			return err
		}
	}
	return c.ksc.Start(ctx)
}

func (c *chaos) settings() error {
	credentials := filepath.Join(c.dir, "credentials")
	if err := os.Mkdir(credentials, 0o700); err != nil {
		return err
	}
	for name, data := range map[string]string{
		"edr-bridge.yaml": fmt.Sprintf(`version: 1
mode: enforce
sources:
  bus: {type: redis-stream, address: "unix://%s", stream: alerts, group: edr-bridge, consumer: chaos, preset: generic}
ksc: {address: %q, ca: klserver.cer, user: lab, timeout: 1s, settle_time: 1s}
local: {enabled: false, state: state}
rules: [rules.yaml]
log: {level: warn}
`, c.socket, c.ksc.Addr()),
		"rules.yaml": `rules:
  - name: all
    mode: enforce
    match: {level: HIGH}
    do:
      - {task: terminateProcess, params: {path: "${process.path}", md5hash: "", sha256hash: "", caseSensitive: false}}
`,
		"klserver.cer":             string(c.ksc.CertPEM()),
		"credentials/ksc-password": "lab",
	} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(data), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// addAlerts spreads the alerts over the time of the kills.
func (c *chaos) addAlerts(ctx context.Context) error {
	pub, err := redisbus.NewPublisher(redisbus.PublisherConfig{Options: redisbus.Options{Addresses: []string{"unix://" + c.socket}}})
	if err != nil {
		return err
	}
	defer func() { _ = pub.Close() }()
	for i := range c.alerts {
		doc, err := json.Marshal(map[string]any{
			"id": fmt.Sprintf("chaos-%d", i), "time": time.Now().UTC().Format(time.RFC3339Nano), "level": "HIGH",
			"title": "chaos", "host": hostID(i), "process": map[string]any{"path": alertPath(i)},
		})
		if err != nil {
			return err
		}
		if _, err := pub.Add(ctx, "alerts", doc, ""); err != nil {
			return err
		}
		if i%20 == 19 {
			time.Sleep(time.Duration(c.kills) * 100 * time.Millisecond * 20 / time.Duration(c.alerts+1))
		}
	}
	return nil
}

func (c *chaos) bridge(ctx context.Context) (*exec.Cmd, error) {
	cmd := exec.CommandContext(ctx, c.bin, "run", "-c", filepath.Join(c.dir, "edr-bridge.yaml"))
	cmd.Env = append(os.Environ(), "CREDENTIALS_DIRECTORY="+filepath.Join(c.dir, "credentials"))
	log, err := os.OpenFile(filepath.Join(c.dir, "bridge.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	cmd.Stderr = log
	return cmd, cmd.Start()
}

func (c *chaos) killLoop(ctx context.Context) error {
	for c.killed < c.kills {
		cmd, err := c.bridge(ctx)
		if err != nil {
			return err
		}
		wait := 20*time.Millisecond + time.Duration(c.random.Int64N(int64(180*time.Millisecond)))
		if c.killed%10 == 9 {
			wait += 1500 * time.Millisecond // long enough for a search and a resend to be hit as well
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case err := <-ended:
			return fmt.Errorf("the bridge ended by itself: %w", err)
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := cmd.Process.Kill(); err != nil {
			return fmt.Errorf("kill: %w", err)
		}
		if err := <-ended; err == nil {
			return errors.New("the bridge ended by itself")
		}
		c.killed++
	}
	return nil
}

// finish runs the bridge undisturbed until every alert has its incident or patience ends.
func (c *chaos) finish(ctx context.Context) error {
	cmd, err := c.bridge(ctx)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(c.patience)
	for quiet := 0; quiet < 6 && time.Now().Before(deadline); {
		before := c.ksc.AddedIncidents()
		time.Sleep(time.Second)
		if missing, _ := c.count(); missing == 0 && c.ksc.AddedIncidents() == before {
			quiet++
			continue
		}
		quiet = 0
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("the last run did not end cleanly: %w", err)
	}
	return nil
}

// count compares the mock's record with what was added: every alert has a path of its own.
func (c *chaos) count() (missing, duplicated int) {
	seen := map[string]int{}
	for _, i := range c.ksc.Incidents() {
		var body struct {
			Params struct {
				Path string `json:"path"`
			} `json:"params"`
		}
		if err := json.Unmarshal([]byte(i.Body), &body); err == nil {
			seen[body.Params.Path]++
		}
	}
	for i := range c.alerts {
		switch n := seen[alertPath(i)]; {
		case n == 0:
			missing++
		case n > 1:
			duplicated += n - 1
		}
	}
	return missing, duplicated
}
