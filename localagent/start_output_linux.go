package localagent

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// outputs carries what a program writes into files that do not grow beyond maxOutput.
type outputs struct {
	from [2]*os.File
	wg   sync.WaitGroup
	// mu guards cut.
	mu  sync.Mutex
	cut bool
}

// keepOutputs begins to carry; stop ends it. A file that cannot be written is like one that is full: the program must not stand still
// because of it.
func keepOutputs(from [2]*os.File, to [2]string) *outputs {
	o := &outputs{from: from}
	for i := range from {
		o.wg.Go(func() { o.carry(from[i], to[i]) })
	}
	return o
}

func (o *outputs) carry(from *os.File, to string) {
	file, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600) //nolint:gosec // in the folder of the program
	w := &capped{file: file}
	if err == nil {
		defer func() { _ = file.Close() }()
		if info, err := file.Stat(); err == nil {
			w.left = maxOutput - info.Size()
		}
	}
	if _, err := io.Copy(w, from); errors.Is(err, os.ErrDeadlineExceeded) {
		drain(from, w)
	}
	if w.cut {
		o.mu.Lock()
		o.cut = true
		o.mu.Unlock()
	}
}

// stop takes over what the program has written so far and reports whether something was dropped.
func (o *outputs) stop() (cut bool) {
	for _, f := range o.from {
		_ = f.SetReadDeadline(time.Unix(1, 0))
	}
	o.wg.Wait()
	for _, f := range o.from {
		_ = f.Close()
	}
	return o.cut
}

// capped takes everything and keeps the beginning.
type capped struct {
	file *os.File
	left int64
	cut  bool
}

func (c *capped) Write(b []byte) (int, error) {
	keep := b[:max(0, min(int64(len(b)), c.left))]
	if len(keep) < len(b) {
		c.cut = true
	}
	if len(keep) > 0 {
		n, err := c.file.Write(keep)
		if c.left -= int64(n); err != nil {
			c.left, c.cut = 0, true
		}
	}
	return len(b), nil
}
