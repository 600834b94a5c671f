package vault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// crashEnv tells the child what to do and where to die: task, point, folder of the vault, path, folder to restore into.
const crashEnv = "VAULT_TEST_CRASH"

// TestCrashChild is no test of its own: it is the process that the crash tests kill.
func TestCrashChild(t *testing.T) {
	job := strings.Split(os.Getenv(crashEnv), "|")
	if len(job) != 5 {
		return
	}
	die, second := strings.CutPrefix(job[1], "second ")
	die, swap := strings.CutPrefix(die, "swapped ")
	v := newVault(t, func(c *Config) {
		c.Dir = job[2]
		tried := false
		c.crash = func(point string) {
			if swap && point == "ready" {
				write(t, job[3]+".other", text)
				if err := os.Rename(job[3]+".other", job[3]); err != nil {
					t.Error(err)
				}
			}
			if second && !tried && point == "ready" {
				// What cannot be moved into a stage because of a division the mount does not show is found out when it is moved.
				if err := os.Remove(filepath.Join(c.Dir, ".stage")); err != nil {
					t.Error(err)
				}
				tried = true
				return
			}
			if point == die && tried == second {
				_ = unix.Kill(os.Getpid(), unix.SIGKILL)
				select {}
			}
		}
	})
	if job[0] == "restore" {
		_, err := v.Restore(t.Context(), only(t, v).ID, job[4])
		t.Fatalf("lived through %s: %v", job[1], err)
	}
	r, err := order(t.Context(), v, job[0], job[3])
	t.Fatalf("lived through %s: %+v, %v", job[1], r, err)
}

func order(ctx context.Context, v *Vault, task, path string) (bridge.Receipt, error) {
	switch task {
	case "quarantine":
		return v.QuarantineFile(ctx, "o1", bridge.QuarantineFile{Path: path, SHA256: sha256Of(text)})
	case "get":
		return v.GetFile(ctx, "o1", bridge.GetFile{Path: path})
	case "delete":
		return v.DeleteFile(ctx, "o1", bridge.DeleteFile{Path: path})
	default:
		return v.DeleteFile(ctx, "o1", bridge.DeleteFile{Path: path, SearchInSubfolders: true})
	}
}

// dieAt runs the job in a child that is killed at the point.
func dieAt(t *testing.T, task, point, dir, path, to string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestCrashChild$", "-test.count=1", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), crashEnv+"="+strings.Join([]string{task, point, dir, path, to}, "|"),
		"TMPDIR="+t.TempDir()) // a killed child does not clean up
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the child was not killed at %s: %v\n%s", point, err, out)
	}
}

func TestKilledAtAnyStepOriginalOrCopyIsWhole(t *testing.T) {
	t.Parallel()
	for task, points := range map[string]string{
		"get":        "blob meta rename",
		"quarantine": "blob meta pending rename ready take marked unlink done",
		"delete":     "pending ready take marked unlink done",
		"search":     "pending ready take marked unlink done",
	} {
		for point := range strings.FieldsSeq(points) {
			for _, where := range []string{"own stage", "stage on another filesystem"} {
				for _, after := range []string{"same order again", "recovered", "recovered, then the same order"} {
					t.Run(strings.Join([]string{task, point, where, after}, "/"), func(t *testing.T) {
						t.Parallel()
						crashOnce(t, task, point, where == "own stage", after)
					})
				}
			}
		}
	}
}

func TestKilledBetweenTwoStagesOriginalOrCopyIsWhole(t *testing.T) {
	t.Parallel()
	for _, task := range []string{"quarantine", "delete"} {
		for _, point := range []string{"again", "pending", "ready", "take", "marked", "unlink", "done"} {
			for _, after := range []string{"same order again", "recovered", "recovered, then the same order"} {
				t.Run(strings.Join([]string{task, point, after}, "/"), func(t *testing.T) {
					t.Parallel()
					crashOnce(t, task, "second "+point, true, after)
				})
			}
		}
	}
}

func TestKilledAfterAFailedTakingTheSameOrderTakesTheFile(t *testing.T) {
	t.Parallel()
	dir := memory(t)
	path := write(t, filepath.Join(filepath.Dir(dir), "bad"), text)
	dieAt(t, "quarantine", "swapped dropped", dir, path, "")
	v := newVault(t, func(c *Config) { c.Dir = dir })
	if r, err := order(t.Context(), v, "quarantine", path); err != nil || r.State != bridge.StateDone || there(t, path, text) {
		t.Errorf("the same order again: %+v, %v; the file is there: %v", r, err, there(t, path, text))
	}
	leftovers(t, v, true, path)
}

