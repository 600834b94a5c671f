package vault

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestDeleteRemovesExactlyWhatIsMeant(t *testing.T) {
	t.Parallel()
	v := newVault(t, nil)
	dir := t.TempDir()
	path := write(t, filepath.Join(dir, "bad"), text)
	other := write(t, filepath.Join(dir, "bad2"), text)
	r, err := v.DeleteFile(t.Context(), "o1", bridge.DeleteFile{Path: path, SHA256: sha256Of(text), MD5: md5Of(text)})
	if err != nil || r.State != bridge.StateDone || r.Detail != "deleted "+path {
		t.Fatalf("got %+v, %v", r, err)
	}
	if there(t, path, text) || !there(t, other, text) {
		t.Error("another file than the one that was meant is gone")
	}
	r, err = v.DeleteFile(t.Context(), "o1", bridge.DeleteFile{Path: path})
	if err != nil || r.Detail != "nothing to delete: "+path+" is not there" {
		t.Errorf("the same order again: %+v, %v", r, err)
	}
	empty(t, v)
}

func TestDeleteSearchesSubfoldersByPlan(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		task    bridge.DeleteFile
		max     int
		class   bridge.Class
		reason  bridge.Reason
		refused bool
		left    string
		detail  string
	}{
		{
			name: "by name", task: bridge.DeleteFile{Path: "evil.bin", SearchInSubfolders: true}, max: 64,
			left: "a/good.bin x/keep", detail: "deleted ",
		},
		{
			name: "by name and digest", task: bridge.DeleteFile{Path: "evil.bin", SHA256: sha256Of("evil"), SearchInSubfolders: true}, max: 64,
			left: "a/good.bin b/evil.bin x/keep", detail: "deleted ",
		},
		{
			name: "beyond the limit nothing", task: bridge.DeleteFile{Path: "evil.bin", SearchInSubfolders: true}, max: 2,
			class: bridge.Permanent, reason: bridge.ReasonInvalid, refused: true, left: "a/evil.bin a/good.bin b/evil.bin c/d/evil.bin x/keep",
		},
		{
			name: "no such name", task: bridge.DeleteFile{Path: "none.bin", SearchInSubfolders: true}, max: 64,
			left: "a/evil.bin a/good.bin b/evil.bin c/d/evil.bin x/keep", detail: "nothing to delete: no file named none.bin below ",
		},
		{
			name: "no such folder", task: bridge.DeleteFile{Path: "none/evil.bin", SearchInSubfolders: true}, max: 64,
			left: "a/evil.bin a/good.bin b/evil.bin c/d/evil.bin x/keep", detail: "nothing to delete: ",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := newVault(t, func(c *Config) { c.MaxTargets = tt.max })
			dir := t.TempDir()
			for name, text := range map[string]string{"a/evil.bin": "evil", "a/good.bin": "evil", "b/evil.bin": "other", "c/d/evil.bin": "evil", "x/keep": "k"} {
				write(t, filepath.Join(dir, name), text)
			}
			outside := write(t, filepath.Join(t.TempDir(), "evil.bin"), "evil")
			if err := os.Symlink(filepath.Dir(outside), filepath.Join(dir, "x", "link")); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(outside, filepath.Join(dir, "x", "evil.bin")); err != nil {
				t.Fatal(err)
			}
			tt.task.Path = filepath.Join(dir, tt.task.Path)
			r, err := v.DeleteFile(t.Context(), "o1", tt.task)
			if tt.refused {
				if class, reason := classAndReason(t, err); class != tt.class || reason != tt.reason {
					t.Errorf("got %v %v, %v", class, reason, err)
				}
			} else if err != nil || !strings.HasPrefix(r.Detail, tt.detail) {
				t.Errorf("got %+v, %v", r, err)
			}
			var left []string
			_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, _ error) error {
				if d.Type().IsRegular() {
					rel, _ := filepath.Rel(dir, path)
					left = append(left, rel)
				}
				return nil
			})
			if got := strings.Join(left, " "); got != tt.left {
				t.Errorf("left are %q, want %q", got, tt.left)
			}
			if !there(t, outside, "evil") {
				t.Error("a file behind a link is gone")
			}
			empty(t, v)
		})
	}
}

func TestDeleteOfTheWholeDiskNeedsADigest(t *testing.T) {
	t.Parallel()
	v := newVault(t, func(c *Config) { c.DryRun = true })
	_, err := v.DeleteFile(t.Context(), "o1", bridge.DeleteFile{Path: "/evil.bin", SearchInSubfolders: true})
	if class, reason := classAndReason(t, err); class != bridge.Permanent || reason != bridge.ReasonInvalid {
		t.Errorf("got %v", err)
	}
}

func TestProtectedFilesAreLeftAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var asked []string
	v := newVault(t, func(c *Config) {
		c.Protected = func(_ context.Context, f *os.File, path string) (bridge.Reason, string, error) {
			var st, same unix.Stat_t
			if unix.Fstat(int(f.Fd()), &st) != nil || unix.Stat(path, &same) != nil || st.Ino != same.Ino {
				t.Errorf("asked about %s with another file", path)
			}
			asked = append(asked, path)
			switch {
			case strings.Contains(path, "/sacred/"):
				return bridge.ReasonProtectedPath, "sacred: ours", nil
			case strings.Contains(path, "/unclear/"):
				return bridge.ReasonNone, "", errors.New("cannot tell")
			}
			return bridge.ReasonNone, "", nil
		}
	})
	for _, name := range []string{"sacred/f", "unclear/f", "f"} {
		write(t, filepath.Join(dir, name), text)
	}
	tasks := map[string]func(path string) (bridge.Receipt, error){
		"get": func(path string) (bridge.Receipt, error) {
			return v.GetFile(t.Context(), "o1", bridge.GetFile{Path: path})
		},
		"quarantine": func(path string) (bridge.Receipt, error) {
			return v.QuarantineFile(t.Context(), "o1", bridge.QuarantineFile{Path: path})
		},
		"delete": func(path string) (bridge.Receipt, error) {
			return v.DeleteFile(t.Context(), "o1", bridge.DeleteFile{Path: path})
		},
		"search": func(path string) (bridge.Receipt, error) {
			return v.DeleteFile(t.Context(), "o1", bridge.DeleteFile{Path: path, SearchInSubfolders: true})
		},
	}
	for name, do := range tasks {
		_, err := do(filepath.Join(dir, "sacred", "f"))
		if class, reason := classAndReason(t, err); class != bridge.Permanent || reason != bridge.ReasonProtectedPath {
			t.Errorf("%s of a protected file: %v", name, err)
		}
		_, err = do(filepath.Join(dir, "unclear", "f"))
		if class, _ := classAndReason(t, err); class != bridge.Permanent {
			t.Errorf("%s of a file nobody can judge: %v", name, err)
		}
	}
	if len(asked) != 2*len(tasks) {
		t.Errorf("asked about %v", asked)
	}
	if err := os.RemoveAll(filepath.Join(dir, "unclear")); err != nil {
		t.Fatal(err)
	}
	r, err := tasks["search"](filepath.Join(dir, "f"))
	if err != nil || there(t, filepath.Join(dir, "f"), text) || !there(t, filepath.Join(dir, "sacred", "f"), text) ||
		!strings.Contains(r.Detail, "protected and left alone") {
		t.Errorf("a search with a protected file in it: %+v, %v", r, err)
	}
	empty(t, v)
	own := write(t, filepath.Join(v.cfg.Dir, "f"), text)
	for name, do := range tasks {
		_, err := do(own)
		if name == "search" {
			continue // The vault's own folder is not searched; see below.
		}
		if class, reason := classAndReason(t, err); class != bridge.Permanent || reason != bridge.ReasonProtectedPath {
			t.Errorf("%s of a file of the vault: %v", name, err)
		}
	}
	if _, err := tasks["search"](filepath.Join(filepath.Dir(v.cfg.Dir), "f")); err != nil || !there(t, own, text) {
		t.Errorf("search above the vault: %v", err)
	}
}

func TestDryRunTouchesNothing(t *testing.T) {
	t.Parallel()
	v := newVault(t, func(c *Config) { c.DryRun = true })
	path := write(t, filepath.Join(t.TempDir(), "f"), text)
	for name, do := range map[string]func() (bridge.Receipt, error){
		"get": func() (bridge.Receipt, error) {
			return v.GetFile(t.Context(), "o1", bridge.GetFile{Path: path, SHA256: sha256Of(text)})
		},
		"quarantine": func() (bridge.Receipt, error) {
			return v.QuarantineFile(t.Context(), "o1", bridge.QuarantineFile{Path: path, MD5: md5Of(text)})
		},
		"delete": func() (bridge.Receipt, error) {
			return v.DeleteFile(t.Context(), "o1", bridge.DeleteFile{Path: path, MD5: md5Of(text)})
		},
		"search": func() (bridge.Receipt, error) {
			return v.DeleteFile(t.Context(), "o1", bridge.DeleteFile{Path: path, SearchInSubfolders: true})
		},
	} {
		r, err := do()
		if err != nil || r.State != bridge.StateShadow || !strings.HasPrefix(r.Detail, "dry run: would have ") || !strings.Contains(r.Detail, path) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	if !there(t, path, text) {
		t.Error("the file is gone")
	}
	for _, task := range []bridge.Task{bridge.QuarantineFile{Path: path}, bridge.DeleteFile{Path: path}} {
		if r, found, err := v.Reconcile(t.Context(), "o1", task); err != nil || found {
			t.Errorf("reconciled %s: %+v, %v", task.Kind(), r, err)
		}
	}
	if _, err := os.Stat(v.cfg.Dir); !os.IsNotExist(err) {
		t.Errorf("the folder of the vault was made: %v", err)
	}
}

func TestDryRunNeitherEndsNorDropsAnything(t *testing.T) {
	t.Parallel()
	v, path := killed(t, "quarantine", "take")
	staged := filepath.Join(v.stageDir(), newID("o1", bridge.KindQuarantineFile, path))
	now := time.Now().AddDate(1, 0, 0)
	dry := newVault(t, func(c *Config) {
		c.Dir, c.DryRun, c.Retention = v.cfg.Dir, true, time.Hour
		c.Now = func() time.Time { return now }
	})
	if did, err := dry.Recover(t.Context()); err != nil || len(did) != 0 || !there(t, staged, text) {
		t.Errorf("recovered %v, %v", did, err)
	}
	if _, err := v.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if dropped, err := dry.Prune(t.Context()); err != nil || len(dropped) != 0 {
			t.Errorf("dropped %v, %v", dropped, err)
		}
		now = now.Add(time.Hour)
	}
	only(t, v)
}
