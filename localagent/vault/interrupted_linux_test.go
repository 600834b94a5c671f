package vault

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// killed is a vault whose order was killed at the point, and the path it was about.
func killed(t *testing.T, task, point string) (*Vault, string) {
	t.Helper()
	dir := memory(t)
	path := write(t, filepath.Join(filepath.Dir(dir), "d", "bad"), text)
	dieAt(t, task, point, dir, path, "")
	return newVault(t, func(c *Config) { c.Dir = dir }), path
}

// replace puts another file with the text at the path, under an inode number of its own.
func replace(t *testing.T, path, text string) {
	t.Helper()
	if err := os.Rename(write(t, path+".new", text), path); err != nil {
		t.Fatal(err)
	}
}

func TestFileThatWasNotTakenIsNeverCalledTaken(t *testing.T) {
	t.Parallel()
	for _, task := range []string{"quarantine", "delete"} {
		for what, put := range map[string]string{"the same content": text, "other content": strings.Repeat("x", len(text))} {
			t.Run(task+"/"+what, func(t *testing.T) {
				t.Parallel()
				v, path := killed(t, task, "ready")
				replace(t, path, put)
				if task == "quarantine" {
					if r, found, err := v.Reconcile(t.Context(), "o1", bridge.QuarantineFile{Path: path}); err != nil || found {
						t.Errorf("reconciled: %+v, %v", r, err)
					}
				}
				did, err := v.Recover(t.Context())
				if err != nil || len(did) != 1 || !strings.Contains(did[0], "nothing was taken away") || !there(t, path, put) {
					t.Errorf("recovered %v, %v", did, err)
				}
				empty(t, v)
				r, err := order(t.Context(), v, task, path)
				if task == "quarantine" && put != text {
					if class, _ := classAndReason(t, err); class != bridge.Permanent || !there(t, path, put) {
						t.Errorf("the same order: %+v, %v", r, err)
					}
				} else if err != nil || there(t, path, put) {
					t.Errorf("the same order: %+v, %v", r, err)
				}
			})
		}
	}
}

func TestFileThatWasTakenStaysTakenWhateverStandsThereNow(t *testing.T) {
	t.Parallel()
	for what, put := range map[string]func(t *testing.T, path string){
		"nothing":        func(*testing.T, string) {},
		"another file":   func(t *testing.T, path string) { replace(t, path, innocent) },
		"link":           func(t *testing.T, path string) { _ = os.Symlink("/etc/passwd", path) },
		"folder":         func(t *testing.T, path string) { _ = os.Mkdir(path, 0o700) },
		"file as folder": func(t *testing.T, path string) { _ = os.Remove(filepath.Dir(path)); write(t, filepath.Dir(path), "x") },
		"link as folder": func(t *testing.T, path string) {
			_ = os.Remove(filepath.Dir(path))
			_ = os.Symlink("/etc", filepath.Dir(path))
		},
	} {
		for _, after := range []string{"recovered", "same order again"} {
			t.Run(what+"/"+after, func(t *testing.T) {
				t.Parallel()
				v, path := killed(t, "quarantine", "unlink")
				put(t, path)
				if after == "recovered" {
					if did, err := v.Recover(t.Context()); err != nil || len(did) != 1 || !strings.Contains(did[0], "ended the removal") {
						t.Errorf("got %v, %v", did, err)
					}
				} else if r, err := order(t.Context(), v, "quarantine", path); err != nil || r.State != bridge.StateDone ||
					strings.Contains(r.Detail, "something stands at that path again") != strings.Contains("another file link folder", what) {
					t.Errorf("got %+v, %v", r, err)
				}
				emptyBut(t, v, only(t, v).ID)
			})
		}
	}
}

func TestFileThatIsBackUnderAnotherInodeIsTakenAgain(t *testing.T) {
	t.Parallel()
	// A loss of power can undo the taking, and some filesystems give new inode numbers with each mount.
	v, path := killed(t, "quarantine", "unlink")
	write(t, path, text)
	if r, err := order(t.Context(), v, "quarantine", path); err != nil || there(t, path, text) {
		t.Errorf("got %+v, %v", r, err)
	}
	emptyBut(t, v, only(t, v).ID)
}

