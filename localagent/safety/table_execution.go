package safety

import "slices"

func executionEntries() []Entry {
	return []Entry{
		{Kind: KindExecution, Name: OwnProgram, Why: "the agent could not start again", Narrow: "by identity and by digest"},
		{Kind: KindExecution, Name: EmptyFile, Why: "its digest is that of every empty file and names no program", Narrow: "by digest"},
		{Kind: KindExecution, System: Linux, Name: "loader and libc", Why: "no program starts without it", Paths: loaderPaths()},
		{Kind: KindExecution, System: Linux, Name: "shell", Why: "services, logins and repairs run through it", Paths: shellPaths()},
		{Kind: KindExecution, System: Linux, Name: "interpreter", Why: "the system runs its own scripts with it: name the script instead", Paths: interpreterPaths()},
		{Kind: KindExecution, System: Linux, Name: "login, sudo and ssh", Why: "nobody could log in to repair things", Paths: loginPaths()},
		{Kind: KindExecution, System: Linux, Name: "init and services", Why: "the machine depends on it", Paths: imagePaths()},
		{Kind: KindExecution, System: Linux, Name: "Kaspersky", Why: "it protects this machine", Paths: []string{
			"/opt/kaspersky/", "/var/opt/kaspersky/", "/opt/KasperskyLab/",
		}},
		{
			Kind: KindExecution, System: Linux, Name: SystemPackage, Why: "the system needs its package",
			Narrow: "programs and libraries of the packages that are protected as files",
		},
		{Kind: KindExecution, System: Windows, Name: "system program", Why: "Windows needs it", Paths: []string{
			FolderSystem, FolderWindows + `SysWOW64\`, FolderWindows + `WinSxS\`, FolderWindows + `*.exe`,
		}},
		{Kind: KindExecution, System: Windows, Name: "shell", Why: "services, logins and repairs run through it", Paths: under(
			FolderSystem, "cmd.exe", `WindowsPowerShell\v1.0\powershell.exe`, "userinit.exe", "LogonUI.exe", "taskmgr.exe", "msiexec.exe",
			"rundll32.exe", "consent.exe", "sihost.exe", "RuntimeBroker.exe", "dllhost.exe",
		)},
		{Kind: KindExecution, System: Windows, Name: "Kaspersky", Why: "it protects this machine", Paths: []string{
			FolderPrograms + `Kaspersky Lab\`, FolderPrograms32 + `Kaspersky Lab\`, FolderPrograms + `Kaspersky\`, FolderPrograms32 + `Kaspersky\`,
		}},
	}
}

func shellPaths() []string {
	return inPrograms("sh", "bash", "rbash", "dash", "ash", "zsh", "ksh*", "mksh", "fish", "busybox", "toybox")
}

func interpreterPaths() []string {
	return inPrograms(
		"python[0-9]*", "python", "perl", "perl[0-9]*", "ruby", "ruby[0-9]*", "node", "nodejs", "php", "php[0-9]*", "lua", "lua[0-9]*", "tclsh*",
		"awk", "gawk", "mawk", "java", "pwsh", "env",
	)
}

func loginPaths() []string {
	return slices.Concat(
		inPrograms(
			"login", "su", "sudo", "sudoedit", "doas", "pkexec", "passwd", "agetty", "getty", "sulogin", "nologin", "unix_chkpwd", "runuser",
			"sshd", "ssh", "sftp-server", "newgrp",
		),
		[]string{
			"/usr/lib/openssh/*", "/usr/libexec/openssh/*", "/usr/lib/ssh/*", "/usr/lib/sudo/*", "/usr/libexec/sudo/*", "/usr/lib/polkit-1/*",
			"/usr/local/sbin/sshd", "/lib/security/*", "/usr/lib/security/*", "/lib/*/security/*", "/usr/lib/*/security/*", "/usr/lib64/security/*",
		},
	)
}

// inPrograms returns the names in each folder of programs.
func inPrograms(names ...string) []string {
	var paths []string
	for _, dir := range []string{"/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/"} {
		paths = append(paths, under(dir, names...)...)
	}
	return paths
}
