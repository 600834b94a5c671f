package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

const (
	callRounds = 300
	callPairs  = 1500
	callAtOnce = 2
)

// measureCalls takes one process a call of a script name, with the bridge running.
func (s *stage) measureCalls(ctx context.Context) ([]row, error) {
	dir := filepath.Join(s.dir, "calls")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "edr-bridge.yaml")
	location, err := json.Marshal(map[string]string{"socket": filepath.Join(dir, "state", "kuma.sock"), "spool": filepath.Join(dir, "state", "spool")})
	if err != nil {
		return nil, err
	}
	for path, text := range map[string]string{
		config:                             "version: 1\nmode: shadow\nsources:\n  calls: {type: kuma-script}\n" + s.kscSettings(16) + "\nlog: {level: info}\n",
		filepath.Join(dir, "klserver.cer"): string(s.ksc.CertPEM()),
		filepath.Join(dir, "edr-bridge-kuma.json"): string(location),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	c, err := s.start(ctx, dir, `"msg":"ready"`, s.bridge, "run", "-c", config)
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, program := range []struct{ name, path string }{{"edr-bridge-call", s.call}, {"edr-bridge", s.bridge}} {
		script := filepath.Join(dir, "isolateHost.py")
		_ = os.Remove(script)
		if err := os.Link(program.path, script); err != nil {
			return nil, errors.Join(err, c.stop())
		}
		got, err := s.callRows(ctx, script, program.name)
		if err != nil {
			return nil, errors.Join(err, c.stop(), errors.New(c.output()))
		}
		rows = append(rows, got...)
	}
	return rows, c.stop()
}

// callRows measures one program under a script name: alone, and two at a time.
func (s *stage) callRows(ctx context.Context, script, name string) ([]row, error) {
	var host atomic.Int64
	call := func() (time.Duration, error) {
		cmd := exec.CommandContext(ctx, script, "--targetHost", fmt.Sprintf("ws-%s-%d", name, host.Add(1)), "--action", "1")
		begin := time.Now()
		out, err := cmd.Output()
		took := time.Since(begin)
		if err != nil || !json.Valid(out) {
			return 0, fmt.Errorf("call: %w: %s", err, out)
		}
		return took, nil
	}
	var alone, pairs sample
	for range callRounds {
		took, err := call()
		if err != nil {
			return nil, err
		}
		alone.add(took)
	}
	errs := make([]error, callAtOnce)
	var wg sync.WaitGroup
	begin := time.Now()
	for w := range callAtOnce {
		wg.Go(func() {
			for i := 0; i < callPairs/callAtOnce && errs[w] == nil; i++ {
				_, errs[w] = call()
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	pairs = sample{float64(callPairs/callAtOnce*callAtOnce) / time.Since(begin).Seconds()}
	return []row{
		{name: "a script name of KUMA, whole process (" + name + ")", ours: alone, unit: "ms", target: "≤ 6 ms", note: "the vendor's script takes 110 ms"},
		{name: fmt.Sprintf("the same, %d at a time", callAtOnce), ours: pairs, unit: "calls/s", target: "≥ 300/s", higher: true},
	}, nil
}