func TestNoteStaysWhileTheCopyOfAFileThatWasNotTakenDoes(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "bad"), text)
	task := bridge.QuarantineFile{Path: path, SHA256: sha256Of(text)}
	id := newID("o1", bridge.KindQuarantineFile, path)
	var v *Vault
	v = newVault(t, func(c *Config) {
		c.crash = func(at string) {
			if at == "ready" {
				flagged(t, v.itemDir(id), 0x10)
				replace(t, path, text)
			}
		}
	})
	_, err := v.QuarantineFile(t.Context(), "o1", task)
	if class, _ := classAndReason(t, err); class != bridge.Unknown {
		t.Fatalf("got %v", err)
	}
	v.cfg.crash = func(string) {}
	for range 2 {
		if r, found, err := v.Reconcile(t.Context(), "o1", task); err != nil || found {
			t.Errorf("reconciled: %+v, %v", r, err)
		}
		if r, err := v.QuarantineFile(t.Context(), "o1", task); err == nil {
			t.Errorf("the same order: %+v", r)
		}
	}
	unflag(t, v.itemDir(id))
	if r, err := v.QuarantineFile(t.Context(), "o1", task); err != nil || there(t, path, text) {
		t.Errorf("the same order: %+v, %v", r, err)
	}
}

func TestLinksMadeAtTheLastMomentAreReported(t *testing.T) {
	t.Parallel()
	for task, point := range map[string]string{"quarantine": "blob", "delete": "ready"} {
		path := write(t, filepath.Join(t.TempDir(), "bad"), text)
		v := newVault(t, func(c *Config) {
			c.crash = func(at string) {
				if at == point {
					if err := os.Link(path, path+".2"); err != nil {
						t.Error(err)
					}
				}
			}
		})
		r, err := order(t.Context(), v, task, path)
		if err != nil || !strings.Contains(r.Detail, "it has 1 other names (hard links)") {
			t.Errorf("%s: %+v, %v", task, r, err)
		}
	}
}

func TestFileThatGrowsWithoutEndIsNotReadToItsEnd(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "bad"), text)
	w, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	v := newVault(t, func(c *Config) {
		c.crash = func(at string) {
			if at == "take" {
				if err := w.Truncate(1 << 40); err != nil {
					t.Error(err)
				}
			}
		}
	})
	_, err = order(t.Context(), v, "quarantine", path)
	if class, _ := classAndReason(t, err); class != bridge.Retry {
		t.Errorf("got %v", err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Size() != 1<<40 {
		t.Errorf("the file is not at its place: %v", err)
	}
	empty(t, v)
}

func TestStrayFileIsToldEvenWhenTheOrderWasStopped(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := fileVerdict(ctx, "/d/bad", &files.StrayError{At: "/stage/x", Err: errors.New("name taken")})
	if class, _ := classAndReason(t, err); class != bridge.Unknown || !strings.Contains(err.Error(), "/stage/x") {
		t.Errorf("got %v", err)
	}
}

func TestInodeFlagsSurviveAKill(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"ready", "take"} {
		for _, where := range []string{"file", "folder"} {
			if point == "take" && where == "file" {
				continue // it is on its way out
			}
			t.Run(point+"/"+where, func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(t.TempDir(), "quarantine")
				path := write(t, filepath.Join(t.TempDir(), "bad"), text)
				flaggedAt := path
				if where == "folder" {
					flaggedAt = filepath.Dir(path)
				}
				flagged(t, flaggedAt, 0x10)
				dieAt(t, "quarantine", point, dir, path, "")
				// What Take does before it moves the file.
				unflag(t, flaggedAt)
				v := newVault(t, func(c *Config) { c.Dir = dir })
				if did, err := v.Recover(t.Context()); err != nil || len(did) != 1 {
					t.Fatalf("got %v, %v", did, err)
				}
				if flagsOf(t, flaggedAt)&0x10 == 0 {
					t.Error("the flag is gone")
				}
				if there(t, path, text) != (point == "ready") {
					t.Error("the file is at the wrong place")
				}
			})
		}
	}
}

