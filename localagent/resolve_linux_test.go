package localagent

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
	"github.com/edr-bridge/edr-bridge/localagent/files"
)

func TestResolveProcessTellsWhatThePIDMeans(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	image := agenttest.Program(t, "sleep", "asked")
	md5Hex, sha256Hex := digestsOf(t, image)
	v := sleeper(t, image)
	p, err := a.ResolveProcess(t.Context(), bridge.Process{PID: v.pid, Name: "told", CommandLine: "kept"}, true)
	if err != nil {
		t.Fatal(err)
	}
	if p.PID != v.pid || p.Path != image || p.Name != "asked" || p.MD5 != md5Hex || p.SHA256 != sha256Hex || p.Start == 0 || p.CommandLine != "kept" {
		t.Errorf("process = %+v", p)
	}
	if age := time.Since(p.Started); age < -time.Second || age > time.Minute {
		t.Errorf("started %s ago, want moments", age)
	}
	again, err := a.ResolveProcess(t.Context(), p, true)
	if err != nil || again.Start != p.Start || again.SHA256 != p.SHA256 {
		t.Errorf("resolved again: %+v, %v", again, err)
	}
	// Once the file has no name any more, the image is still the one that runs.
	if err := os.Remove(image); err != nil {
		t.Fatal(err)
	}
	deleted, err := newAgent(t).ResolveProcess(t.Context(), bridge.Process{PID: v.pid}, true)
	if err != nil || deleted.Path != image || deleted.SHA256 != sha256Hex {
		t.Errorf("resolved without file: %+v, %v", deleted, err)
	}
}

func TestResolveProcessRefuses(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	v := sleeper(t, agenttest.Program(t, "sleep", "asked"))
	ended := sleeper(t, agenttest.Program(t, "sleep", "ended"))
	_ = ended.cmd.Process.Kill()
	_ = ended.cmd.Wait()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	thread := 0
	for _, e := range threads {
		if e.Name() != itoa(os.Getpid()) {
			thread = atoi(t, e.Name())
		}
	}
	for name, c := range map[string]struct {
		p      bridge.Process
		reason bridge.Reason
		text   string
	}{
		"no pid":         {bridge.Process{}, bridge.ReasonInvalid, "no process id"},
		"negative":       {bridge.Process{PID: -1}, bridge.ReasonInvalid, "no process id"},
		"too large":      {bridge.Process{PID: maxPID + 1}, bridge.ReasonInvalid, "no process id"},
		"process 1":      {bridge.Process{PID: 1}, bridge.ReasonProtectedProcess, "process 1"},
		"itself":         {bridge.Process{PID: os.Getpid()}, bridge.ReasonProtectedProcess, "this agent"},
		"a thread":       {bridge.Process{PID: thread}, bridge.ReasonInvalid, "thread"},
		"gone":           {bridge.Process{PID: ended.pid}, bridge.ReasonProcessGone, "has ended"},
		"other start":    {bridge.Process{PID: v.pid, Start: 7}, bridge.ReasonProcessChanged, "used again"},
		"other path":     {bridge.Process{PID: v.pid, Path: `C:\Windows\a.exe`}, bridge.ReasonProcessChanged, "the alert means"},
		"only the name":  {bridge.Process{PID: v.pid, Path: "asked"}, bridge.ReasonProcessChanged, "the alert means"},
		"another digest": {bridge.Process{PID: v.pid, SHA256: emptySHA256}, bridge.ReasonProcessChanged, "another digest"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := a.ResolveProcess(t.Context(), c.p, true)
			wantError(t, err, bridge.Permanent, c.reason, c.text)
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = a.ResolveProcess(ctx, bridge.Process{PID: v.pid}, true)
	wantError(t, err, bridge.Retry, bridge.ReasonNone, "canceled")
}

func TestDigestsAreReadAgainWhenTheFileChanges(t *testing.T) {
	t.Parallel()
	var c files.Cache
	name := filepath.Join(t.TempDir(), "f")
	for _, body := range []string{"one", "two", "two more", ""} {
		if err := os.WriteFile(name, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		wantMD5, wantSHA := digestsOf(t, name)
		for range 2 {
			f, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			d, err := c.Of(t.Context(), f, true, false)
			if err != nil || d.MD5 != wantMD5 {
				t.Errorf("md5 of %q = %v, %v, want %s", body, d, err, wantMD5)
			}
			if d, err = c.Of(t.Context(), f, false, true); err != nil || d.SHA256 != wantSHA || d.MD5 != wantMD5 {
				t.Errorf("digests of %q = %v, %v, want %s", body, d, err, wantSHA)
			}
			_ = f.Close()
		}
	}
}
