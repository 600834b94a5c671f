package safety

import "slices"

func fileEntries() []Entry {
	const (
		account  = "accounts, logins and mounts of the machine depend on it"
		keys     = "whoever has to repair the machine logs in with it"
		starting = "programs do not start without it"
	)
	return []Entry{
		{Kind: KindFile, Name: Folder, Why: "tasks are about single files, never about folders", Narrow: "every folder, / included"},
		{Kind: KindFile, Name: Device, Why: "it is no file with a content of its own", Narrow: "devices, pipes, sockets and links, wherever they are"},
		{Kind: KindFile, System: Linux, Name: MountPoint, Why: "something is mounted on it", Narrow: "files other files or file systems are mounted on"},
		{
			Kind: KindFile, System: Linux, Name: KernelFiles, Why: "it is an interface of the kernel", Paths: []string{"/proc/", "/sys/"},
			Narrow: "and every mount of such a file system elsewhere",
		},
		{Kind: KindFile, Name: OwnFiles, Why: "the agent and its records depend on it", Narrow: "own program, settings, state, quarantine and audit"},
		{Kind: KindFile, System: Linux, Name: "loader and libc", Why: starting, Paths: loaderPaths()},
		{Kind: KindFile, System: Linux, Name: "kernel and boot", Why: "the machine does not start without it", Paths: []string{
			"/boot/", "/efi/", "/vmlinuz*", "/initrd*",
		}},
		// Not /dev/shm, where malware likes to live.
		{Kind: KindFile, System: Linux, Name: "devices", Why: "the system finds its devices there", Paths: []string{
			"/dev/*", "/dev/block/", "/dev/bus/", "/dev/char/", "/dev/cpu/", "/dev/disk/", "/dev/dri/", "/dev/fd/", "/dev/input/",
			"/dev/mapper/", "/dev/net/", "/dev/pts/", "/dev/snd/", "/dev/vfio/",
		}},
		{Kind: KindFile, System: Linux, Name: "accounts and logins", Why: account, Paths: []string{
			"/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow", "/etc/subuid", "/etc/subgid", "/etc/sudoers", "/etc/sudoers.d/",
			"/etc/fstab", "/etc/crypttab", "/etc/ssh/", "/etc/pam.d/", "/etc/pam.conf", "/etc/security/", "/etc/nsswitch.conf",
			"/etc/login.defs", "/etc/securetty", "/etc/shells", "/etc/machine-id",
		}},
		// Not those below /home: what a user can write would be a hiding place.
		{Kind: KindFile, System: Linux, Name: "ssh keys", Why: keys, Paths: []string{"/root/.ssh/authorized_keys", "/root/.ssh/authorized_keys2"}},
		{Kind: KindFile, System: Linux, Name: "Kaspersky", Why: "it protects this machine", Paths: []string{
			"/opt/kaspersky/", "/var/opt/kaspersky/", "/etc/opt/kaspersky/", "/opt/KasperskyLab/",
		}},
		{
			Kind: KindFile, System: Linux, Name: "units of protected services", Why: "the machine depends on the service it starts",
			Paths: unitPaths(), Narrow: "the unit file and its drop-ins",
		},
		{
			Kind: KindFile, System: Linux, Name: "login and service programs", Why: "the machine and the ways into it depend on it",
			Paths: slices.Concat(loginPaths(), shellPaths(), imagePaths()),
		},
		{
			Kind: KindFile, System: Linux, Name: SystemPackage, Why: "the system needs its package",
			Packages: []string{
				"openssh-server", "openssh-sftp-server", "sudo", "systemd", "systemd-sysv", "udev", "dbus", "dbus-bin", "dbus-daemon",
				"dbus-broker", "ca-certificates",
			},
			Narrow: "programs, libraries and settings of packages dpkg calls Essential or required, of all packages these need, and of the named ones; " +
				"where there is no dpkg database the owner of a file is not known, and everything in the program folders counts",
		},
	}
}

// loaderPaths follow ld.so(8) and the multiarch folders of Debian.
func loaderPaths() []string {
	var paths []string
	for _, dir := range []string{"/lib", "/lib32", "/lib64", "/libx32", "/usr/lib", "/usr/lib32", "/usr/lib64", "/lib/*", "/usr/lib/*"} {
		for _, name := range []string{"ld-*.so*", "libc.so*", "libc-*.so", "libm.so*", "libpthread.so*", "libdl.so*", "librt.so*"} {
			paths = append(paths, dir+"/"+name)
		}
	}
	return append(paths, "/etc/ld.so.cache", "/etc/ld.so.conf")
}

func unitPaths() []string {
	var paths []string
	for _, e := range processEntries() {
		for _, unit := range e.Units {
			for _, dir := range []string{"/etc/systemd/system/", "/run/systemd/system/", "/usr/lib/systemd/system/", "/lib/systemd/system/"} {
				paths = append(paths, dir+unit, dir+unit+".d/*")
			}
		}
	}
	return paths
}

// imagePaths are the single images of the protected processes; their trees are entries of their own.
func imagePaths() []string {
	var paths []string
	for _, e := range processEntries() {
		for _, p := range e.Paths {
			if !tree(p) {
				paths = append(paths, p)
			}
		}
	}
	return paths
}

// windowsFileEntries are judged together with Windows' own list (sfc.h, SfcIsFileProtected).
func windowsFileEntries() []Entry {
	return []Entry{
		{
			Kind: KindFile, System: Windows, Name: SystemPackage, Why: "Windows needs it",
			Paths: []string{
				FolderSystem, FolderWindows + `SysWOW64\`, FolderWindows + `WinSxS\`, FolderWindows + `Boot\`, FolderWindows + `*.exe`,
			},
			Narrow: "and every file under Windows Resource Protection",
		},
		{Kind: KindFile, System: Windows, Name: "kernel and boot", Why: "the machine does not start without it", Paths: []string{
			FolderDrive + `EFI\`, FolderDrive + `Boot\`, FolderDrive + `bootmgr*`, FolderDrive + `BOOTNXT`, FolderDrive + `pagefile.sys`,
			FolderDrive + `swapfile.sys`, FolderDrive + `hiberfil.sys`,
		}},
		{Kind: KindFile, System: Windows, Name: "Kaspersky", Why: "it protects this machine", Paths: []string{
			FolderPrograms + `Kaspersky Lab\`, FolderPrograms32 + `Kaspersky Lab\`, FolderPrograms + `Kaspersky\`, FolderPrograms32 + `Kaspersky\`,
			FolderData + `Kaspersky Lab\`, FolderData + `KasperskyLab\`,
		}},
	}
}
