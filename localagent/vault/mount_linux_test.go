package vault

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

func TestF44QuotaAndSizeLeaveTheFileUntouched(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	big := write(t, filepath.Join(dir, "big"), strings.Repeat("x", 5000))
	v := newVault(t, func(c *Config) { c.Quota, c.MaxFile = 8000, 6000 })
	if _, err := order(t.Context(), v, "get", big); err != nil {
		t.Fatal(err)
	}
	_, err := v.QuarantineFile(t.Context(), "o2", bridge.QuarantineFile{Path: big})
	if class, reason := classAndReason(t, err); class != bridge.Permanent || reason != bridge.ReasonLimit {
		t.Errorf("beyond the quota: %v", err)
	}
	huge := write(t, filepath.Join(dir, "huge"), strings.Repeat("x", 6001))
	_, err = v.QuarantineFile(t.Context(), "o3", bridge.QuarantineFile{Path: huge})
	if class, _ := classAndReason(t, err); class != bridge.Permanent {
		t.Errorf("beyond the size: %v", err)
	}
	if !there(t, big, strings.Repeat("x", 5000)) || !there(t, huge, strings.Repeat("x", 6001)) {
		t.Error("a file is gone")
	}
	emptyBut(t, v, only(t, v).ID)
	lax := newVault(t, func(c *Config) { c.Quota, c.QuotaWarns = 10, true })
	if _, err := order(t.Context(), lax, "get", big); err != nil {
		t.Errorf("a quota that only warns: %v", err)
	}
}

// mounted mounts a filesystem in memory at a fresh folder, in the namespace of the test.
func mounted(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func TestF44FullDiskLeavesTheFileUntouched(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	disk := mounted(t, "size=1m,mode=0700")
	v := newVault(t, func(c *Config) { c.Dir = filepath.Join(disk, "q") })
	data := strings.Repeat("x", 2<<20)
	path := write(t, filepath.Join(t.TempDir(), "big"), data)
	for _, task := range []string{"get", "quarantine"} {
		_, err := order(t.Context(), v, task, path)
		if task == "quarantine" {
			_, err = v.QuarantineFile(t.Context(), "o1", bridge.QuarantineFile{Path: path})
		}
		if class, _ := classAndReason(t, err); class != bridge.Retry {
			t.Errorf("%s: %v", task, err)
		}
	}
	if !there(t, path, data) {
		t.Error("the file is gone")
	}
	empty(t, v)
}

func TestF44FileOnAnotherFilesystemGoesThroughAStageThere(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	for _, task := range []string{"quarantine", "delete"} {
		for _, tt := range []struct {
			name string
			trap func(t *testing.T, disk string)
		}{
			{"free", func(*testing.T, string) {}},
			{"name taken by a file", func(t *testing.T, disk string) { write(t, filepath.Join(disk, ".edr-bridge-stage"), "x") }},
			{"name taken by a link", func(t *testing.T, disk string) {
				if err := os.Symlink("/tmp", filepath.Join(disk, ".edr-bridge-stage")); err != nil {
					t.Fatal(err)
				}
			}},
			{"name taken by a folder for all", func(t *testing.T, disk string) {
				at := filepath.Join(disk, ".edr-bridge-stage")
				if err := os.Mkdir(at, 0o777); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(at, 0o777); err != nil {
					t.Fatal(err)
				}
			}},
			{"name taken by a folder of another user", func(t *testing.T, disk string) {
				at := filepath.Join(disk, ".edr-bridge-stage")
				if err := os.Mkdir(at, 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.Chown(at, 1234, 1234); err != nil {
					t.Fatal(err)
				}
			}},
		} {
			v := newVault(t, nil)
			disk := mounted(t, "size=4m")
			tt.trap(t, disk)
			before, _ := os.ReadDir(disk)
			path := write(t, filepath.Join(disk, "sub", "bad"), text)
			if r, err := order(t.Context(), v, task, path); err != nil {
				t.Fatalf("%s, %s: %+v, %v", task, tt.name, r, err)
			}
			after, _ := os.ReadDir(disk)
			if there(t, path, text) || len(after) != len(before)+1 {
				t.Errorf("%s, %s: before %v, after %v", task, tt.name, before, after)
			}
		}
	}
}

func TestF43ReadOnlyMountAndMountedFileAreRefused(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	v := newVault(t, nil)
	disk := mounted(t, "size=4m")
	path := write(t, filepath.Join(disk, "bad"), text)
	mountedOn := write(t, filepath.Join(t.TempDir(), "bad"), "below")
	if err := unix.Mount(path, mountedOn, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(mountedOn, unix.MNT_DETACH) })
	for _, task := range []string{"quarantine", "delete"} {
		_, err := order(t.Context(), v, task, mountedOn)
		if class, _ := classAndReason(t, err); class != bridge.Permanent {
			t.Errorf("%s of a mount point: %v", task, err)
		}
	}
	if err := unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for _, task := range []string{"quarantine", "delete"} {
		_, err := order(t.Context(), v, task, path)
		if class, _ := classAndReason(t, err); class != bridge.Permanent || !strings.Contains(err.Error(), "read-only") {
			t.Errorf("%s on a read-only mount: %v", task, err)
		}
	}
	empty(t, v)
	if _, err := order(t.Context(), v, "get", path); err != nil {
		t.Errorf("get from a read-only mount: %v", err)
	}
	_, err := v.Restore(t.Context(), only(t, v).ID, disk)
	if err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("restore onto a read-only mount: %v", err)
	}
}
