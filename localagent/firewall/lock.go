package firewall

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

const lockPoll = 5 * time.Millisecond

// lockFile waits for the lock of the file until ctx ends.
func lockFile(ctx context.Context, name string) (func(), error) {
	poll := time.NewTicker(lockPoll)
	defer poll.Stop()
	for {
		held, err := files.LockFile(name)
		if err == nil {
			return held.Release, nil
		}
		if !errors.Is(err, files.ErrLocked) {
			return nil, fmt.Errorf("lock the isolation: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("another process changes the isolation: %w", context.Cause(ctx))
		case <-poll.C:
		}
	}
}
