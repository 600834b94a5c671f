package vault

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// flagged sets inode flags until the test ends.
func flagged(t *testing.T, path string, flags int) {
	t.Helper()
	agenttest.NeedRoot(t)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	has, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		t.Skipf("no inode flags here: %v", err)
	}
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(has)|flags); err != nil {
		t.Skipf("no inode flags here: %v", err)
	}
	t.Cleanup(func() {
		_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(has))
		_ = f.Close()
	})
}

// unflag lets the test's own clean-up remove the file.
func unflag(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0); err != nil {
		t.Error(err)
	}
}

func flagsOf(t *testing.T, path string) uint32 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags, err := files.Flags(f)
	if err != nil {
		t.Fatal(err)
	}
	return flags
}

func TestF43ImmutableAndAppendOnlyFilesAreTakenAndRemembered(t *testing.T) {
	t.Parallel()
	for _, task := range []string{"quarantine", "delete"} {
		for name, flag := range map[string]int{"immutable": 0x10, "append-only": 0x20} {
			for _, folder := range []bool{false, true} {
				t.Run(fmt.Sprint(task, "/", name, "/folder too: ", folder), func(t *testing.T) {
					t.Parallel()
					v := newVault(t, nil)
					dir := t.TempDir()
					path := write(t, filepath.Join(dir, "bad"), text)
					flagged(t, path, flag)
					if folder {
						flagged(t, dir, flag)
					}
					if r, err := order(t.Context(), v, task, path); err != nil {
						t.Fatalf("got %+v, %v", r, err)
					}
					if there(t, path, text) {
						t.Error("the file is still there")
					}
					if got := flagsOf(t, dir)&0x30 != 0; got != folder {
						t.Errorf("the folder has its flag: %v, want %v", got, folder)
					}
					if task == "delete" {
						return
					}
					it := only(t, v)
					if it.Attributes.Flags&0x30 != uint32(flag) {
						t.Errorf("remembered flags %#x", it.Attributes.Flags)
					}
					to := t.TempDir()
					r, err := v.Restore(t.Context(), it.ID, to)
					if err != nil || len(r.Missing) > 0 || flagsOf(t, r.Path)&0x30 != uint32(flag) {
						t.Errorf("restored %+v, %v with flags %#x", r, err, flagsOf(t, r.Path))
					}
					unflag(t, r.Path)
				})
			}
		}
	}
}

func TestF43BusyFileIsTakenAndItsHoldersAreNamed(t *testing.T) {
	t.Parallel()
	for _, task := range []string{"quarantine", "delete"} {
		t.Run(task, func(t *testing.T) {
			t.Parallel()
			v := newVault(t, nil)
			path := agenttest.Program(t, "sleep", "busy")
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(path, "1000")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			})
			if err := os.Link(path, path+".2"); err != nil {
				t.Fatal(err)
			}
			var r bridge.Receipt
			if task == "delete" {
				r, err = v.DeleteFile(t.Context(), "o1", bridge.DeleteFile{Path: path})
			} else {
				r, err = v.QuarantineFile(t.Context(), "o1", bridge.QuarantineFile{Path: path})
			}
			want := fmt.Sprintf("pid %d (busy, runs it)", cmd.Process.Pid)
			if err != nil || !strings.Contains(r.Detail, want) || !strings.Contains(r.Detail, "it had 2 names, the content stays under the other 1") {
				t.Errorf("got %q, %v; want %q", r.Detail, err, want)
			}
			if there(t, path, string(data)) || !there(t, path+".2", string(data)) {
				t.Error("the wrong name is gone")
			}
		})
	}
}

func TestF43LeasedFileIsTriedAgainLater(t *testing.T) {
	t.Parallel()
	v := newVault(t, nil)
	path := write(t, filepath.Join(t.TempDir(), "bad"), text)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skipf("no leases here: %v", err)
	}
	each(t, v, path, "", "", func(task string, r bridge.Receipt, err error) {
		if class, _ := classAndReason(t, err); class != bridge.Retry {
			t.Errorf("%s: %+v, %v", task, r, err)
		}
	})
	_ = f.Close()
	if !there(t, path, text) {
		t.Error("the file is gone")
	}
	empty(t, v)
}

