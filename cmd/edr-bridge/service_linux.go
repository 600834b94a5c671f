package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// errUnits is the answer of the verbs that change a service: here systemd does that.
var errUnits = errors.New("services of this system are units of systemd, which systemctl installs and controls")

const unitHint = "systemctl enable --now edr-bridge.service (and edr-bridge-agent.service for the privileged part); `edr-bridge service status` says where the units are"

// unitNames are the units of the package.
func unitNames() []string { return []string{serviceName + ".service", serviceName + "-agent.service"} }

// unitFolders is where systemd reads units from, in its order (man 5 systemd.unit).
func unitFolders() []string {
	return []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}
}

func serviceManaged() error { return fail(exitFailed, "service.systemd", errUnits, unitHint) }

func serviceHint() string {
	return "put the units of the package into /etc/systemd/system, then: systemctl daemon-reload; " + unitHint
}

func installService(serviceSpec, func(string, ...any)) error { return serviceManaged() }

func removeService(context.Context) error { return serviceManaged() }

func startService(context.Context) error { return serviceManaged() }

func stopService(context.Context) error { return serviceManaged() }

// serviceInnerCommands are the verbs the service manager calls; systemd calls none.
func (a *app) serviceInnerCommands() []*cobra.Command { return nil }

// lookAtServices finds the unit files and whether systemd has a control group for them. Nothing is asked of systemd.
func lookAtServices() ([]serviceView, error) { return lookAtUnits("/"), nil }

// lookAtUnits is lookAtServices below root, for the tests.
func lookAtUnits(root string) []serviceView {
	views := make([]serviceView, 0, len(unitNames()))
	for _, name := range unitNames() {
		v := serviceView{Name: name, State: serviceAbsent}
		for _, dir := range unitFolders() {
			if info, err := os.Stat(filepath.Join(root, dir, name)); err == nil && info.Mode().IsRegular() {
				v.Installed, v.State, v.Start, v.File = true, serviceStopped, "manual", filepath.Join(dir, name)
				break
			}
		}
		if v.Installed && wanted(root, name) {
			v.Start = "automatic"
		}
		if v.Installed && peopled(root, name) {
			v.State = serviceRunning
		}
		views = append(views, v)
	}
	return views
}

// wanted reports whether the unit is enabled: a target wants it.
func wanted(root, name string) bool {
	links, err := filepath.Glob(filepath.Join(root, "/etc/systemd/system", "*.wants", name))
	return err == nil && len(links) > 0
}

// peopled reports whether the control group of the unit holds a process.
func peopled(root, name string) bool {
	for _, tree := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"} {
		procs, err := os.ReadFile(filepath.Join(root, tree, "system.slice", name, "cgroup.procs")) //nolint:gosec // fixed names
		if err == nil && strings.TrimSpace(string(procs)) != "" {
			return true
		}
	}
	return false
}
