package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/edr-bridge/edr-bridge/ksc/ksctest"
)

const (
	streamHosts  = 1000
	streamAlerts = 40_000
	slowAlerts   = 8_000
	latencyTries = 300
	inFlight     = 64

	streamRule = "  - name: all\n    mode: enforce\n    match: {level: HIGH}\n    do:\n      - {task: terminateProcess, params: {path: \"${process.path}\", md5hash: \"\", sha256hash: \"\", caseSensitive: false}}\n"
)

func streamAlert(i int) []byte {
	return fmt.Appendf(nil, `{"id":"bench-%d","time":%q,"level":"HIGH","title":"bench alert","description":"an alert of about the size a detector sends, with some words in it",`+
		`"host":"00000000-0000-4000-8000-%012d","user":"CORP\\svc","process":{"path":"/opt/bench/%d","name":"bench","command_line":"/opt/bench/%d --with some --arguments of --usual length"}}`,
		i, time.Now().UTC().Format(time.RFC3339Nano), i%streamHosts, i, i)
}

// fill adds alerts to a stream, many at a time.
func (s *stage) fill(ctx context.Context, key string, from, n int) error {
	const writers = 32
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := w; i < n && errs[w] == nil; i += writers {
				_, errs[w] = s.pub.Add(ctx, key, streamAlert(from+i), "")
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (s *stage) streamSettings(key string) (string, error) {
	return s.settings(key, "type: redis-stream, preset: generic, group: edr-bridge, stream: "+key, s.kscSettings(inFlight), streamRule)
}

func (s *stage) startStream(ctx context.Context, ours bool, key, dir string) (*contender, error) {
	if ours {
		return s.start(ctx, dir, "", s.bridge, "run", "-c", filepath.Join(dir, "edr-bridge.yaml"))
	}
	return s.start(ctx, dir, "subscribed", s.bare, "-redis", s.socket, "-key", key, "-ksc", s.ksc.Addr(), "-inflight", fmt.Sprint(inFlight), "stream")
}

// drained is what working a full stream off took.
type drained struct {
	rate  float64 // alerts a second
	rss   float64 // peak, MiB
	cpu   float64 // µs of CPU an alert, start-up included
	conns int64   // new TLS connections
}

// drain lets a contender work a full stream off.
func (s *stage) drain(ctx context.Context, ours bool, key string, n int) (r drained, err error) {
	if err := s.fill(ctx, key, 0, n); err != nil {
		return r, err
	}
	dir, err := s.streamSettings(key)
	if err != nil {
		return r, err
	}
	handshakes := s.ksc.Handshakes()
	var mu sync.Mutex
	var first, last time.Time
	count, warm := 0, n/5
	done := make(chan struct{})
	seen := func(ksctest.Incident) {
		mu.Lock()
		defer mu.Unlock()
		count++
		switch count {
		case warm: // hosts are cached and connections open
			first = time.Now()
		case n:
			last = time.Now()
			close(done)
		}
	}
	s.onIncident.Store(&seen)
	defer s.onIncident.Store(nil)
	c, err := s.startStream(ctx, ours, key, dir)
	if err != nil {
		return r, err
	}
	select {
	case <-done:
	case <-c.ended:
		return r, fmt.Errorf("ended early: %s", c.output())
	case <-time.After(2 * time.Minute):
		err = fmt.Errorf("%d of %d alerts after 2 min: %s", count, n, c.output())
	}
	r.rss = c.peakRSS()
	if serr := c.stop(); err == nil {
		err = serr
	}
	_ = os.RemoveAll(dir)
	r.rate, r.conns = float64(n-warm)/last.Sub(first).Seconds(), s.ksc.Handshakes()-handshakes
	if state := c.cmd.ProcessState; state != nil {
		r.cpu = float64((state.UserTime() + state.SystemTime()).Microseconds()) / float64(n)
	}
	return r, err
}

func (s *stage) measureStream(ctx context.Context) ([]row, error) {
	return s.streamRows(ctx, "stream → 2 calls, durable, 64 in flight", streamAlerts, 3, "≥ 8,000/s where bare makes 11,200 (0.71), ≤ 64 MiB", 0)
}

func (s *stage) measureSlowKSC(ctx context.Context) ([]row, error) {
	return s.streamRows(ctx, "the same with a KSC that takes 10 ms a call", slowAlerts, 3, "≥ 2,300/s where bare makes 2,600 (0.88)", 10*time.Millisecond)
}

func (s *stage) streamRows(ctx context.Context, name string, n, rounds int, target string, latency time.Duration) ([]row, error) {
	var limit, ours, limitCPU, oursCPU sample
	var peak float64
	var most int64
	for i := range rounds {
		if err := s.startKSC(ctx, latency); err != nil {
			return nil, err
		}
		bare, err := s.drain(ctx, false, fmt.Sprintf("bare-%d-%d", n, i), n)
		if err != nil {
			return nil, err
		}
		limit, limitCPU = append(limit, bare.rate), append(limitCPU, bare.cpu)
		if err := s.startKSC(ctx, latency); err != nil {
			return nil, err
		}
		got, err := s.drain(ctx, true, fmt.Sprintf("ours-%d-%d", n, i), n)
		if err != nil {
			return nil, err
		}
		ours, oursCPU = append(ours, got.rate), append(oursCPU, got.cpu)
		peak, most = max(peak, got.rss), max(most, got.conns)
	}
	return []row{{name: name, limit: limit, ours: ours, unit: "alerts/s", target: target, higher: true, note: fmt.Sprintf(
		"%.0f µs CPU an alert (bare %.0f), peak RSS %.0f MiB, %d TLS connections", oursCPU.median(), limitCPU.median(), peak, most)}}, nil
}

// measureLatency compares XADD → AddIncident seen, one alert at a time.
func (s *stage) measureLatency(ctx context.Context) ([]row, error) {
	if err := s.startKSC(ctx, 0); err != nil {
		return nil, err
	}
	arrived := make(chan time.Time, 16)
	seen := func(ksctest.Incident) { arrived <- time.Now() }
	s.onIncident.Store(&seen)
	defer s.onIncident.Store(nil)
	samples := map[bool]*sample{false: {}, true: {}}
	for _, ours := range []bool{false, true} {
		key := fmt.Sprintf("latency-%t", ours)
		dir, err := s.streamSettings(key)
		if err != nil {
			return nil, err
		}
		if ours {
			replaceLog(filepath.Join(dir, "edr-bridge.yaml"))
		}
		c, err := s.startStream(ctx, ours, key, dir)
		if err != nil {
			return nil, err
		}
		time.Sleep(time.Second)
		for i := range latencyTries + 50 {
			doc := streamAlert(i % 50)
			if i >= 50 { // the hosts of the first fifty are known by now
				doc = streamAlert(streamHosts*(i+1) + i%50)
			}
			begin := time.Now()
			if _, err := s.pub.Add(ctx, key, doc, ""); err != nil {
				return nil, err
			}
			select {
			case at := <-arrived:
				if i >= 50 {
					samples[ours].add(at.Sub(begin))
				}
			case <-time.After(10 * time.Second):
				_ = c.stop()
				return nil, fmt.Errorf("alert %d did not arrive: %s", i, c.output())
			}
			time.Sleep(2 * time.Millisecond) // let the outcome be written, as alerts do not come back to back
		}
		if err := c.stop(); err != nil {
			return nil, err
		}
	}
	return []row{{name: "XADD → AddIncident seen, durable", limit: *samples[false], ours: *samples[true], unit: "ms", target: "≤ 1.1 ms where bare takes 0.83 (1.33)"}}, nil
}
