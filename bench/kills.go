package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	killRounds  = 200
	killVictims = 500

	killRule = "  - name: kill\n    mode: enforce\n    match: {level: HIGH}\n    do:\n      - {task: terminateProcess, subject: process}\n"
)

// replaceLog sets the level at which a source says that it is read.
func replaceLog(config string) {
	data, err := os.ReadFile(config)
	if err != nil {
		return
	}
	_ = os.WriteFile(config, []byte(strings.Replace(string(data), "level: warn", "level: info", 1)), 0o600)
}

// killer is a contender with the channel it listens on.
type killer struct {
	*contender
	channel string
}

// measureKills compares PUBLISH → process dead; both contenders run side by side and are asked in turn.
func (s *stage) measureKills(ctx context.Context) ([]row, error) {
	dir, err := s.settings("kill", "type: redis-pubsub, channel: ours, preset: python-edr", "local: {enabled: true, state: state}", killRule)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "edr-bridge.yaml")
	replaceLog(config)
	bare, err := s.start(ctx, dir, "subscribed", s.bare, "-redis", s.socket, "-key", "bare", "pubsub")
	if err != nil {
		return nil, err
	}
	defer func() { _ = bare.stop() }()
	ours, err := s.start(ctx, dir, "source is read", s.bridge, "run", "-c", config)
	if err != nil {
		return nil, err
	}
	defer func() { _ = ours.stop() }()
	time.Sleep(300 * time.Millisecond)
	limitK, oursK := killer{bare, "bare"}, killer{ours, "ours"}
	single, err := s.singleKills(ctx, limitK, oursK)
	if err != nil {
		return nil, err
	}
	stubborn, err := s.stubbornKills(ctx, limitK, oursK)
	if err != nil {
		return nil, err
	}
	burst, err := s.burstKills(ctx, limitK, oursK)
	if err != nil {
		return nil, err
	}
	return []row{single, stubborn, burst}, nil
}

func (s *stage) singleKills(ctx context.Context, limitK, oursK killer) (row, error) {
	var limit, ours sample
	for i := range killRounds + 10 {
		if i == 10 {
			limit, ours = nil, nil
		}
		for _, k := range []struct {
			killer
			into *sample
		}{{limitK, &limit}, {oursK, &ours}} {
			v, err := startVictim(ctx, "sleep", "60")
			if err != nil {
				return row{}, err
			}
			took, err := s.killOne(ctx, k.channel, v)
			if err != nil {
				return row{}, fmt.Errorf("%s: %w: %s", k.channel, err, k.output())
			}
			k.into.add(took)
		}
	}
	return row{name: "PUBLISH → victim dead, intent on disk", limit: limit, ours: ours, unit: "ms", target: "≤ 1.0 ms where bare takes 0.67 (1.49)", note: "the Python responder took 1.03 ms where bare took 0.67"}, nil
}

// stubbornKills lets five processes that ignore SIGTERM die and looks how long the next alert takes.
func (s *stage) stubbornKills(ctx context.Context, limitK, oursK killer) (row, error) {
	var limit, ours sample
	for range 15 {
		for _, k := range []struct {
			killer
			into *sample
		}{{limitK, &limit}, {oursK, &ours}} {
			var victims []*victim
			for range 6 {
				v, err := startVictim(ctx, "sh", "-c", `trap "" TERM; while :; do sleep 60; done`)
				if err != nil {
					return row{}, err
				}
				victims = append(victims, v)
			}
			time.Sleep(20 * time.Millisecond) // the shells set their traps
			for _, v := range victims[:5] {
				if _, err := s.pub.Publish(ctx, k.channel, v.alert()); err != nil {
					return row{}, err
				}
			}
			took, err := s.killOne(ctx, k.channel, victims[5])
			if err != nil {
				return row{}, err
			}
			k.into.add(took)
			for _, v := range victims[:5] {
				if err := v.wait(); err != nil {
					return row{}, fmt.Errorf("%s: one of five survived: %w", k.channel, err)
				}
			}
		}
	}
	return row{name: "the alert behind 5 that ignore SIGTERM", limit: limit, ours: ours, unit: "ms", target: "all die, next ≤ 2 ms later", note: "all 5 died each time; the Python responder waits 5,090 ms"}, nil
}

func (s *stage) burstKills(ctx context.Context, limitK, oursK killer) (row, error) {
	var limit, ours sample
	for range 5 {
		for _, k := range []struct {
			killer
			into *sample
		}{{limitK, &limit}, {oursK, &ours}} {
			victims := make([]*victim, killVictims)
			for i := range victims {
				v, err := startVictim(ctx, "sleep", "60")
				if err != nil {
					return row{}, err
				}
				victims[i] = v
			}
			docs := make([][]byte, killVictims)
			for i, v := range victims {
				docs[i] = v.alert()
			}
			begin := time.Now()
			for _, doc := range docs {
				if _, err := s.pub.Publish(ctx, k.channel, doc); err != nil {
					return row{}, err
				}
			}
			last := begin
			for _, v := range victims {
				if err := v.wait(); err != nil {
					return row{}, fmt.Errorf("%s: %w: %s", k.channel, err, k.output())
				}
				if v.died.After(last) {
					last = v.died
				}
			}
			*k.into = append(*k.into, killVictims/last.Sub(begin).Seconds())
		}
	}
	return row{name: "500 live victims at once", limit: limit, ours: ours, unit: "kills/s", target: "≥ 7,000/s where bare makes 8,800 (0.80)", higher: true, note: "the publisher sends one after the other and is part of it"}, nil
}

// victim is a child of the benchmark.
type victim struct {
	cmd  *exec.Cmd
	died time.Time
	done chan struct{}
	once sync.Once
}

func startVictim(ctx context.Context, name string, args ...string) (*victim, error) {
	v := &victim{cmd: exec.CommandContext(ctx, name, args...), done: make(chan struct{})}
	if err := v.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = v.cmd.Wait()
		v.died = time.Now()
		close(v.done)
	}()
	return v, nil
}

func (v *victim) alert() []byte {
	doc, err := json.Marshal(map[string]any{
		"level": "HIGH", "title": "bench", "description": "a victim of the benchmark", "details": fmt.Sprint(v.cmd.Args),
		"timestamp": time.Now().Format("2006-01-02T15:04:05.000000"), "actionable_pid": v.cmd.Process.Pid,
	})
	if err != nil {
		return nil
	}
	return doc
}

func (v *victim) wait() error {
	select {
	case <-v.done:
		return nil
	case <-time.After(10 * time.Second):
		v.once.Do(func() { _ = v.cmd.Process.Kill() })
		return errors.New("the victim lives")
	}
}

func (s *stage) killOne(ctx context.Context, channel string, v *victim) (time.Duration, error) {
	doc := v.alert()
	begin := time.Now()
	if _, err := s.pub.Publish(ctx, channel, doc); err != nil {
		return 0, err
	}
	if err := v.wait(); err != nil {
		return 0, err
	}
	return v.died.Sub(begin), nil
}
