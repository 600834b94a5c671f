package vault

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// readerEnv tells the child which vault to read until its standard input ends.
const readerEnv = "VAULT_TEST_READER"

// TestReaderChild is no test of its own: it is the command line beside the agent.
func TestReaderChild(t *testing.T) {
	dir, to, ok := strings.Cut(os.Getenv(readerEnv), "|")
	if !ok {
		return
	}
	v := newVault(t, func(c *Config) { c.Dir = dir })
	done := make(chan struct{})
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		close(done)
	}()
	seen := 0
	for {
		select {
		case <-done:
			t.Logf("restored %d items", seen)
			return
		default:
		}
		items, err := v.List(t.Context())
		if err != nil {
			t.Errorf("list: %v", err)
		}
		for _, it := range items {
			r, err := v.Restore(t.Context(), it.ID, to)
			switch {
			case errors.Is(err, files.ErrExists), errors.Is(err, ErrNotFound):
			case err != nil:
				t.Errorf("restore: %v", err)
			case !there(t, r.Path, "content of "+filepath.Base(r.Path)):
				t.Errorf("%s is not whole", r.Path)
			default:
				seen++
			}
		}
	}
}

func TestManyOrdersAndAnotherProcessAtOnce(t *testing.T) {
	t.Parallel()
	v := newVault(t, func(c *Config) { c.Dir = memory(t) })
	if _, err := v.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestReaderChild$", "-test.count=1", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), readerEnv+"="+v.cfg.Dir+"|"+to)
	stop, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	const files, rivals = 60, 4
	dir := filepath.Dir(v.cfg.Dir)
	var fresh, again atomic.Int64
	var wait sync.WaitGroup
	for i := range files {
		name := fmt.Sprint("f", i)
		path := write(t, filepath.Join(dir, name), "content of "+name)
		for range rivals {
			wait.Go(func() {
				r, err := v.QuarantineFile(t.Context(), "o"+name, bridge.QuarantineFile{Path: path})
				switch {
				case err != nil:
					t.Errorf("%s: %v", name, err)
				case strings.HasPrefix(r.Detail, "already "):
					again.Add(1)
				default:
					fresh.Add(1)
				}
			})
		}
	}
	wait.Wait()
	for range rivals {
		wait.Go(func() {
			items, err := v.List(t.Context())
			if err != nil {
				t.Error(err)
			}
			for _, it := range items {
				if err := v.Drop(t.Context(), it.ID); err != nil && !errors.Is(err, ErrNotFound) {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	_ = stop.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("the other process: %v\n%s", err, out.String())
	}
	if fresh.Load() != files || again.Load() != files*(rivals-1) {
		t.Errorf("%d carried out, %d already done; want %d and %d", fresh.Load(), again.Load(), files, files*(rivals-1))
	}
	empty(t, v)
}
