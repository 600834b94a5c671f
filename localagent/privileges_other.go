//go:build !windows

package localagent

// EnablePrivileges has nothing to switch on: what a process may do is in its user and its capabilities.
func EnablePrivileges() {}
