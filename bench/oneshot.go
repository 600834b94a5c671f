package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const (
	sendRounds  = 60
	startRounds = 25
)

// measureSend compares one process a call: login, AddIncident, UpdateIncident.
func (s *stage) measureSend(ctx context.Context) ([]row, error) {
	dir, err := s.settings("send", "type: redis-stream, stream: none, preset: generic", s.kscSettings(16), "  []\n")
	if err != nil {
		return nil, err
	}
	env := append(os.Environ(), "CREDENTIALS_DIRECTORY="+filepath.Join(dir, "credentials"))
	one := func(into *sample, argv ...string) error {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Env = env
		begin := time.Now()
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%v: %w: %s", argv, err, out)
		}
		into.add(time.Since(begin))
		return nil
	}
	var limit, ours sample
	for i := range sendRounds + 3 {
		if i == 3 {
			limit, ours = nil, nil // the first rounds fill the page cache
		}
		host := fmt.Sprintf("8910f900-3807-4b97-8a97-%012d", i) // one request for one host, as a case has
		if err := one(&limit, s.bare, "-ksc", s.ksc.Addr(), "-host", host, "send"); err != nil {
			return nil, err
		}
		if err := one(&ours, s.bridge, "send", "-c", filepath.Join(dir, "edr-bridge.yaml"), "--task", "isolateHost", "--host", host, "--action", "1"); err != nil {
			return nil, err
		}
	}
	return []row{{name: "send: login, AddIncident, UpdateIncident, durable", limit: limit, ours: ours, unit: "ms", target: "≤ 12 ms where bare takes 7 (1.71)", note: "whole process"}}, nil
}

// measureStart takes the time from exec to the subscription.
func (s *stage) measureStart(ctx context.Context) ([]row, error) {
	dir, err := s.settings("start", "type: redis-pubsub, channel: cold, preset: python-edr", "local: {enabled: true, state: state}", killRule)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "edr-bridge.yaml")
	replaceLog(config)
	var limit, ours sample
	for range startRounds {
		for into, argv := range map[*sample][]string{
			&limit: {s.bare, "-redis", s.socket, "-key", "cold", "pubsub"},
			&ours:  {s.bridge, "run", "-c", config},
		} {
			word := "subscribed"
			if into == &ours {
				word = "source is read"
			}
			begin := time.Now()
			c, err := s.start(ctx, dir, word, argv...)
			if err != nil {
				return nil, err
			}
			into.add(time.Since(begin))
			if err := c.stop(); err != nil {
				return nil, err
			}
		}
	}
	return []row{{name: "cold start to subscribed", limit: limit, ours: ours, unit: "ms", target: "≤ 60 ms"}}, nil
}
