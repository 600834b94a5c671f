package ioc

import (
	"context"
	"net/netip"
	"time"

	"github.com/shirou/gopsutil/v3/net"
	"github.com/shirou/gopsutil/v3/process"
)

// describeProcess adds what can be known of a process; a process that may not be opened shows less.
func describeProcess(ctx context.Context, o *object, p *process.Process) {
	o.number(processPID, int64(p.Pid))
	if name, err := p.NameWithContext(ctx); err == nil {
		o.text(processName, name)
	}
	if path, err := p.ExeWithContext(ctx); err == nil {
		o.text(processPath, path)
	}
	if line, err := p.CmdlineWithContext(ctx); err == nil {
		o.text(processArguments, line)
	}
	if parent, err := p.PpidWithContext(ctx); err == nil {
		o.number(processParent, int64(parent))
	}
	if user, err := p.UsernameWithContext(ctx); err == nil {
		o.text(processUser, user)
	}
	if ms, err := p.CreateTimeWithContext(ctx); err == nil {
		o.moment(processStart, time.UnixMilli(ms))
	}
	if t, err := p.TimesWithContext(ctx); err == nil {
		o.span(processKernelTime, time.Duration(t.System*float64(time.Second)))
		o.span(processUserTime, time.Duration(t.User*float64(time.Second)))
	}
}

func collectProcesses(ctx context.Context, _ host, o *object, emit func(*object)) error {
	list, err := process.ProcessesWithContext(ctx)
	if err != nil {
		return errCollector("list the processes", err)
	}
	for _, p := range list {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		describeProcess(ctx, o, p)
		emit(o)
	}
	return nil
}

func collectPorts(ctx context.Context, _ host, o *object, emit func(*object)) error {
	list, err := net.ConnectionsWithContext(ctx, "inet")
	if err != nil {
		return errCollector("list the sockets", err)
	}
	holders := map[int32]*object{}
	for _, c := range list {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		protocol := "TCP"
		const datagram = 2 // SOCK_DGRAM of winsock2.h
		if c.Type == datagram {
			protocol = "UDP"
		}
		local, _ := netip.ParseAddr(c.Laddr.IP)
		o.address(portLocalIP, local)
		o.number(portLocalPort, int64(c.Laddr.Port))
		if c.Raddr.Port != 0 {
			remote, _ := netip.ParseAddr(c.Raddr.IP)
			o.address(portRemoteIP, remote)
			o.number(portRemotePort, int64(c.Raddr.Port))
		}
		o.text(portProtocol, protocol)
		if c.Status == "LISTEN" {
			o.text(portState, "LISTENING")
		}
		o.text(portState, c.Status)
		o.number(portPID, int64(c.Pid))
		h := holders[c.Pid]
		if h == nil {
			h = newObject(KindProcess)
			if p, err := process.NewProcessWithContext(ctx, c.Pid); err == nil {
				describeProcess(ctx, h, p)
			}
			holders[c.Pid] = h
		}
		for _, v := range h.values[processName] {
			o.text(portProcess, v.text)
		}
		for _, v := range h.values[processPath] {
			o.text(portPath, v.text)
		}
		emit(o)
	}
	return nil
}
