package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/eventlog"
	"golang.org/x/sys/windows/svc/mgr"

	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/firewall"
	"github.com/edr-bridge/edr-bridge/localagent/prevention"
)

const (
	// restartReset is after how many seconds without a failure the service manager counts failures from the beginning.
	restartReset = 24 * 60 * 60
	servicePoll  = 200 * time.Millisecond
	// configRoom is the largest answer of QueryServiceConfig (learn.microsoft.com, QueryServiceConfigW: 8 KiB).
	configRoom = 8 << 10
)

// serviceRestarts is what the service manager does after the first, the second and every further failure.
func serviceRestarts() []mgr.RecoveryAction {
	return []mgr.RecoveryAction{
		{Type: mgr.ServiceRestart, Delay: 5 * time.Second},
		{Type: mgr.ServiceRestart, Delay: 30 * time.Second},
		{Type: mgr.ServiceRestart, Delay: time.Minute},
	}
}

func serviceManaged() error { return nil }

func serviceHint() string { return "edr-bridge service install -c FILE" }

// serviceProblem says what is missing when the service manager refuses.
func serviceProblem(doing string, err error) error {
	switch {
	case errors.Is(err, windows.ERROR_ACCESS_DENIED):
		return fail(exitFailed, "service.access", fmt.Errorf("%s: %w", doing, err), "run it in a terminal opened as administrator")
	case errors.Is(err, windows.ERROR_SERVICE_DOES_NOT_EXIST):
		return fail(exitNotFound, "service.absent", errors.New("the service is not installed"), serviceHint())
	case errors.Is(err, windows.ERROR_SERVICE_MARKED_FOR_DELETE):
		return fail(exitFailed, "service.marked", fmt.Errorf("%s: %w", doing, err), "close the windows that show services, then try again")
	default:
		return fmt.Errorf("%s: %w", doing, err)
	}
}

// withService opens the service with the access that use needs.
func withService(access uint32, doing string, use func(*mgr.Service) error) error {
	// mgr.Connect asks for all rights of the manager, which looking does not need.
	h, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT)
	if err != nil {
		return serviceProblem("open the service manager", err)
	}
	defer func() { _ = windows.CloseServiceHandle(h) }()
	name, err := windows.UTF16PtrFromString(serviceName)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	sh, err := windows.OpenService(h, name, access)
	if err != nil {
		return serviceProblem(doing, err)
	}
	s := &mgr.Service{Name: serviceName, Handle: sh}
	defer func() { _ = s.Close() }()
	return use(s)
}

// installService creates the service, reads it back, and takes it away again when it is not what was asked for.
func installService(spec serviceSpec, say func(string, ...any)) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("own program: %w", err)
	}
	if err := files.CheckSystemProgram(program); err != nil {
		say("note: %v, and would act as LocalSystem through the service: install the program below %s", err, programFolder())
	}
	m, err := mgr.Connect()
	if err != nil {
		return serviceProblem("open the service manager", err)
	}
	defer func() { _ = m.Disconnect() }()
	if s, err := m.OpenService(serviceName); err == nil {
		_ = s.Close()
		return fail(exitFailed, "service.present", errors.New("the service is installed already"), "edr-bridge service uninstall")
	}
	cfg := mgr.Config{
		DisplayName:  "edr-bridge",
		Description:  "Turns SIEM alerts into endpoint response tasks.",
		StartType:    mgr.StartAutomatic,
		ErrorControl: mgr.ErrorNormal,
	}
	if spec.manual {
		cfg.StartType = mgr.StartManual
	}
	args := []string{"service", "host", "--config", spec.settings}
	s, err := m.CreateService(serviceName, program, cfg, args...)
	if err != nil {
		return serviceProblem("install the service", err)
	}
	defer func() { _ = s.Close() }()
	if err := finishService(s, commandOf(program, args)); err != nil {
		return errors.Join(fmt.Errorf("install the service: %w", err), s.Delete())
	}
	return nil
}

