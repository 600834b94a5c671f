package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/edr-bridge/edr-bridge/configs"
)

const (
	serviceName = "edr-bridge"
	// serviceWait is how long start and stop wait for the service; it drains for ten seconds when it is told to stop.
	serviceWait = 30 * time.Second
)

// The states of a service that are no state of the service manager.
const (
	serviceAbsent  = "not installed"
	serviceRunning = "running"
	serviceStopped = "stopped"
)

// serviceView is one service of this program as the machine's service manager has it.
type serviceView struct {
	Name      string `json:"name"`
	Installed bool   `json:"installed"`
	// State is not installed, stopped, starting, running or stopping.
	State string `json:"state"`
	// Start says when the machine starts it: automatic, manual or disabled.
	Start   string `json:"start,omitempty"`
	PID     int    `json:"pid,omitempty"`
	Account string `json:"account,omitempty"`
	// Command is what the manager runs, File where the unit stands.
	Command string `json:"command,omitempty"`
	File    string `json:"file,omitempty"`
}

// serviceSpec is what service install is asked for.
type serviceSpec struct {
	// settings is the absolute path of the settings file, empty = the one of the system.
	settings string
	manual   bool
}

func (a *app) serviceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "service",
		Short: "Install and control the bridge as a service of Windows",
		Long: `Have Windows run the bridge in the background and start it with the machine. The service runs
` + "`edr-bridge run`" + ` as LocalSystem, writes to the Application event log under the name edr-bridge and is started again when it fails.
On Linux the units of the package do that; ` + "`service status`" + ` says where they are and how to enable them.`,
		Example: `  edr-bridge service install -c C:\ProgramData\edr-bridge\edr-bridge.yaml
  edr-bridge service start
  edr-bridge service status -o json
  edr-bridge service uninstall`,
	}
	cmd.AddCommand(a.serviceInstallCommand(), a.serviceUninstallCommand(), a.serviceStartCommand(), a.serviceStopCommand(), a.serviceStatusCommand())
	cmd.AddCommand(a.serviceInnerCommands()...)
	return cmd
}

func (a *app) serviceInstallCommand() *cobra.Command {
	var spec serviceSpec
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install the service; it is not started",
		Long: `Install the service. The settings are read first and must be valid. What stands in the service manager afterwards is read
back. An installed service is left as it is: uninstall it first.`,
		Example: `  edr-bridge service install
  edr-bridge service install -c D:\edr\edr-bridge.yaml --manual`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := serviceManaged(); err != nil {
				return err
			}
			set, _, err := a.settings()
			if err != nil {
				return err
			}
			if spec.settings, err = serviceSettings(set); err != nil {
				return err
			}
			if err := installService(spec, a.say); err != nil {
				return err
			}
			return a.showServices()
		},
	}
	cmd.Flags().BoolVar(&spec.manual, "manual", false, "do not start it with the machine")
	return cmd
}

// serviceSettings returns the absolute path of the settings file the service will read.
func serviceSettings(set *configs.Settings) (string, error) {
	if set.File() == "" {
		return "", fail(exitConfig, "service.settings", errors.New("no settings file was found: the service would have nothing to read"), "edr-bridge service install -c FILE")
	}
	abs, err := filepath.Abs(set.File())
	if err != nil {
		return "", fmt.Errorf("settings file: %w", err)
	}
	return abs, nil
}

func (a *app) serviceUninstallCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "uninstall",
		Short:   "Stop the service and take it away; settings and state stay",
		Long:    "Stop the service and take it away. It refuses while this machine is isolated, an address is blocked or a program is forbidden: nothing would be there to take that back.",
		Example: `  edr-bridge service uninstall`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.controlService(cmd.Context(), removeService)
		},
	}
}

func (a *app) serviceStartCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "start",
		Short:   "Start the service and wait until it runs",
		Example: `  edr-bridge service start`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.controlService(cmd.Context(), startService)
		},
	}
}

func (a *app) serviceStopCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "stop",
		Short:   "Stop the service and wait until it has ended",
		Example: `  edr-bridge service stop`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.controlService(cmd.Context(), stopService)
		},
	}
}

// controlService changes the service with a deadline and prints what then stands.
func (a *app) controlService(ctx context.Context, change func(context.Context) error) error {
	if err := serviceManaged(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, serviceWait)
	defer cancel()
	if err := change(ctx); err != nil {
		return err
	}
	return a.showServices()
}

func (a *app) serviceStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show whether the service is installed and runs",
		Long:  "Show whether the service is installed and runs. It exits with 7 when it is not installed.",
		Example: `  edr-bridge service status
  edr-bridge service status -o json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			views, err := lookAtServices()
			if err != nil {
				return err
			}
			if err := a.printServices(views); err != nil {
				return err
			}
			if slices.ContainsFunc(views, func(v serviceView) bool { return v.Installed }) {
				return nil
			}
			return &problem{exit: exitNotFound, code: "service.absent", err: errors.New("the service is not installed"), hint: serviceHint()}
		},
	}
}

// showServices prints what stands after a change.
func (a *app) showServices() error {
	views, err := lookAtServices()
	if err != nil {
		return err
	}
	return a.printServices(views)
}

func (a *app) printServices(views []serviceView) error {
	return printResult(a, views, []string{"SERVICE", "STATE", "START", "PID", "ACCOUNT", "RUNS"}, func(v serviceView) []string {
		pid, runs := "-", v.Command
		if v.PID > 0 {
			pid = fmt.Sprint(v.PID)
		}
		if runs == "" {
			runs = v.File
		}
		return []string{v.Name, v.State, orDash(v.Start), pid, orDash(v.Account), orDash(runs)}
	})
}