func TestStrangeThingInTheStageIsPutBackByRecover(t *testing.T) {
	t.Parallel()
	v, path := killed(t, "delete", "take")
	staged := filepath.Join(v.stageDir(), newID("o1", bridge.KindDeleteFile, path))
	if err := errors.Join(os.Remove(staged), unix.Mkfifo(staged, 0o600)); err != nil {
		t.Fatal(err)
	}
	if did, err := v.Recover(t.Context()); err != nil || len(did) != 1 {
		t.Errorf("got %v, %v", did, err)
	}
	if fi, err := os.Lstat(path); err != nil || fi.Mode()&os.ModeNamedPipe == 0 {
		t.Errorf("the FIFO is not back: %v", err)
	}
	empty(t, v)
}

func TestFileThatGoesAtRestartIsNotCalledGone(t *testing.T) {
	t.Parallel()
	for _, task := range []string{"quarantine", "delete"} {
		v, path := killed(t, task, "unlink")
		kind := bridge.KindQuarantineFile
		if task == "delete" {
			kind = bridge.KindDeleteFile
		}
		rec, err := v.readPending(newID("o1", kind, path))
		if err != nil || rec == nil {
			t.Fatal(rec, err)
		}
		until := write(t, path+".edr-bridge-1", text)
		rec.Stage, rec.AtRestart = "", rawPath(until)
		if err := v.writePending(rec); err != nil {
			t.Fatal(err)
		}
		if did, err := v.Recover(t.Context()); err != nil || len(did) != 0 {
			t.Errorf("%s: recovered %v, %v", task, did, err)
		}
		for range 2 {
			if r, err := order(t.Context(), v, task, path); err != nil || r.State != bridge.StateAccepted || !strings.Contains(r.Detail, until) {
				t.Errorf("%s before the restart: %+v, %v", task, r, err)
			}
		}
		if err := os.Remove(until); err != nil {
			t.Fatal(err)
		}
		if r, err := order(t.Context(), v, task, path); err != nil || r.State != bridge.StateDone {
			t.Errorf("%s after the restart: %+v, %v", task, r, err)
		}
	}
}

func TestNoteOfAnotherOrderThatCannotBeReadHindersNobody(t *testing.T) {
	t.Parallel()
	v := newVault(t, nil)
	path := write(t, filepath.Join(t.TempDir(), "bad"), text)
	task := bridge.DeleteFile{Path: path}
	if _, err := v.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	write(t, v.pendingPath(newID("other", bridge.KindDeleteFile, "/x")), "")
	if r, found, err := v.Reconcile(t.Context(), "o1", task); err != nil || found {
		t.Errorf("reconciled: %+v, %v", r, err)
	}
	if r, err := v.DeleteFile(t.Context(), "o1", task); err != nil || there(t, path, text) {
		t.Errorf("got %+v, %v", r, err)
	}
	write(t, v.pendingPath(newID("o2", bridge.KindDeleteFile, path)), "")
	if r, err := v.DeleteFile(t.Context(), "o2", task); err == nil {
		t.Errorf("with its own note: %+v", r)
	}
}

func TestStagedFileThatChangedIsPutBackByItsMD5(t *testing.T) {
	t.Parallel()
	for _, want := range []files.Digests{{MD5: md5Of(text)}, {SHA256: sha256Of(text)}} {
		v, path := killed(t, "delete", "take")
		rec, err := v.readPending(newID("o1", bridge.KindDeleteFile, path))
		if err != nil || rec == nil {
			t.Fatal(rec, err)
		}
		rec.MD5, rec.SHA256 = want.MD5, want.SHA256
		if err := v.writePending(rec); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(filepath.Join(v.stageDir(), rec.ID), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("X"), 0); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		if did, err := v.Recover(t.Context()); err != nil || !there(t, path, "X"+text[1:]) {
			t.Errorf("%+v: recovered %v, %v", want, did, err)
		}
	}
}

func TestIntentHoldsBothDigests(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "bad"), text)
	var got *pending
	var v *Vault
	v = newVault(t, func(c *Config) {
		c.crash = func(at string) {
			if at == "take" {
				got, _ = v.readPending(newID("o1", bridge.KindDeleteFile, path))
			}
		}
	})
	if _, err := v.DeleteFile(t.Context(), "o1", bridge.DeleteFile{Path: path, MD5: md5Of(text)}); err != nil || got == nil || got.MD5 != md5Of(text) {
		t.Errorf("got %+v, %v", got, err)
	}
}
