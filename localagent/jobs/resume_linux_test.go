package jobs

import (
	"context"
	"encoding/json"
	"os"
	"syscall"
	"testing"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// The record is a pipe at first, so that it ends on disk exactly between the look at it and its lock.
func TestResumeDoesNotGoOnWithWhatEndedBeforeItHadTheLock(t *testing.T) {
	t.Parallel()
	for _, kind := range []bridge.Kind{bridge.KindStartProcess, bridge.KindIOCScan} {
		j := open(t)
		if err := os.MkdirAll(j.cfg.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(j.file("o1"), 0o600); err != nil {
			t.Fatal(err)
		}
		running := Record{ID: "o1", Kind: kind, State: bridge.StateRunning}
		b, err := json.Marshal(stored{version, running})
		if err != nil {
			t.Fatal(err)
		}
		resumed := make(chan error, 1)
		asked := false
		go func() {
			resumed <- j.resume(t.Context(), "o1", func(Record) Work {
				asked = true
				return func(context.Context, func(string)) (string, any, error) { return "a second end", nil, nil }
			})
		}()
		pipe, err := os.OpenFile(j.file("o1"), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pipe.Write(b); err != nil {
			t.Fatal(err)
		}
		done := running
		done.State, done.Detail = bridge.StateDone, "its end"
		if err := j.write(done); err != nil {
			t.Fatal(err)
		}
		if err := pipe.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-resumed; err != nil {
			t.Fatal(err)
		}
		if r := wait(t, j, "o1"); asked || r.State != bridge.StateDone || r.Detail != "its end" {
			t.Errorf("%s is %+v, asked how it goes on: %v; want the end that was written", kind, r, asked)
		}
	}
}
