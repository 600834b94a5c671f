package localagent

import (
	"errors"
	"fmt"
	"slices"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// protection is one entry of the never-touch table: a process is protected when it is (when) and runs (images) what
// the entry says. No entry goes by the name of a process, because programs choose their names.
type protection struct {
	name, why string
	// images are absolute paths, patterns of path.Match, or whole trees when they end in a slash; nil = any.
	images []string
	// when narrows the entry; nil = always.
	when func(own *ownFacts, p *pinned) (bool, error)
}

// protections is the never-touch table. Settings add to it, nothing takes from it.
func protections() []protection {
	return []protection{
		{name: "process 1", why: "the machine ends with it", when: func(_ *ownFacts, p *pinned) (bool, error) { return p.pid == 1, nil }},
		{name: "kernel thread", why: "it is part of the kernel", when: func(_ *ownFacts, p *pinned) (bool, error) { return p.kthread, nil }},
		{name: "self", why: "it is this agent", when: func(own *ownFacts, p *pinned) (bool, error) { return p.pid == own.pid, nil }},
		{name: "ancestor", why: "this agent was started by it", when: func(own *ownFacts, p *pinned) (bool, error) {
			return own.ancestors[p.pid] == p.start && p.start != 0, nil
		}},
		{name: "own program", why: "it runs the program of this agent", when: func(own *ownFacts, p *pinned) (bool, error) { return p.exe == own.exe, nil }},
		{name: "init and systemd", why: "services, logins and devices depend on it", images: []string{
			"/sbin/init", "/usr/lib/systemd/systemd", "/usr/lib/systemd/systemd-*", "/lib/systemd/systemd", "/lib/systemd/systemd-*",
			"/usr/sbin/openrc*", "/sbin/openrc*", "/sbin/runit", "/usr/bin/runsvdir", "/usr/bin/s6-svscan",
		}},
		{name: "message bus", why: "systemd and logins depend on it", images: []string{
			"/usr/bin/dbus-daemon", "/usr/bin/dbus-broker", "/usr/bin/dbus-broker-launch",
		}},
		{name: "Kaspersky agent", why: "it protects this machine", images: []string{
			"/opt/kaspersky/", "/var/opt/kaspersky/", "/opt/KasperskyLab/",
		}},
		{
			name: "ssh listener", why: "nobody could log in to repair things; its sessions may be ended",
			images: []string{"/usr/sbin/sshd", "/usr/local/sbin/sshd"}, when: sshListener,
		},
		{name: "container runtime", why: "every container depends on it", images: []string{
			"/usr/bin/dockerd", "/usr/bin/containerd", "/usr/bin/containerd-shim*", "/usr/local/bin/containerd*", "/usr/bin/crio",
			"/usr/bin/conmon", "/usr/bin/kubelet", "/usr/local/bin/kubelet", "/usr/local/bin/k3s", "/usr/sbin/libvirtd", "/usr/sbin/virtqemud",
		}},
		{name: "guest agent", why: "the hypervisor manages this machine through it", images: []string{
			"/usr/bin/qemu-ga", "/usr/sbin/qemu-ga", "/usr/bin/vmtoolsd", "/usr/sbin/hv_kvp_daemon", "/usr/bin/amazon-ssm-agent", "/usr/sbin/waagent",
		}},
	}
}

// sshListener tells the listener from its sessions: a session was forked by a process with the same image.
func sshListener(_ *ownFacts, p *pinned) (bool, error) {
	if p.ppid <= 1 {
		return true, nil
	}
	parent, err := pin(p.ppid)
	if errors.Is(err, errGone) {
		return true, nil
	}
	if err != nil {
		return true, err
	}
	defer parent.close()
	return parent.exe != p.exe, nil
}

// protected returns why the pinned process must not be ended, or ReasonNone. It costs no system call for an
// ordinary process; an error means that it cannot be told, and then nothing may be done.
func (a *Agent) protected(p *pinned) (bridge.Reason, string, error) {
	own, err := a.own.get()
	if err != nil {
		return bridge.ReasonNone, "", err
	}
	table := a.images.get(a.cfg.Now())
	runs, err := table.runs(own, p)
	if err != nil {
		return bridge.ReasonNone, "", err
	}
	for i, e := range table.entries {
		if e.images != nil && !runs[i] {
			continue
		}
		hit := true
		if e.when != nil {
			if hit, err = e.when(own, p); err != nil {
				return bridge.ReasonNone, "", fmt.Errorf("%s: %w", e.name, err)
			}
		}
		if hit {
			return bridge.ReasonProtectedProcess, e.name + ": " + e.why, nil
		}
	}
	if a.cfg.ProtectedPIDs != nil && slices.Contains(a.cfg.ProtectedPIDs(), p.pid) {
		return bridge.ReasonProtectedProcess, "own service: the bridge depends on it", nil
	}
	if a.cfg.Protected != nil {
		for v := range p.views() {
			if reason, why := a.cfg.Protected(v.name); reason != bridge.ReasonNone {
				return reason, why, nil
			}
		}
	}
	return bridge.ReasonNone, "", nil
}
