package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/ksc/ksctest"
)

const (
	// isolating is the share of alerts that have their host isolated, on isolated different hosts: they are few, so that an
	// isolation often meets the one before it.
	isolating = 0.15
	isolated  = 40
	// repeated is the share of alerts that are added to the stream a second time.
	repeated = 0.03
	// pace is the pause between two alerts.
	pace = 3 * time.Millisecond
)

// killRules end a process for each alert and isolate the host of some for a few seconds.
const killRules = `  - name: kill
    mode: enforce
    match: {level: [HIGH, CRITICAL]}
    do:
      - {task: terminateProcess, params: {path: "${process.path}", md5hash: "", sha256hash: "", caseSensitive: false}}
  - name: isolate
    mode: enforce
    match: {level: CRITICAL}
    do:
      - {task: isolateHost, params: {action: 1}, for: 3s}
    dedupe: {for: 0s}
`

// feeder adds alerts to the stream of a stage and keeps what the rules ask for.
type feeder struct {
	stage  *stage
	random *rand.Rand
	hosts  int
	added  atomic.Int64
	wants  []want
}

func hostID(i int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", i) }

func hostName(i int) string { return fmt.Sprintf("WS-%05d", i) }

// inventory are the hosts the mock knows.
func inventory(n int) []ksctest.Host {
	hosts := make([]ksctest.Host, n)
	for i := range hosts {
		hosts[i] = ksctest.Host{ID: hostID(i), DisplayName: hostName(i), Status: 1 | 4 | 8 | 16}
	}
	return hosts
}

// add adds n alerts; isolate lets some of them have their host isolated.
func (f *feeder) add(ctx context.Context, n int, isolate bool) error {
	for range n {
		i := f.added.Load()
		level, host := "HIGH", f.random.IntN(f.hosts)
		if isolate && f.random.Float64() < isolating {
			level, host = "CRITICAL", f.random.IntN(min(isolated, f.hosts))
		}
		name := hostID(host)
		if host%2 == 1 {
			name = hostName(host)
		}
		id, path := fmt.Sprintf("chaos-%d", i), fmt.Sprintf("/opt/chaos/%d", i)
		doc, err := document(id, level, name, path)
		if err != nil {
			return err
		}
		if _, err := f.stage.pub.Add(ctx, streamName, doc, ""); err != nil {
			return fmt.Errorf("add alert %d: %w", i, err)
		}
		f.added.Add(1)
		f.wants = append(f.wants, want{alert: id, task: bridge.KindTerminateProcess, name: name, host: hostID(host), path: path})
		if level == "CRITICAL" {
			f.wants = append(f.wants, want{alert: id, task: bridge.KindIsolateHost, name: name, host: hostID(host)})
		}
		if f.random.Float64() < repeated {
			if _, err := f.stage.pub.Add(ctx, streamName, doc, ""); err != nil {
				return fmt.Errorf("add alert %d again: %w", i, err)
			}
		}
		time.Sleep(pace)
	}
	return nil
}

// document is an alert as a detector writes it.
func document(id, level, host, path string) ([]byte, error) {
	return json.Marshal(map[string]any{
		"id": id, "time": time.Now().UTC().Format(time.RFC3339Nano), "level": level, "title": "chaos", "host": host,
		"process": map[string]any{"path": path},
	})
}
