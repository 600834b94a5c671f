package vault

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// lockName is the file whose bytes are the locks of the items: one for many, because lock files cannot be removed safely.
const lockName = ".lock"

// lockPause is how long a lock somebody else holds is left alone before it is tried again.
const lockPause = 5 * time.Millisecond

// errHeld says that somebody else has the lock at this moment.
var errHeld = errors.New("another order or process works on the item")

// locked is the lock of one item, against other goroutines and other processes. It ends with the process.
type locked struct {
	f *os.File
}

func (l *locked) release() { _ = l.f.Close() }

// lock waits until the item is free or ctx ends. A shared lock keeps out who wants to change the item.
func (v *Vault) lock(ctx context.Context, id string, exclusive bool) (*locked, error) {
	for {
		l, err := v.tryLock(id, exclusive)
		if !errors.Is(err, errHeld) {
			return l, err
		}
		t := time.NewTimer(lockPause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, fmt.Errorf("%w: %w", errHeld, context.Cause(ctx))
		}
	}
}

func (v *Vault) tryLock(id string, exclusive bool) (*locked, error) {
	f, err := os.OpenFile(filepath.Join(v.cfg.Dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockByte(f, lockPlace(id), exclusive); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &locked{f}, nil
}

// lockPlace is the byte that stands for an item: the first 14 hex digits of its id after the dashes are gone, 56 bits.
func lockPlace(id string) int64 {
	var place int64
	digits := id[:8] + id[9:13] + id[14:16]
	b, err := hex.DecodeString(digits)
	if err != nil {
		return 0
	}
	for _, c := range b {
		place = place<<8 | int64(c)
	}
	return place
}
