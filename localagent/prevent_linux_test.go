package localagent

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func TestRulesThatCannotBeReadAreTriedAgain(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	state := a.guardConfig.State
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(state, "rules.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var guard sync.WaitGroup
	guard.Go(func() { a.watchGuard(ctx) })
	select {
	case <-a.switched.wanted: // Run reads them again and again
	case <-time.After(10 * time.Second):
		t.Error("the guard waits for another rule")
	}
	cancel()
	guard.Wait()
}