func crashOnce(t *testing.T, task, point string, own bool, after string) {
	dir := memory(t)
	path := write(t, filepath.Join(filepath.Dir(dir), "bad"), text)
	if !own {
		dir = filepath.Join(t.TempDir(), "quarantine")
	}
	dieAt(t, task, point, dir, path, "")
	v := newVault(t, func(c *Config) { c.Dir = dir })

	whole := func() (original, kept bool) {
		items, err := v.List(t.Context())
		if err != nil || len(items) > 1 {
			t.Fatalf("items %v, %v", items, err)
		}
		for _, it := range items {
			if err := v.Verify(t.Context(), it.ID); err != nil {
				t.Fatalf("the copy is not whole: %v", err)
			}
		}
		// A child of another test that is forked at this moment has the locks of List until it begins its own program.
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
		return there(t, path, text), len(items) == 1
	}
	if original, kept := whole(); !original && !kept && (task == "get" || task == "quarantine") {
		t.Fatal("neither the original nor a whole copy is there")
	}
	if strings.HasPrefix(after, "recovered") {
		did, err := v.Recover(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		original, kept := whole()
		switch {
		case task == "quarantine" && original == kept, task == "get" && !original:
			t.Fatalf("recovered: original %v, copy %v; %v", original, kept, did)
		case (task == "delete" || task == "search") && original != slices.Contains([]string{"pending", "ready", "second again", "second pending", "second ready"}, point):
			t.Fatalf("recovered: original %v; %v", original, did)
		}
		leftovers(t, v, task != "delete" && task != "search" && kept, path)
	}
	if after == "recovered" {
		return
	}
	r, err := order(t.Context(), v, task, path)
	if err != nil || r.State != bridge.StateDone {
		t.Fatalf("the same order again: %+v, %v", r, err)
	}
	original, kept := whole()
	if want := task == "get"; original != want {
		t.Errorf("original there: %v, want %v", original, want)
	}
	if want := task == "get" || task == "quarantine"; kept != want {
		t.Errorf("copy there: %v, want %v", kept, want)
	}
	if _, err := v.Recover(t.Context()); err != nil {
		t.Error(err)
	}
	leftovers(t, v, kept, path)
}

// leftovers fails the test when something half made is left.
func leftovers(t *testing.T, v *Vault, item bool, path string) {
	t.Helper()
	keep := ""
	if item {
		keep = only(t, v).ID
	}
	emptyBut(t, v, keep)
	entries, _ := os.ReadDir(filepath.Dir(path))
	for _, e := range entries {
		if e.Name() != "bad" && e.Name() != "quarantine" {
			t.Errorf("%s is left beside the file", e.Name())
		}
	}
}

func TestKilledWhileRestoringNothingHalfMadeHasAName(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"draft", "named"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			v := newVault(t, nil)
			path := write(t, filepath.Join(t.TempDir(), "bad"), text)
			if _, err := order(t.Context(), v, "quarantine", path); err != nil {
				t.Fatal(err)
			}
			to := t.TempDir()
			dieAt(t, "restore", point, v.cfg.Dir, path, to)
			entries, _ := os.ReadDir(to)
			if want := map[string]int{"draft": 0, "named": 1}[point]; len(entries) != want {
				t.Errorf("the folder holds %v, want %d", entries, want)
			}
			id := only(t, v).ID
			if err := v.Verify(t.Context(), id); err != nil {
				t.Error(err)
			}
			_, err := v.Restore(t.Context(), id, to)
			if point == "draft" && err != nil || point == "named" && err == nil {
				t.Errorf("restored again: %v", err)
			}
			if !there(t, filepath.Join(to, "bad"), text) {
				t.Error("the restored file is not whole")
			}
		})
	}
}

func TestStrangeFileInTheStageIsPutBackByRecover(t *testing.T) {
	t.Parallel()
	v := newVault(t, nil)
	path := write(t, filepath.Join(t.TempDir(), "bad"), text)
	dieAt(t, "delete", "take", v.cfg.Dir, path, "")
	id := newID("o1", bridge.KindDeleteFile, path)
	staged := filepath.Join(v.stageDir(), id)
	if !there(t, staged, text) {
		t.Fatal("the file is not in the stage")
	}
	// What a crash between taking and looking leaves: another file than the one that was meant.
	if err := os.Rename(staged, staged+".meant"); err != nil {
		t.Fatal(err)
	}
	stranger := strings.Repeat("x", len(text))
	write(t, staged, stranger)
	did, err := v.Recover(t.Context())
	if err != nil || !there(t, path, stranger) {
		t.Errorf("recovered %v, %v; the innocent file is not back", did, err)
	}
	_ = os.Remove(staged + ".meant")
	empty(t, v)
}

func TestRecoverKeepsAStrangeFileWhoseNameIsTaken(t *testing.T) {
	t.Parallel()
	v := newVault(t, nil)
	path := write(t, filepath.Join(t.TempDir(), "bad"), text)
	dieAt(t, "delete", "take", v.cfg.Dir, path, "")
	staged := filepath.Join(v.stageDir(), newID("o1", bridge.KindDeleteFile, path))
	if err := os.Rename(staged, staged+".meant"); err != nil {
		t.Fatal(err)
	}
	write(t, staged, innocent)
	write(t, path, "somebody else's")
	if did, err := v.Recover(t.Context()); err == nil || len(did) != 0 {
		t.Errorf("recovered %v, %v", did, err)
	}
	if !there(t, staged, innocent) || !there(t, path, "somebody else's") {
		t.Error("a file is gone")
	}
	_, err := order(t.Context(), v, "delete", path)
	if class, _ := classAndReason(t, err); class != bridge.Unknown {
		t.Errorf("the same order: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if did, err := v.Recover(t.Context()); err != nil || len(did) != 1 || !there(t, path, innocent) {
		t.Errorf("recovered %v, %v", did, err)
	}
}

func ExampleNew() {
	v, err := New(Config{Dir: "/var/lib/edr-bridge/quarantine", Key: FileKey("/var/lib/edr-bridge/quarantine.key")})
	fmt.Println(v.Dir(), err)
	// Output: /var/lib/edr-bridge/quarantine <nil>
}