func TestF43FileThatChangesMeanwhileIsUntouched(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"blob", "pending", "ready", "take"} {
		for _, task := range []string{"quarantine", "delete"} {
			if point == "blob" && task == "delete" {
				continue
			}
			t.Run(task+"/"+point, func(t *testing.T) {
				t.Parallel()
				path := write(t, filepath.Join(t.TempDir(), "bad"), text)
				// Open for writing, so that no lease can be had.
				w, err := os.OpenFile(path, os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer w.Close()
				v := newVault(t, func(c *Config) {
					c.crash = func(at string) {
						if at == point {
							if _, err := w.WriteAt([]byte("X"), 0); err != nil {
								t.Error(err)
							}
						}
					}
				})
				if task == "quarantine" {
					_, err = v.QuarantineFile(t.Context(), "o1", bridge.QuarantineFile{Path: path})
				} else {
					_, err = v.DeleteFile(t.Context(), "o1", bridge.DeleteFile{Path: path, SHA256: sha256Of(text)})
				}
				if class, _ := classAndReason(t, err); class != bridge.Retry {
					t.Errorf("got %v", err)
				}
				if !there(t, path, "X"+text[1:]) {
					t.Error("the file is not at its place")
				}
				empty(t, v)
			})
		}
	}
}

func TestF43FileThatVanishesMeanwhileLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"blob", "meta", "pending", "ready"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			path := write(t, filepath.Join(t.TempDir(), "bad"), text)
			v := newVault(t, func(c *Config) {
				c.crash = func(at string) {
					if at == point {
						_ = os.Remove(path)
					}
				}
			})
			_, err := v.QuarantineFile(t.Context(), "o1", bridge.QuarantineFile{Path: path})
			if class, _ := classAndReason(t, err); class == bridge.Unknown {
				t.Errorf("got %v", err)
			}
			empty(t, v)
		})
	}
}

func TestF43WritersWaitWhileAFileIsCopied(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "f"), text)
	tried := 0
	v := newVault(t, func(c *Config) {
		c.crash = func(string) {
			if tried++; tried == 1 {
				fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK, 0)
				if err == nil {
					_ = unix.Close(fd)
					t.Error("the file could be opened for writing while it was copied")
				}
			}
		}
	})
	// Whoever wants to write breaks the lease: then the content is compared, and it has not changed.
	if _, err := v.QuarantineFile(t.Context(), "o1", bridge.QuarantineFile{Path: path}); err != nil {
		t.Error(err)
	}
	if tried == 0 {
		t.Error("nothing was copied")
	}
}

func TestGetFileThatChangesMeanwhileSaysSo(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "log"), text)
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	v := newVault(t, func(c *Config) {
		c.crash = func(at string) {
			if at == "blob" {
				_, _ = w.WriteString("another line\n")
			}
		}
	})
	r, err := v.GetFile(t.Context(), "o1", bridge.GetFile{Path: path})
	if err != nil || !strings.Contains(r.Detail, "it changed while it was read") {
		t.Errorf("got %+v, %v", r, err)
	}
	if got := content(t, v, only(t, v).ID); got != text {
		t.Errorf("the copy holds %q", got)
	}
}

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

func TestEndedContextLeavesTheFileUntouched(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"", "blob", "meta"} {
		ctx, cancel := context.WithCancel(t.Context())
		v := newVault(t, func(c *Config) {
			c.crash = func(at string) {
				if at == point {
					cancel()
				}
			}
		})
		if point == "" {
			cancel()
		}
		path := write(t, filepath.Join(t.TempDir(), "bad"), text)
		_, err := order(ctx, v, "quarantine", path)
		if class, _ := classAndReason(t, err); class != bridge.Retry || !there(t, path, text) {
			t.Errorf("ended at %q: %v", point, err)
		}
		cancel()
		empty(t, v)
	}
}