// finishService sets what CreateService cannot, and reads the command line back: a path that is not quoted as a whole would
// let another program run in its place.
func finishService(s *mgr.Service, command string) error {
	if err := s.SetRecoveryActions(serviceRestarts(), restartReset); err != nil {
		return fmt.Errorf("restart after failures: %w", err)
	}
	if err := s.SetRecoveryActionsOnNonCrashFailures(true); err != nil && !errors.Is(err, windows.ERROR_INVALID_LEVEL) {
		return fmt.Errorf("restart after failures: %w", err)
	}
	wait := serviceHintMillis
	err := windows.ChangeServiceConfig2(s.Handle, windows.SERVICE_CONFIG_PRESHUTDOWN_INFO, (*byte)(unsafe.Pointer(&wait))) //nolint:gosec // SERVICE_PRESHUTDOWN_INFO is one number
	if err != nil && !errors.Is(err, windows.ERROR_INVALID_LEVEL) {
		return fmt.Errorf("time to drain before a shutdown: %w", err)
	}
	cfg, err := configOf(s)
	if err != nil {
		return err
	}
	if got := windows.UTF16PtrToString(cfg.BinaryPathName); got != command {
		return fmt.Errorf("the service manager holds the command line %q, not %q", got, command)
	}
	err = eventlog.InstallAsEventCreate(serviceName, eventlog.Error|eventlog.Warning|eventlog.Info)
	if err != nil && !strings.Contains(err.Error(), "registry key already exists") {
		return fmt.Errorf("event log: %w", err)
	}
	return nil
}

// commandOf joins program and arguments as CreateService does.
func commandOf(program string, args []string) string {
	words := make([]string, 0, len(args)+1)
	for _, w := range append([]string{program}, args...) {
		words = append(words, windows.EscapeArg(w))
	}
	return strings.Join(words, " ")
}

