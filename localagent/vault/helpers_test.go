package vault

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// fixedKey is the key of the vaults of tests.
func fixedKey(context.Context) ([]byte, error) { return bytes.Repeat([]byte{7}, keySize), nil }

// newVault makes a vault in a folder of its own; change may adjust the settings.
func newVault(t testing.TB, change func(*Config)) *Vault {
	t.Helper()
	cfg := Config{Dir: filepath.Join(t.TempDir(), "quarantine"), Key: fixedKey}
	if change != nil {
		change(&cfg)
	}
	v, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// write makes a file and returns its path.
func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func md5Of(text string) string { s := md5.Sum([]byte(text)); return hex.EncodeToString(s[:]) }

func sha256Of(text string) string { s := sha256.Sum256([]byte(text)); return hex.EncodeToString(s[:]) }

// there reports whether the path names a file with the text.
func there(t testing.TB, path, text string) bool {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil && string(got) == text
}

// only returns the one item of the vault.
func only(t testing.TB, v *Vault) Item {
	t.Helper()
	items, err := v.List(t.Context())
	if err != nil || len(items) != 1 {
		t.Fatalf("the vault holds %v, %v; want one item", items, err)
	}
	return items[0]
}

// empty fails the test when the vault holds an item, something half made or something pending.
func empty(t testing.TB, v *Vault) {
	t.Helper()
	emptyBut(t, v, "")
}

// emptyBut is empty but for one item.
func emptyBut(t testing.TB, v *Vault, id string) {
	t.Helper()
	for _, dir := range []string{v.cfg.Dir, v.pendingDir(), v.stageDir()} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for _, e := range entries {
			switch e.Name() {
			case id, keyCheck, lockName, ".pending", ".stage":
			default:
				t.Errorf("%s is left in %s", e.Name(), dir)
			}
		}
	}
}

// content opens the copy of an item.
func content(t testing.TB, v *Vault, id string) string {
	t.Helper()
	var b bytes.Buffer
	if err := v.Export(t.Context(), id, FormPlain, "", &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// classAndReason reads an error of a task.
func classAndReason(t testing.TB, err error) (bridge.Class, bridge.Reason) {
	t.Helper()
	v, ok := errors.AsType[*verdict.Error](err)
	if !ok {
		t.Fatalf("%v (%T) is no *verdict.Error", err, err)
	}
	return v.Class, v.Reason
}
