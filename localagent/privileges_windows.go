package localagent

import (
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
)

// wantedPrivileges are what the agent needs beside the rights of its account. SYSTEM and administrators have them, switched off
// (learn.microsoft.com/windows/win32/secauthz/privilege-constants).
func wantedPrivileges() []string {
	return []string{
		"SeBackupPrivilege",  // to read a file whose access list denies it
		"SeRestorePrivilege", // to delete such a file, and to give one back to its owner
		"SeDebugPrivilege",   // to end a process whose access list denies it
	}
}

// EnablePrivileges switches on what the account of this process has of the privileges the agent needs; Probe says what is missing.
func EnablePrivileges() {
	var token windows.Token
	if windows.OpenProcessToken(windows.CurrentProcess(), windows.TOKEN_ADJUST_PRIVILEGES|windows.TOKEN_QUERY, &token) != nil {
		return
	}
	defer func() { _ = token.Close() }()
	for _, name := range wantedPrivileges() {
		luid, err := privilegeID(name)
		if err != nil {
			continue
		}
		state := windows.Tokenprivileges{PrivilegeCount: 1}
		state.Privileges[0] = windows.LUIDAndAttributes{Luid: luid, Attributes: windows.SE_PRIVILEGE_ENABLED}
		_ = windows.AdjustTokenPrivileges(token, false, &state, 0, nil, nil) // it also says yes to what it did not do
	}
}

func privilegeID(name string) (windows.LUID, error) {
	var luid windows.LUID
	text, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return luid, err
	}
	return luid, windows.LookupPrivilegeValue(nil, text, &luid)
}

// probePrivileges says which privileges are switched on.
func probePrivileges() Capability {
	c := Capability{Name: "privileges"}
	missing, err := missingPrivileges()
	switch {
	case err != nil:
		c.Detail = err.Error()
	case len(missing) > 0:
		c.Detail = "missing: " + strings.Join(missing, ", ") + ": what denies this account access is not read, deleted, given back or ended"
	default:
		c.OK, c.Detail = true, "access lists of files and processes do not keep the agent out"
	}
	return c
}

func missingPrivileges() ([]string, error) {
	token := windows.GetCurrentProcessToken()
	var size uint32
	_ = windows.GetTokenInformation(token, windows.TokenPrivileges, nil, 0, &size)
	buf := make([]uint64, size/8+1)                                                                                                 // aligned like the structure
	err := windows.GetTokenInformation(token, windows.TokenPrivileges, (*byte)(unsafe.Pointer(&buf[0])), uint32(8*len(buf)), &size) //nolint:gosec // as much as it asked for
	if err != nil {
		return nil, fmt.Errorf("privileges: %w", err)
	}
	have := (*windows.Tokenprivileges)(unsafe.Pointer(&buf[0])).AllPrivileges() //nolint:gosec // the function filled the buffer
	var missing []string
	for _, name := range wantedPrivileges() {
		luid, err := privilegeID(name)
		on := slices.ContainsFunc(have, func(p windows.LUIDAndAttributes) bool {
			return p.Luid == luid && p.Attributes&windows.SE_PRIVILEGE_ENABLED != 0
		})
		if err != nil || !on {
			missing = append(missing, name)
		}
	}
	return missing, nil
}
