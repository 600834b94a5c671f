package safety

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/windows"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestFilesOfWindowsAreNeverTouched(t *testing.T) {
	t.Parallel()
	system, err := windows.GetSystemDirectory()
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(t.TempDir(), "own")
	if err := os.Mkdir(own, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := NewFiles(Config{Own: []string{own}})
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	free := filepath.Join(t.TempDir(), "evil.exe")
	state := filepath.Join(own, "state")
	for _, name := range []string{free, state} {
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]bridge.Reason{
		free: bridge.ReasonNone, state: bridge.ReasonProtectedPath, self: bridge.ReasonProtectedPath,
		filepath.Join(system, "kernel32.dll"): bridge.ReasonProtectedPath,
	} {
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		got, why, err := f.Check(t.Context(), file, name)
		_ = file.Close()
		if err != nil || got != want || want != bridge.ReasonNone && why == "" {
			t.Errorf("%s: %q (%s), %v, want %q", name, got, why, err, want)
		}
	}
}

func TestProgramsOfWindowsAreNeverDenied(t *testing.T) {
	t.Parallel()
	system, err := windows.GetSystemDirectory()
	if err != nil {
		t.Fatal(err)
	}
	f, err := NewFiles(Config{})
	if err != nil {
		t.Fatal(err)
	}
	x, err := f.Executables(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bridge.Reason{
		filepath.Join(system, "CMD.exe"):       bridge.ReasonProtectedPath,
		filepath.Join(system, `drivers\x.sys`): bridge.ReasonProtectedPath,
		self:                                   bridge.ReasonProtectedPath,
		`C:\Users\x\Downloads\evil.exe`:        bridge.ReasonNone,
	} {
		if got, why := x.ByPath(path); got != want {
			t.Errorf("%s: %q (%s), want %q", path, got, why, want)
		}
	}
	for _, image := range []string{"csrss.exe", "lsass.exe", "services.exe", "wininit.exe", "winlogon.exe", "smss.exe"} {
		if _, ok, err := Covers(KindProcess, filepath.Join(system, image)); err != nil || !ok {
			t.Errorf("%s may be ended: %v, %v", image, ok, err)
		}
	}
	if _, ok, err := Covers(KindProcess, `C:\Users\x\csrss.exe`); err != nil || ok {
		t.Errorf("a process is protected by its name alone: %v, %v", ok, err)
	}
}
