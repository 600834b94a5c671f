package bridge

const builtIn = "built in"

// builtinProtect is the one table of what no setting can lift. Processes stand here by full path only:
// malware may call itself sshd.
func builtinProtect() ProtectConfig {
	const (
		windowsCore = "Windows stops without it"
		service     = "the system or its way in stops without it"
		kaspersky   = "the endpoint protection itself"
		containers  = "it runs the containers of the host"
		programs    = "programs and libraries of the system"
		kernel      = "kernel, devices and boot files"
		accounts    = "accounts, logins and mounts of the system"
		metadata    = "the cloud host gets its identity and network from it"
	)
	return ProtectConfig{
		Processes: builtins(
			windowsCore, `?:\Windows\System32\lsass.exe`, `?:\Windows\System32\csrss.exe`, `?:\Windows\System32\wininit.exe`,
			`?:\Windows\System32\services.exe`, `?:\Windows\System32\smss.exe`, `?:\Windows\System32\winlogon.exe`,
			`?:\Windows\System32\svchost.exe`, `?:\Windows\System32\ntoskrnl.exe`,
		).and(
			service, "/sbin/init", "/usr/sbin/init", "/bin/systemd", "/usr/bin/systemd", "/usr/lib/systemd/systemd*", "/lib/systemd/systemd*",
			"/usr/bin/dbus-daemon", "/bin/dbus-daemon", "/usr/bin/dbus-broker*", "/usr/sbin/sshd", "/sbin/sshd",
			"/usr/sbin/qemu-ga", "/usr/bin/qemu-ga", "/usr/bin/vmtoolsd",
		).and(
			kaspersky, `?:\Program Files*\Kaspersky Lab\**`, `?:\ProgramData\Kaspersky Lab\**`, "/opt/kaspersky/**",
		).and(
			containers, "/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd", "/usr/bin/containerd*", "/usr/local/bin/containerd*",
			"/usr/bin/crio", "/usr/local/bin/crio", "/usr/bin/kubelet", "/usr/local/bin/kubelet", "/opt/bin/kubelet",
		),
		Paths: builtins(
			programs, "/", "/bin/**", "/sbin/**", "/lib/**", "/lib32/**", "/lib64/**", "/libx32/**",
			"/usr/bin/**", "/usr/sbin/**", "/usr/lib/**", "/usr/lib32/**", "/usr/lib64/**", "/usr/libx32/**", "/usr/libexec/**",
			`?:\`, `?:\Windows\System32\**`, `?:\Windows\SysWOW64\**`, `?:\Windows\WinSxS\**`,
			`?:\Windows\*.exe`,
		).and(
			// Not /dev/shm, where malware likes to live.
			kernel, "/boot/**", "/efi/**", "/proc/**", "/sys/**", "/dev", "/dev/*", "/dev/block/**", "/dev/bus/**", "/dev/char/**", "/dev/cpu/**",
			"/dev/disk/**", "/dev/dri/**", "/dev/fd/**", "/dev/input/**", "/dev/mapper/**", "/dev/net/**", "/dev/pts/**", "/dev/snd/**", "/dev/vfio/**",
			`?:\Windows\Boot\**`, `?:\EFI\**`, `?:\Boot\**`, `?:\bootmgr*`, `?:\BOOTNXT`,
			`?:\pagefile.sys`, `?:\swapfile.sys`, `?:\hiberfil.sys`,
		).and(
			accounts, "/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow", "/etc/sudoers", "/etc/sudoers.d/**", "/etc/fstab",
			"/etc/ssh/**", "/etc/pam.d/**",
		).and(
			kaspersky, `?:\Program Files*\Kaspersky Lab\**`, `?:\ProgramData\Kaspersky Lab\**`, `?:\ProgramData\KasperskyLab\**`,
			"/opt/kaspersky/**", "/var/opt/kaspersky/**", "/etc/opt/kaspersky/**",
		),
		Addresses: builtins(metadata, "169.254.169.254", "168.63.129.16", "fd00:ec2::254"),
	}
}

// builtinEntries is a list of built-in entries in the making.
type builtinEntries []ProtectEntry

func builtins(why string, patterns ...string) builtinEntries {
	return builtinEntries(nil).and(why, patterns...)
}

func (list builtinEntries) and(why string, patterns ...string) builtinEntries {
	for _, pattern := range patterns {
		list = append(list, ProtectEntry{Pattern: pattern, Why: why, At: builtIn})
	}
	return list
}