func programFolder() string {
	dir, err := windows.KnownFolderPath(windows.FOLDERID_ProgramFiles, 0)
	if err != nil {
		return `C:\Program Files`
	}
	return filepath.Clean(dir) + `\`
}

func configOf(s *mgr.Service) (*windows.QUERY_SERVICE_CONFIG, error) {
	buf := make([]uint64, configRoom/8)                             // aligned like the structure
	cfg := (*windows.QUERY_SERVICE_CONFIG)(unsafe.Pointer(&buf[0])) //nolint:gosec // the function fills the buffer
	var need uint32
	if err := windows.QueryServiceConfig(s.Handle, cfg, configRoom, &need); err != nil {
		return nil, fmt.Errorf("read the service back: %w", err)
	}
	return cfg, nil
}

// removeService stops the service and deletes it, unless something stands that nothing of ours could take away afterwards.
func removeService(ctx context.Context) error {
	const access = windows.SERVICE_STOP | windows.SERVICE_QUERY_STATUS | windows.DELETE
	err := withService(access, "uninstall the service", func(s *mgr.Service) error {
		if err := nothingStands(ctx); err != nil {
			return err
		}
		if err := stopAndWait(ctx, s); err != nil {
			return err
		}
		// It may have done something until it stopped.
		if err := nothingStands(ctx); err != nil {
			return err
		}
		if err := s.Delete(); err != nil {
			return serviceProblem("uninstall the service", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := eventlog.Remove(serviceName); err != nil && !errors.Is(err, windows.ERROR_FILE_NOT_FOUND) {
		return fmt.Errorf("the service is gone, its entry in the event log is not: %w", err)
	}
	return nil
}

// nothingStands refuses while this machine is isolated, addresses are blocked or programs are kept from starting: Windows keeps all that, and
// has no tool that finds it.
func nothingStands(ctx context.Context) error {
	standing, err := prevention.Standing()
	wall, werr := firewall.New(firewall.Config{})
	if werr == nil {
		var state firewall.State
		if state, werr = wall.Isolated(ctx); state.On {
			standing = append(standing, "this machine is isolated")
		}
	}
	if werr == nil {
		var blocks []firewall.Block
		blocks, werr = wall.Blocked(ctx)
		for _, b := range blocks {
			standing = append(standing, b.Prefix.String()+" is blocked")
		}
	}
	if errors.Is(werr, errors.ErrUnsupported) {
		werr = nil // without a filtering platform nothing stands in it
	} else if werr == nil && len(standing) == 0 {
		_, werr = wall.Expire(ctx) // it takes the task away when nothing is due
	}
	if err := errors.Join(err, werr); err != nil {
		return fmt.Errorf("not uninstalled: what stands on this machine cannot be told: %w", err)
	}
	if len(standing) > 0 {
		return fail(exitFailed, "service.standing", fmt.Errorf("not uninstalled, because nothing would take it away afterwards: %s", strings.Join(standing, "; ")),
			"edr-bridge service stop; edr-bridge agent release, unblock ADDRESS, remove-rule ID; then this again")
	}
	return nil
}

func startService(ctx context.Context) error {
	const access = windows.SERVICE_START | windows.SERVICE_QUERY_STATUS
	return withService(access, "start the service", func(s *mgr.Service) error {
		if err := s.Start(); err != nil && !errors.Is(err, windows.ERROR_SERVICE_ALREADY_RUNNING) {
			return serviceProblem("start the service", err)
		}
		st, err := waitFor(ctx, s, svc.Running, svc.Stopped)
		if err != nil {
			return err
		}
		if st.State == svc.Stopped {
			code := st.Win32ExitCode
			if st.ServiceSpecificExitCode != 0 {
				code = st.ServiceSpecificExitCode
			}
			return fail(exitFailed, "service.start", fmt.Errorf("the service ended at once with code %d", code), "the Application event log says why (source edr-bridge)")
		}
		return nil
	})
}

func stopService(ctx context.Context) error {
	const access = windows.SERVICE_STOP | windows.SERVICE_QUERY_STATUS
	return withService(access, "stop the service", func(s *mgr.Service) error { return stopAndWait(ctx, s) })
}

// stopAndWait stops the service; one that starts or stops at this moment is asked again when it listens.
func stopAndWait(ctx context.Context, s *mgr.Service) error {
	if _, err := s.Control(svc.Stop); errors.Is(err, windows.ERROR_SERVICE_CANNOT_ACCEPT_CTRL) {
		if _, err := waitFor(ctx, s, svc.Running, svc.Stopped); err != nil {
			return err
		}
		_, err = s.Control(svc.Stop)
		if err := notActive(err); err != nil {
			return serviceProblem("stop the service", err)
		}
	} else if err := notActive(err); err != nil {
		return serviceProblem("stop the service", err)
	}
	_, err := waitFor(ctx, s, svc.Stopped)
	return err
}

// notActive makes nothing of the answer that the service does not run.
func notActive(err error) error {
	if errors.Is(err, windows.ERROR_SERVICE_NOT_ACTIVE) {
		return nil
	}
	return err
}

// waitFor polls the service until it is in one of the states or ctx ends. The manager tells nobody without a service of his own.
func waitFor(ctx context.Context, s *mgr.Service, states ...svc.State) (svc.Status, error) {
	tick := time.NewTicker(servicePoll)
	defer tick.Stop()
	for {
		st, err := s.Query()
		if err != nil {
			return st, serviceProblem("look at the service", err)
		}
		if slices.Contains(states, st.State) {
			return st, nil
		}
		select {
		case <-ctx.Done():
			return st, fail(exitUnknown, "service.slow", fmt.Errorf("the service is still %s: %w", stateText(st.State), context.Cause(ctx)), "edr-bridge service status")
		case <-tick.C:
		}
	}
}

func lookAtServices() ([]serviceView, error) {
	v := serviceView{Name: serviceName, State: serviceAbsent}
	err := withService(windows.SERVICE_QUERY_STATUS|windows.SERVICE_QUERY_CONFIG, "look at the service", func(s *mgr.Service) error {
		st, err := s.Query()
		if err != nil {
			return serviceProblem("look at the service", err)
		}
		cfg, err := configOf(s)
		if err != nil {
			return err
		}
		v.Installed, v.State, v.PID = true, stateText(st.State), int(st.ProcessId)
		v.Start, v.Account, v.Command = startText(cfg.StartType), windows.UTF16PtrToString(cfg.ServiceStartName), windows.UTF16PtrToString(cfg.BinaryPathName)
		return nil
	})
	if p, ok := errors.AsType[*problem](err); ok && p.exit == exitNotFound {
		err = nil
	}
	return []serviceView{v}, err
}

func stateText(s svc.State) string {
	switch s {
	case svc.Stopped:
		return serviceStopped
	case svc.StartPending:
		return "starting"
	case svc.StopPending:
		return "stopping"
	case svc.Running:
		return serviceRunning
	default:
		return "paused"
	}
}

func startText(t uint32) string {
	switch t {
	case windows.SERVICE_AUTO_START, windows.SERVICE_BOOT_START, windows.SERVICE_SYSTEM_START:
		return "automatic"
	case windows.SERVICE_DEMAND_START:
		return "manual"
	default:
		return "disabled"
	}
}
