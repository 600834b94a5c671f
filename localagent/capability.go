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
	builtOnly = "yes, built only"
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
}

// Capabilities returns every task in the order of bridge.Kinds.
func Capabilities() []Support {
	kinds := bridge.Kinds()
	table := make([]Support, 0, len(kinds))
	for _, k := range kinds {
		table = append(table, Support{Task: k, Linux: supported, Windows: onWindows(k)})
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

// Supports reports whether the agent carries out the task on the operating system it runs on.
func Supports(k bridge.Kind) bool {
	for _, s := range Capabilities() {
		if s.Task == k {
			return strings.HasPrefix(s.here(), supported)
		}
	}
	return false
}
