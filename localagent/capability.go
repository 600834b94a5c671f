package localagent

import (
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// The words of Support.
const (
	supported = "yes"
	no        = "no"
	// wineTested says that the task was tested on the Windows API as wine has it, builtOnly that it was compiled and vetted.
	wineTested = "yes, tested under wine"
	builtOnly  = "yes, built only"
)

// Capability is one thing the agent needs from the machine, and whether it is there.
type Capability struct {
	// Name is a short fixed word: root, pidfd, nftables.
	Name string
	OK   bool
	// Detail says in words what was seen, or what is missing and what does not work without it.
	Detail string
}

// Support tells where the local agent carries out a task: a word that begins with "yes", or "no" where it answers ReasonUnsupported.
type Support struct {
	Task           bridge.Kind
	Linux, Windows string
	// WindowsHow says what the task does on Windows, and what it does not.
	WindowsHow string
}

// Capabilities returns every task in the order of bridge.Kinds.
func Capabilities() []Support {
	kinds := bridge.Kinds()
	table := make([]Support, 0, len(kinds))
	for _, k := range kinds {
		table = append(table, Support{Task: k, Linux: supported, Windows: onWindows(k), WindowsHow: windowsHow(k)})
	}
	return table
}

// onWindows says how much is known of the task on Windows.
func onWindows(k bridge.Kind) string {
	switch k {
	case bridge.KindTerminateProcess, bridge.KindStartProcess, bridge.KindGetFile, bridge.KindDeleteFile, bridge.KindQuarantineFile:
		return wineTested
	case bridge.KindIsolateHost, bridge.KindBlockAddress, bridge.KindPreventExecution, bridge.KindIOCScan, bridge.KindOnDemandScan:
		return builtOnly
	default:
		return no
	}
}

// windowsHow says what the task does on Windows.
func windowsHow(k bridge.Kind) string {
	switch k {
	case bridge.KindTerminateProcess:
		return "by handle; critical and protected processes are refused; descendants by their parents, and one that may not be opened is named and the order undecided"
	case bridge.KindStartProcess:
		return "in a job object until the agent restarts, then by parents; the command line as it is; only a program nobody but SYSTEM, administrators, the installer of Windows and the agent's own account may replace"
	case bridge.KindGetFile, bridge.KindQuarantineFile:
		return "no reparse points; the key of the quarantine is bound to the machine (DPAPI)"
	case bridge.KindDeleteFile:
		return "no reparse points; a busy file is renamed and deleted at the next start of the machine, which the receipt says"
	case bridge.KindIsolateHost:
		return "Windows Filtering Platform; each filter carries its own end by the clock, and a scheduled task takes it away when the agent is gone. wine has no such platform: rules, expiry and roll-back are tested against one in memory"
	case bridge.KindBlockAddress:
		return "Windows Filtering Platform, as isolateHost"
	case bridge.KindPreventExecution:
		return "by path through Image File Execution Options, by path and content through Software Restriction Policies, which Windows 11 22H2 and later may ignore: the receipt says so; a digest alone is refused. Not AppLocker, not WDAC; no scripts, no documents. The registry was tested under wine, that Windows obeys it was not"
	case bridge.KindIOCScan:
		return "files, processes, ports and services; other terms are reported as not supported"
	case bridge.KindOnDemandScan:
		return "folders and drives, with the built-in engine or clamd over loopback TCP"
	default:
		return ""
	}
}

// Supports reports whether the agent carries out the task on the operating system it runs on.
func Supports(k bridge.Kind) bool {
	for _, s := range Capabilities() {
		if s.Task == k {
			return strings.HasPrefix(s.here(), supported)
		}
	}
	return false
}
