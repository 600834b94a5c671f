package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUnitsAreFoundWhereSystemdReadsThem(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	put := func(path, text string) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	absent := serviceView{Name: "edr-bridge-agent.service", State: serviceAbsent}
	check := func(want serviceView) {
		t.Helper()
		if diff := cmp.Diff([]serviceView{want, absent}, lookAtUnits(root)); diff != "" {
			t.Error(diff)
		}
	}
	v := serviceView{Name: "edr-bridge.service", State: serviceAbsent}
	check(v)
	put("/usr/lib/systemd/system/edr-bridge.service", "[Service]\n")
	v = serviceView{Name: "edr-bridge.service", Installed: true, State: serviceStopped, Start: "manual", File: "/usr/lib/systemd/system/edr-bridge.service"}
	check(v)
	put("/etc/systemd/system/multi-user.target.wants/edr-bridge.service", "")
	put("/sys/fs/cgroup/system.slice/edr-bridge.service/cgroup.procs", "")
	v.Start = "automatic"
	check(v)
	put("/sys/fs/cgroup/system.slice/edr-bridge.service/cgroup.procs", "4242\n")
	v.State = serviceRunning
	check(v)
	put("/etc/systemd/system/edr-bridge.service", "[Service]\n")
	v.File = "/etc/systemd/system/edr-bridge.service"
	check(v)
}

func TestServiceVerbsSayThatSystemdDoesIt(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"install", "uninstall", "start", "stop"} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			var out, problems bytes.Buffer
			a := &app{std: stdio{in: strings.NewReader(""), out: &out, err: &problems}, env: environ, output: "table"}
			cmd := a.serviceCommand()
			cmd.SetArgs([]string{verb})
			cmd.SilenceErrors, cmd.SilenceUsage = true, true
			err := cmd.ExecuteContext(t.Context())
			if p := problemOf(t.Context(), err); err == nil || p.exit != exitFailed || !strings.Contains(p.hint, "systemctl enable --now edr-bridge.service") {
				t.Errorf("got %v, hint %q", err, p.hint)
			}
		})
	}
}
