package safety

// processEntries are in the order in which they are asked: what costs nothing comes first. Anybody can run most of these programs, with
// an environment that makes them do something else: such entries name who runs them for the machine. Kaspersky's accounts are chosen by
// who installs it.
func processEntries() []Entry {
	return []Entry{
		{Kind: KindProcess, System: Linux, Name: Process1, Why: "the machine ends with it", Narrow: "the first process, whatever it runs"},
		{Kind: KindProcess, System: Linux, Name: KernelThread, Why: "it is part of the kernel", Narrow: "threads of the kernel"},
		{Kind: KindProcess, Name: Self, Why: "it is this agent", Narrow: "the agent's own process"},
		{Kind: KindProcess, Name: Ancestor, Why: "this agent was started by it", Narrow: "the processes above the agent, told by pid and start time"},
		{Kind: KindProcess, Name: OwnProgram, Why: "it runs the program of this agent", Narrow: "the same file, or a file of the same digest"},
		{Kind: KindProcess, System: Linux, Name: "init and systemd", Why: "services, logins and devices depend on it", Paths: []string{
			"/sbin/init", "/usr/sbin/init", "/usr/lib/systemd/systemd*", "/lib/systemd/systemd*",
			"/bin/systemd", "/usr/bin/systemd", "/usr/sbin/openrc*", "/sbin/openrc*", "/sbin/runit", "/usr/bin/runsvdir", "/usr/bin/s6-svscan",
		}, Users: []string{"root", "systemd-*"}},
		{Kind: KindProcess, System: Linux, Name: "message bus", Why: "systemd and logins depend on it", Paths: []string{
			"/usr/bin/dbus-daemon", "/bin/dbus-daemon", "/usr/bin/dbus-broker", "/usr/bin/dbus-broker-launch",
		}, Users: []string{"root", "messagebus", "dbus"}},
		{Kind: KindProcess, System: Linux, Name: "Kaspersky", Why: "it protects this machine", Paths: []string{
			"/opt/kaspersky/", "/var/opt/kaspersky/", "/opt/KasperskyLab/",
		}},
		{
			Kind: KindProcess, System: Linux, Name: SSHListener, Why: "nobody could log in to repair things; its sessions may be ended",
			Paths: []string{"/usr/sbin/sshd", "/sbin/sshd", "/usr/local/sbin/sshd"}, Users: []string{"root"}, Narrow: "not forked by a process with the same image",
		},
		{Kind: KindProcess, System: Linux, Name: "container runtime", Why: "every container depends on it", Paths: []string{
			"/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd", "/usr/bin/containerd*", "/usr/local/bin/containerd*",
			"/usr/bin/crio", "/usr/local/bin/crio", "/usr/bin/conmon", "/usr/bin/kubelet", "/usr/local/bin/kubelet", "/opt/bin/kubelet",
			"/usr/local/bin/k3s", "/usr/sbin/libvirtd", "/usr/sbin/virtqemud",
		}, Users: []string{"root"}},
		{Kind: KindProcess, System: Linux, Name: "guest agent", Why: "the hypervisor manages this machine through it", Paths: []string{
			"/usr/bin/qemu-ga", "/usr/sbin/qemu-ga", "/usr/bin/vmtoolsd", "/usr/sbin/hv_kvp_daemon", "/usr/bin/amazon-ssm-agent", "/usr/sbin/waagent",
		}, Users: []string{"root"}},
		{
			Kind: KindProcess, System: Linux, Name: UnitMain, Why: "it is the main process of a service the machine depends on",
			Narrow: "the oldest process the service manager started in the unit's control group, unless it is an interpreter or its image could be written by others than root",
			Units: []string{
				"ssh.service", "sshd.service", "systemd-*.service", "dbus.service", "dbus-broker.service", "docker.service", "containerd.service",
				"crio.service", "kubelet.service", "k3s.service", "libvirtd.service", "kesl.service", "kesl-supervisor.service", "klnagent.service",
				"klnagent64.service", "qemu-guest-agent.service", "open-vm-tools.service", "vmtoolsd.service", "walinuxagent.service",
				"amazon-ssm-agent.service", "NetworkManager.service", "edr-bridge.service", "edr-bridge-*.service",
			},
		},
		{
			Kind: KindProcess, System: Linux, Name: Server, Why: "the bridge reads alerts from it or commands through it",
			Narrow: "what listens on this machine where the settings lead the bridge to (Redis, KSC, KUMA), in the network namespace of the agent; not what got the socket from its parent",
		},
	}
}

// windowsProcessEntries follow learn.microsoft.com, IsProcessCritical (processthreadsapi.h), and the vendors' folders.
func windowsProcessEntries() []Entry {
	return []Entry{
		{Kind: KindProcess, System: Windows, Name: Critical, Why: "the system stops when it ends", Narrow: "whatever Windows itself calls critical"},
		{Kind: KindProcess, System: Windows, Name: "system process", Why: "the machine stops without it", Paths: under(
			FolderSystem, "csrss.exe", "wininit.exe", "winlogon.exe", "services.exe", "lsass.exe", "lsaiso.exe", "smss.exe", "svchost.exe",
			"fontdrvhost.exe", "ntoskrnl.exe",
		)},
		{Kind: KindProcess, System: Windows, Name: "Kaspersky", Why: "it protects this machine", Paths: []string{
			FolderPrograms32 + `Kaspersky Lab\`, FolderPrograms32 + `Kaspersky\`, FolderPrograms + `Kaspersky Lab\`, FolderPrograms + `Kaspersky\`,
			FolderData + `Kaspersky Lab\`,
		}},
		{Kind: KindProcess, System: Windows, Name: "guest agent", Why: "the hypervisor manages this machine through it", Paths: []string{
			FolderPrograms + `VMware\VMware Tools\`, FolderPrograms + `Qemu-ga\`,
		}},
	}
}

func under(folder string, names ...string) []string {
	paths := make([]string, len(names))
	for i, n := range names {
		paths[i] = folder + n
	}
	return paths
}
