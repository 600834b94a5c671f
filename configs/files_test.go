package configs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func needModes(t *testing.T) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no permission bits")
	}
}

func TestSettingsAnyoneMayWriteAreRefused(t *testing.T) {
	t.Parallel()
	needModes(t)
	path := write(t, filepath.Join(t.TempDir(), "edr-bridge.yaml"), "version: 1\n", 0o666)
	_, err := Load(path, noEnv)
	if err == nil || !strings.Contains(err.Error(), "mode 0666") || !strings.Contains(err.Error(), "chmod o-w") {
		t.Error(err)
	}
	write(t, path, "version: 1\n", 0o660)
	if _, err := Load(path, noEnv); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path, noEnv); err == nil || !strings.Contains(err.Error(), filepath.Dir(path)+": anyone may write") {
		t.Error(err)
	}
	if err := os.Chmod(filepath.Dir(path), 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path, noEnv); err != nil {
		t.Error(err)
	}
}

func TestUnreadableSettingsNameTheFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	large := write(t, filepath.Join(dir, "large.yaml"), "# "+strings.Repeat("x", maxFile), 0o600)
	for path, want := range map[string]string{
		filepath.Join(dir, "none.yaml"): "none.yaml: it is not readable: ", dir: "not a regular file", large: "larger than 256 KiB",
	} {
		_, err := Load(path, noEnv)
		if _, ok := errors.AsType[*Error](err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestFindTakesTheFirstOfFourPlaces(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	system := systemFile(noEnv)
	if _, err := os.Stat(system); err == nil {
		t.Skipf("%s exists here", system)
	}
	find := func(flag string, e func(string) (string, bool)) string {
		t.Helper()
		path, err := Find(flag, e)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	if got := find("", noEnv); got != "" {
		t.Errorf("found %q", got)
	}
	write(t, filepath.Join(dir, "edr-bridge.yaml"), "version: 1\n", 0o600)
	named := env("EDR_BRIDGE_CONFIG", "named.yaml")
	got := []string{find("", noEnv), find("", named), find("flag.yaml", named)}
	if diff := cmp.Diff([]string{"edr-bridge.yaml", "named.yaml", "flag.yaml"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestFindRefusesAPlantedFileInTheWorkingDirectory(t *testing.T) {
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("needs root on Linux to give a file away")
	}
	dir := t.TempDir()
	t.Chdir(dir)
	path := write(t, filepath.Join(dir, "edr-bridge.yaml"), "version: 1\nmode: enforce\n", 0o644)
	if err := os.Chown(path, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	_, err := Find("", noEnv)
	if err == nil || !strings.Contains(err.Error(), "belongs to uid 65534") || !strings.Contains(err.Error(), "-c") {
		t.Error(err)
	}
}

func TestRuleFilesAreReadInOrderAndOnce(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a[b]*") // characters of patterns in the way to the file
	path := write(t, filepath.Join(dir, "edr-bridge.yaml"), "version: 1\nrules: [one.yaml, rules.d/*.yaml, '*.yml', one.yaml]\n", 0o600)
	for _, name := range []string{"one.yaml", "rules.d/20.yaml", "rules.d/10.yaml", "rules.d/x.txt"} {
		write(t, filepath.Join(dir, name), name, 0o600)
	}
	s, err := Load(path, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	files, err := s.RuleFiles(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		rel, err := filepath.Rel(dir, f.Name)
		if err != nil || string(f.Data) != rel {
			t.Errorf("%s: %q %v", f.Name, f.Data, err)
		}
		got = append(got, rel)
	}
	if diff := cmp.Diff([]string{"one.yaml", "rules.d/10.yaml", "rules.d/20.yaml"}, got); diff != "" {
		t.Error(diff)
	}
	out, err := s.Resolved()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Load(write(t, filepath.Join(t.TempDir(), "x.yaml"), string(out), 0o600), noEnv)
	if err != nil {
		t.Fatal(err)
	}
	if same, err := again.RuleFiles(t.Context()); len(same) != 3 || err != nil {
		t.Errorf("the resolved settings lead to %d files: %v", len(same), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.RuleFiles(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestRuleFilesThatCannotBeTrustedAreRefused(t *testing.T) {
	t.Parallel()
	needModes(t)
	dir := t.TempDir()
	path := write(t, filepath.Join(dir, "edr-bridge.yaml"), "version: 1\nrules:\n  - missing.yaml\n  - open.yaml\n  - none/*.yaml\n", 0o600)
	write(t, filepath.Join(dir, "open.yaml"), "x", 0o606)
	s, err := Load(path, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.RuleFiles(t.Context())
	own, ok := errors.AsType[*Error](err)
	if !ok || len(own.Problems) != 2 || own.Problems[0].Line != 3 || own.Problems[1].Line != 4 {
		t.Fatal(err)
	}
	if !strings.Contains(err.Error(), "missing.yaml") || !strings.Contains(err.Error(), "mode 0606") {
		t.Error(err)
	}
}
