package kuma

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/kuma/callout"
)

// newSpool makes a spool directory of this test. Socket paths are short: so is the folder.
func newSpool(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kuma") //nolint:usetesting // the paths of sockets are short, and other users have to get in
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	spool := filepath.Join(dir, "spool")
	if err := MakeSpool(spool, ""); err != nil {
		t.Fatal(err)
	}
	return spool
}

func newCall(n int) callout.Call {
	return callout.Call{
		ID: fmt.Sprintf("k%08d", n), Task: bridge.KindIsolateHost, Host: fmt.Sprintf("ws-%d.corp.example", n), Params: bridge.IsolateHost{Action: 1},
		At: time.Date(2026, 11, 20, 20, 6, 56, n, time.UTC), Reason: "a test",
	}
}

func mustSpool(t testing.TB, dir string, c callout.Call) {
	t.Helper()
	if err := callout.Spool(dir, callout.SpoolLimits{}, c); err != nil {
		t.Fatal(err)
	}
}

func spoolNames(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
