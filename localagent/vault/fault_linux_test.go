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
			if err != nil || !strings.Contains(r.Detail, want) || !strings.Contains(r.Detail, "the content stays: it has 1 other names (hard links)") {
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
