package files

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

func wineFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAPinnedFileIsDeletedByItsHandle(t *testing.T) {
	t.Parallel()
	path := wineFile(t, "evil.bin", "evil")
	p, err := Pin(strings.ToUpper(path[:1]) + path[1:])
	if err != nil {
		t.Fatal(err)
	}
	d, err := new(Cache).Of(t.Context(), p.File, true, true)
	if err != nil || d.MD5 != "4034a346ccee15292d823416f7510a2f" {
		t.Errorf("digests %+v, %v", d, err)
	}
	if err := p.Remove(); err != nil {
		t.Errorf("remove: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
}

// underWine reports whether the Windows the test runs on is wine.
func underWine() bool {
	return windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil
}

func TestASwappedFileIsNotTaken(t *testing.T) {
	t.Parallel()
	if underWine() {
		t.Skip("wine goes on giving an open file the name it was opened by (GetFinalPathNameByHandle)")
	}
	path := wineFile(t, "evil.bin", "evil")
	p, err := Pin(path)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("innocent"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Take(nil, ""); !errors.Is(err, ErrSwapped) {
		t.Errorf("take: %v, want ErrSwapped", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "innocent" {
		t.Errorf("the other file: %q, %v", b, err)
	}
}

func TestAProgramInUseGoesAtTheNextStart(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	path := wineFile(t, "busy.exe", string(raw))
	cmd := exec.Command(path, "-test.run=^TestSleepsForAnotherTest$")
	cmd.Env = append(os.Environ(), "FILES_TEST_SLEEP=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	p, err := Pin(path)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Remove(); !errors.Is(err, ErrAtRestart) {
		t.Fatalf("remove: %v, want ErrAtRestart", err)
	}
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, `SYSTEM\CurrentControlSet\Control\Session Manager`, registry.QUERY_VALUE)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	pending, _, err := k.GetStringsValue("PendingFileRenameOperations")
	if err != nil || !strings.Contains(strings.Join(pending, "|"), "busy.exe") {
		t.Errorf("what goes at the next start: %q, %v", pending, err)
	}
}

func TestSleepsForAnotherTest(t *testing.T) {
	if os.Getenv("FILES_TEST_SLEEP") != "" {
		time.Sleep(time.Minute)
	}
}

func TestWhatIsNoFileIsNotOpened(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := wineFile(t, "x", "x")
	for name, path := range map[string]string{
		"a folder": dir, "a device": `C:\CON`, "a share": `\\host\share\x`, "a stream": path + ":ads", "no absolute path": "x", "a missing file": path + "y",
	} {
		if f, err := Open(path); err == nil {
			_ = f.Close()
			t.Errorf("%s was opened", name)
		}
	}
	if err := os.Symlink(path, path+".lnk"); err != nil {
		t.Logf("links cannot be made here: %v", err)
		return
	}
	if f, err := Open(path + ".lnk"); err == nil {
		_ = f.Close()
		t.Error("a link was followed")
	}
}

func TestAWalkSeesEveryFileOnce(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, name := range []string{"a", `sub\b`, `sub\deep\c`} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for recursive, want := range map[bool]int{true: 3, false: 1} {
		seen := 0
		_, err := Walk(t.Context(), root, WalkConfig{Recursive: recursive}, func(e Entry) error {
			seen++
			f, err := e.Open()
			if err == nil {
				return f.Close()
			}
			if underWine() && errors.Is(err, ErrSwapped) {
				return nil // its listings of folders have no file index, which is what the walk remembers
			}
			return err
		})
		if err != nil || seen != want {
			t.Errorf("recursive %v: %d files, %v, want %d", recursive, seen, err, want)
		}
	}
}

func TestAListThatInheritsNothingGoesOnInheritingNothing(t *testing.T) {
	t.Parallel()
	for sddl, protected := range map[string]bool{"D:P(A;;FA;;;SY)": true, "D:(A;;FA;;;SY)": false} {
		sd, err := windows.SecurityDescriptorFromString(sddl)
		if err != nil {
			t.Fatal(err)
		}
		if got := listInformation(sd)&windows.PROTECTED_DACL_SECURITY_INFORMATION != 0; got != protected {
			t.Errorf("%s: protected %v", sddl, got)
		}
	}
}

func TestAnOwnerTheSystemDoesNotTakeLeavesTheAccessList(t *testing.T) {
	t.Parallel()
	path := wineFile(t, "a.bin", "a")
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		t.Fatal(err)
	}
	// A handle that may change the list and not the owner stands for an account that may not give files away.
	h, err := windows.CreateFile(name, windows.READ_CONTROL|windows.WRITE_DAC, shareAll, nil, windows.OPEN_EXISTING, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = windows.CloseHandle(h) }()
	missing := setSecurity(h, "O:SYG:SYD:(A;;FA;;;SY)(A;;FA;;;BA)(A;;FR;;;WD)")
	if len(missing) != 1 || !strings.HasPrefix(missing[0], "owner:") {
		t.Errorf("missing %q, want the owner alone", missing)
	}
}

// TestADeletionOthersCanUndoIsNotDone is about file systems that cannot delete at once: wine has no other.
func TestADeletionOthersCanUndoIsNotDone(t *testing.T) {
	t.Parallel()
	if !underWine() {
		t.Skip("the system deletes at once: only a FAT volume, or wine, does not")
	}
	path := wineFile(t, "held.bin", "x")
	p, err := Pin(path)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		t.Fatal(err)
	}
	h, err := windows.CreateFile(name, windows.GENERIC_READ|windows.DELETE, shareAll, nil, windows.OPEN_EXISTING, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	err = p.Remove()
	_ = windows.CloseHandle(h)
	if err == nil || errors.Is(err, ErrBusy) {
		t.Errorf("remove while another has it open: %v, want neither done nor nothing happened", err)
	}
}
