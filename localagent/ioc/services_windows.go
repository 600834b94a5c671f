package ioc

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"
)

// collectServices lists what the service control manager knows, drivers included.
func collectServices(ctx context.Context, _ host, o *object, emit func(*object)) error {
	manager, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT|windows.SC_MANAGER_ENUMERATE_SERVICE)
	if err != nil {
		return errCollector("open the service manager", err)
	}
	m := &mgr.Mgr{Handle: manager}
	defer func() { _ = m.Disconnect() }()
	names, err := m.ListServices()
	if err != nil {
		return errCollector("list the services", err)
	}
	var errs []error
	for _, name := range names {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		o.text(serviceName, name)
		if err := describeService(o, manager, name); err != nil {
			errs = append(errs, fmt.Errorf("service %s: %w", Text(name), err))
		}
		emit(o)
	}
	return errors.Join(errs[:min(len(errs), 16)]...)
}

func describeService(o *object, manager windows.Handle, name string) error {
	wide, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return err
	}
	h, err := windows.OpenService(manager, wide, windows.SERVICE_QUERY_CONFIG|windows.SERVICE_QUERY_STATUS)
	if err != nil {
		return err
	}
	s := &mgr.Service{Name: name, Handle: h}
	defer func() { _ = s.Close() }()
	config, errConfig := s.Config()
	if errConfig == nil {
		o.text(serviceTitle, config.DisplayName)
		o.text(serviceDescription, config.Description)
		program, arguments := splitCommand(config.BinaryPathName)
		o.text(servicePath, program)
		o.text(serviceArguments, arguments)
		o.text(serviceUser, config.ServiceStartName)
		o.text(serviceMode, startWord(config.StartType))
		o.text(serviceType, typeWord(config.ServiceType))
	}
	status, errStatus := s.Query()
	if errStatus == nil {
		o.text(serviceStatus, stateWord(status.State))
		if status.ProcessId != 0 {
			o.number(servicePID, int64(status.ProcessId))
		}
	}
	return errors.Join(errConfig, errStatus)
}

// splitCommand takes the program off a command line; without quotes it ends at the first blank after .exe.
func splitCommand(line string) (program, arguments string) {
	if rest, quoted := strings.CutPrefix(line, `"`); quoted {
		program, arguments, _ = strings.Cut(rest, `"`)
		return program, strings.TrimSpace(arguments)
	}
	if i := strings.Index(fold(line), ".exe "); i >= 0 {
		return line[:i+4], strings.TrimSpace(line[i+4:])
	}
	return line, ""
}

// startWord, typeWord and stateWord use the names of winsvc.h, which indicators use.
func startWord(t uint32) string {
	switch t {
	case windows.SERVICE_BOOT_START:
		return "SERVICE_BOOT_START"
	case windows.SERVICE_SYSTEM_START:
		return "SERVICE_SYSTEM_START"
	case windows.SERVICE_AUTO_START:
		return "SERVICE_AUTO_START"
	case windows.SERVICE_DEMAND_START:
		return "SERVICE_DEMAND_START"
	case windows.SERVICE_DISABLED:
		return "SERVICE_DISABLED"
	default:
		return ""
	}
}

func typeWord(t uint32) string {
	switch {
	case t&windows.SERVICE_KERNEL_DRIVER != 0:
		return "SERVICE_KERNEL_DRIVER"
	case t&windows.SERVICE_FILE_SYSTEM_DRIVER != 0:
		return "SERVICE_FILE_SYSTEM_DRIVER"
	case t&windows.SERVICE_WIN32_OWN_PROCESS != 0:
		return "SERVICE_WIN32_OWN_PROCESS"
	case t&windows.SERVICE_WIN32_SHARE_PROCESS != 0:
		return "SERVICE_WIN32_SHARE_PROCESS"
	default:
		return ""
	}
}

func stateWord(s svc.State) string {
	switch s {
	case svc.Stopped:
		return "SERVICE_STOPPED"
	case svc.StartPending:
		return "SERVICE_START_PENDING"
	case svc.StopPending:
		return "SERVICE_STOP_PENDING"
	case svc.Running:
		return "SERVICE_RUNNING"
	case svc.ContinuePending:
		return "SERVICE_CONTINUE_PENDING"
	case svc.PausePending:
		return "SERVICE_PAUSE_PENDING"
	case svc.Paused:
		return "SERVICE_PAUSED"
	default:
		return ""
	}
}
