package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// smallDisk mounts a file system of some MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("needs the right to mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

func TestF30FullDiskAcknowledgesNothingAndRecovers(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s := openTest(t, Config{Dir: dir})
	acknowledged := map[string]bool{}
	var refused []bridge.Order
	big := func(i int) bridge.Order {
		o := numbered(t, i)
		o.Intent.Body = strings.Repeat("x", 50_000)
		return o
	}
	for i := range 200 {
		o := big(i)
		if _, err := s.Admit(t.Context(), bridge.Admission{Orders: []bridge.Order{o}}); err != nil {
			if !isDisk(err) {
				t.Errorf("admit on a full disk: %v, want an error of the disk", err)
			}
			refused = append(refused, o)
			continue
		}
		acknowledged[o.ID] = true
	}
	if len(refused) == 0 || len(acknowledged) == 0 {
		t.Fatalf("%d admitted, %d refused: the disk was not filled by this", len(acknowledged), len(refused))
	}
	check := func(s *Store) {
		t.Helper()
		stored := states(t, s)
		for id := range acknowledged {
			if stored[id] == "" {
				t.Errorf("order %s was acknowledged and is gone", id)
			}
		}
		for id := range stored {
			if !acknowledged[id] {
				t.Errorf("order %s was not acknowledged and is there", id)
			}
		}
	}
	check(s)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	o := refused[0]
	if _, err := s.Admit(t.Context(), bridge.Admission{Orders: []bridge.Order{o}}); err != nil {
		t.Fatalf("admit after there is room again: %v", err)
	}
	acknowledged[o.ID] = true
	check(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, Config{Dir: dir})
	check(s)
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestStoreRecoversWhenItsFolderBecomesWritableAgain(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t)
	s := openTest(t, Config{Dir: dir})
	admitTest(t, s, numbered(t, 1))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	remount := func(flags uintptr) {
		t.Helper()
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	remount(unix.MS_RDONLY)
	if s, err := Open(t.Context(), Config{Dir: dir}); err == nil {
		if _, err := s.Admit(t.Context(), bridge.Admission{Orders: []bridge.Order{numbered(t, 2)}}); err == nil {
			t.Error("an order was admitted to a read-only disk")
		}
		remount(0)
		if _, err := s.Admit(t.Context(), bridge.Admission{Orders: []bridge.Order{numbered(t, 3)}}); err != nil {
			t.Errorf("admit after the disk became writable: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	} else if errors.Is(err, ErrClosed) {
		t.Error(err)
	} else {
		remount(0)
	}
	s = openTest(t, Config{Dir: dir})
	admitTest(t, s, numbered(t, 4))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
