package store

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestF36SecondBridgeIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, second := openTest(t, Config{Dir: dir}), openTest(t, Config{Dir: dir})
	unlock, err := first.LockInstance()
	if err != nil {
		t.Fatal(err)
	}
	_, err = second.LockInstance()
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) || !strings.Contains(err.Error(), dir) {
		t.Errorf("second lock: %v, want ErrLocked with process and folder", err)
	}
	admitTest(t, second, numbered(t, 1)) // a store without the lock works
	for range 2 {
		if err := unlock(); err != nil {
			t.Errorf("unlock: %v", err)
		}
	}
	again, err := second.LockInstance()
	if err != nil {
		t.Fatalf("lock after unlock: %v", err)
	}
	if err := again(); err != nil {
		t.Error(err)
	}
}

func TestLockSurvivesRubbishInItsFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openTest(t, Config{Dir: dir})
	if err := os.WriteFile(filepath.Join(dir, lockName), []byte(strings.Repeat("\x1b[31m", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	unlock, err := s.LockInstance()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, lockName)); string(got) != strconv.Itoa(os.Getpid())+"\n" || err != nil {
		t.Errorf("lock file holds %q, %v", got, err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
}
