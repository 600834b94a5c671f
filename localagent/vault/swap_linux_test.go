package vault

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// swapTries is how often each task meets the swapper.
const swapTries = 3000

// swapper makes a folder in which a name changes between the file that is meant and files that are not, as fast as it can,
// until the test ends: by exchange with an innocent file, by a link to a file outside, and by exchange of the whole folder.
type swapper struct {
	dir, name, innocent, outside string
	stop                         chan struct{}
	done                         sync.WaitGroup
}

const (
	bad      = "the file that is meant"
	innocent = "innocent"
)

func newSwapper(t *testing.T, i int, root string) *swapper {
	t.Helper()
	dir := filepath.Join(root, fmt.Sprint("d", i))
	s := &swapper{
		dir: dir, name: filepath.Join(dir, "a"), innocent: filepath.Join(dir, "b"),
		outside: filepath.Join(root, "outside"), stop: make(chan struct{}),
	}
	write(t, s.name, bad)
	write(t, s.innocent, innocent)
	switch i % 3 {
	case 1:
		if err := os.Symlink(s.outside, filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
	case 2:
		other := dir + ".other"
		write(t, filepath.Join(other, "a"), innocent)
	}
	s.done.Go(func() {
		for {
			select {
			case <-s.stop:
				return
			default:
			}
			// Short pauses of every length, so that each step of a task meets a swap and the task gets its turn.
			time.Sleep(time.Duration(rand.IntN(50)) * time.Microsecond)
			switch i % 3 {
			case 0:
				_ = unix.Renameat2(unix.AT_FDCWD, s.name, unix.AT_FDCWD, s.innocent, unix.RENAME_EXCHANGE)
			case 1:
				_ = unix.Renameat2(unix.AT_FDCWD, s.name, unix.AT_FDCWD, filepath.Join(dir, "link"), unix.RENAME_EXCHANGE)
			case 2:
				_ = unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, dir+".other", unix.RENAME_EXCHANGE)
			}
		}
	})
	return s
}

func (s *swapper) end() {
	close(s.stop)
	s.done.Wait()
}

// left counts the files below both folders by their content; links are not followed.
func (s *swapper) left(t *testing.T) map[string]int {
	t.Helper()
	got := map[string]int{}
	for _, dir := range []string{s.dir, s.dir + ".other"} {
		entries, err := os.ReadDir(dir)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if e.Type()&os.ModeSymlink != 0 {
				got["link"]++
				continue
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got[string(b)]++
		}
	}
	return got
}

// runSwaps lets do act on the name 3000 times and counts what it hit: done, nothing, wrong, lost.
func runSwaps(t *testing.T, v *Vault, do func(order, path string) error, copied func(order, path string) string) {
	root := filepath.Dir(v.cfg.Dir)
	write(t, filepath.Join(root, "outside"), "outside")
	var mu sync.Mutex
	var done, held, stray, wrong, lost int
	var wait sync.WaitGroup
	work := make(chan int)
	for range 2 {
		wait.Go(func() {
			for i := range work {
				s := newSwapper(t, i, root)
				order := fmt.Sprint("o", i)
				err := do(order, s.name)
				s.end()
				left := s.left(t)
				innocents := 1
				if i%3 == 2 {
					innocents = 2
				}
				mu.Lock()
				switch {
				case left[innocent] != innocents || left["link"] != i%3%2:
					wrong++
					t.Errorf("try %d: left are %v after %v", i, left, err)
				case err == nil && left[bad] == 0:
					done++
					if got := copied(order, s.name); got != bad {
						wrong++
						t.Errorf("try %d: the copy holds %q", i, got)
					}
				case err != nil && left[bad] == 1:
					held++
					if strings.Contains(err.Error(), "was swapped") {
						stray++
					}
				default:
					lost++
					t.Errorf("try %d: left are %v after %v", i, left, err)
				}
				mu.Unlock()
				_ = os.RemoveAll(s.dir)
				_ = os.RemoveAll(s.dir + ".other")
			}
		})
	}
	for i := range swapTries {
		work <- i
	}
	close(work)
	wait.Wait()
	if !there(t, filepath.Join(root, "outside"), "outside") {
		t.Error("the file outside was touched")
	}
	t.Logf("%d tries: %d carried out, %d held, of which %d seen as swapped, %d wrong, %d lost", swapTries, done, held, stray, wrong, lost)
	if done == 0 || stray == 0 {
		t.Errorf("%d carried out and %d seen as swapped: the swapper and the task did not meet", done, stray)
	}
}

func TestA8SwappedFileIsNeverQuarantinedInPlaceOfAnother(t *testing.T) {
	t.Parallel()
	v := newVault(t, func(c *Config) { c.Dir, c.holders = memory(t), nobody })
	task := func(path string) bridge.QuarantineFile {
		return bridge.QuarantineFile{Path: path, SHA256: sha256Of(bad)}
	}
	runSwaps(t, v, func(order, path string) error {
		_, err := v.QuarantineFile(t.Context(), order, task(path))
		return err
	}, func(order, path string) string {
		id := newID(order, bridge.KindQuarantineFile, path)
		got := content(t, v, id)
		if err := v.Drop(t.Context(), id); err != nil {
			t.Error(err)
		}
		return got
	})
	empty(t, v)
}

func TestA8SwappedFileIsNeverDeletedInPlaceOfAnother(t *testing.T) {
	t.Parallel()
	v := newVault(t, func(c *Config) { c.Dir, c.holders = memory(t), nobody })
	runSwaps(t, v, func(order, path string) error {
		// The first look fixes which file is meant; a file that is not there is no success here.
		if _, err := os.Lstat(path); err != nil {
			return err
		}
		r, err := v.DeleteFile(t.Context(), order, bridge.DeleteFile{Path: path, SHA256: sha256Of(bad)})
		if err == nil && !strings.HasPrefix(r.Detail, "deleted ") {
			return fmt.Errorf("nothing was there: %s", r.Detail)
		}
		return err
	}, func(string, string) string { return bad })
	empty(t, v)
}

func nobody(context.Context, files.ID) ([]files.Holder, error) { return nil, nil }

// memory is a folder in memory, where a sync costs nothing.
func memory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "vault-test-") //nolint:usetesting // it has to be in memory
	if err != nil {
		t.Skipf("no /dev/shm: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "quarantine")
}
