package vault

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

// leased keeps the file to the test, as its owner can: nobody else can open it.
func leased(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skipf("no leases here: %v", err)
	}
}

func TestSearchIsNotDoneWhileAFileOfTheNameCannotBeLookedAt(t *testing.T) {
	t.Parallel()
	for _, sha256 := range []string{"", sha256Of(text)} {
		v := newVault(t, nil)
		dir := t.TempDir()
		task := bridge.DeleteFile{Path: filepath.Join(dir, "evil"), SHA256: sha256, SearchInSubfolders: true}
		held := write(t, filepath.Join(dir, "b", "evil"), text)
		leased(t, held)
		r, err := v.DeleteFile(t.Context(), "o1", task)
		if class, _ := classAndReason(t, err); class != bridge.Retry || !strings.Contains(err.Error(), held) {
			t.Errorf("one that is held: %+v, %v", r, err)
		}
		if r, found, err := v.Reconcile(t.Context(), "o1", task); err != nil || found {
			t.Errorf("reconciled: %+v, %v, %v", r, found, err)
		}
		free := write(t, filepath.Join(dir, "a", "evil"), text)
		r, err = v.DeleteFile(t.Context(), "o1", task)
		if class, _ := classAndReason(t, err); class != bridge.Unknown || !strings.Contains(err.Error(), held) {
			t.Errorf("one that is held and one that is not: %+v, %v", r, err)
		}
		if there(t, free, text) {
			t.Error("the file nobody holds is still there")
		}
		empty(t, v)
	}
}

// withoutOverride runs do without the right of root to look into every folder; a thread that gave it up is not used again.
func withoutOverride(t *testing.T, do func()) {
	t.Helper()
	agenttest.NeedRoot(t)
	done := make(chan error, 1)
	go func() {
		defer close(done)
		runtime.LockOSThread()
		head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var caps [2]unix.CapUserData
		err := unix.Capget(&head, &caps[0])
		caps[0].Effective &^= 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH
		if err == nil {
			err = unix.Capset(&head, &caps[0])
		}
		if err != nil {
			done <- err
			return
		}
		do()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestSearchIsNotDoneWhileAFolderCannotBeLookedInto(t *testing.T) {
	t.Parallel()
	v := newVault(t, nil)
	dir := t.TempDir()
	shut := filepath.Dir(write(t, filepath.Join(dir, "shut", "evil"), text))
	if err := errors.Join(os.Chmod(shut, 0), os.Chown(shut, 1234, 1234)); err != nil {
		t.Fatal(err)
	}
	task := bridge.DeleteFile{Path: filepath.Join(dir, "evil"), SearchInSubfolders: true}
	withoutOverride(t, func() {
		r, err := v.DeleteFile(t.Context(), "o1", task)
		if class, _ := classAndReason(t, err); class != bridge.Permanent || !strings.Contains(err.Error(), "1 folders below") {
			t.Errorf("got %+v, %v", r, err)
		}
		if r, found, err := v.Reconcile(t.Context(), "o1", task); err != nil || found {
			t.Errorf("reconciled: %+v, %v, %v", r, found, err)
		}
	})
}

func TestSearchGoesOnPastAFileThatCannotBeJudged(t *testing.T) {
	t.Parallel()
	v := newVault(t, func(c *Config) {
		c.Protected = func(_ context.Context, _ *os.File, path string) (bridge.Reason, string, error) {
			if strings.Contains(path, "/unclear/") {
				return bridge.ReasonNone, "", errors.New("cannot tell")
			}
			return bridge.ReasonNone, "", nil
		}
	})
	dir := t.TempDir()
	unclear := write(t, filepath.Join(dir, "unclear", "evil"), text)
	meant := write(t, filepath.Join(dir, "z", "evil"), text)
	task := bridge.DeleteFile{Path: filepath.Join(dir, "evil"), SHA256: sha256Of(text), SearchInSubfolders: true}
	r, err := v.DeleteFile(t.Context(), "o1", task)
	if class, _ := classAndReason(t, err); class != bridge.Unknown || !strings.Contains(err.Error(), unclear) {
		t.Errorf("got %+v, %v", r, err)
	}
	if there(t, meant, text) || !there(t, unclear, text) {
		t.Error("what is meant is still there, or what nobody could judge is gone")
	}
}

func TestSearchThatIsCutShortDeletesNothing(t *testing.T) {
	t.Parallel()
	v := newVault(t, nil)
	dir := t.TempDir()
	meant := write(t, filepath.Join(dir, "evil"), text)
	if err := os.MkdirAll(filepath.Join(dir, strings.Repeat("d/", 300)), 0o700); err != nil {
		t.Fatal(err)
	}
	r, err := v.DeleteFile(t.Context(), "o1", bridge.DeleteFile{Path: meant, SearchInSubfolders: true})
	if class, _ := classAndReason(t, err); class != bridge.Permanent || !there(t, meant, text) {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestDryRunOfASearchSaysWhatItCouldNotLookAt(t *testing.T) {
	t.Parallel()
	v := newVault(t, func(c *Config) { c.DryRun = true })
	dir := t.TempDir()
	leased(t, write(t, filepath.Join(dir, "b", "evil"), text))
	r, err := v.DeleteFile(t.Context(), "o1", bridge.DeleteFile{Path: filepath.Join(dir, "evil"), SearchInSubfolders: true})
	if err != nil || !strings.Contains(r.Detail, "1 files or folders could not be looked at") {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestTargetThatChangesAfterThePlanIsLeftAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, second := write(t, filepath.Join(dir, "a", "evil"), text), write(t, filepath.Join(dir, "b", "evil"), text)
	// Open for writing, so that no lease can be had.
	w, err := os.OpenFile(second, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	v := newVault(t, func(c *Config) {
		c.crash = func(at string) {
			if at == "done" {
				_, _ = w.WriteString("more")
			}
		}
	})
	task := bridge.DeleteFile{Path: filepath.Join(dir, "evil"), SHA256: sha256Of(text), SearchInSubfolders: true}
	r, err := v.DeleteFile(t.Context(), "o1", task)
	if class, _ := classAndReason(t, err); class != bridge.Unknown || !strings.Contains(err.Error(), second+" changed after it was looked at") {
		t.Errorf("got %+v, %v", r, err)
	}
	if there(t, first, text) || !there(t, second, text+"more") {
		t.Error("the wrong file is gone")
	}
}
