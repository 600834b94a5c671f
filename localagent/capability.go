package localagent

import (
	"github.com/edr-bridge/edr-bridge/bridge"
)

// The words of Support.
const (
	supported = "yes"
	kscOnly   = "KSC only"
)

// Capability is one thing the agent needs from the machine, and whether it is there.
type Capability struct {
	// Name is a short fixed word: root, pidfd, nftables.
	Name string
	OK   bool
	// Detail says in words what was seen, or what is missing and what does not work without it.
	Detail string
}

// Support tells where the local agent carries out a task: "yes", or "KSC only" where it answers ReasonUnsupported.
type Support struct {
	Task           bridge.Kind
	Linux, Windows string
}

// Capabilities returns every task in the order of bridge.Kinds.
func Capabilities() []Support {
	kinds := bridge.Kinds()
	table := make([]Support, 0, len(kinds))
	for _, k := range kinds {
		s := Support{Task: k, Linux: kscOnly, Windows: kscOnly}
		switch k {
		case bridge.KindTerminateProcess:
			s.Linux, s.Windows = supported, supported
		case bridge.KindBlockAddress:
			s.Linux, s.Windows = supported, "no"
		case bridge.KindGetFile, bridge.KindDeleteFile, bridge.KindQuarantineFile, bridge.KindIOCScan, bridge.KindStartProcess,
			bridge.KindIsolateHost, bridge.KindPreventExecution, bridge.KindOnDemandScan:
		default:
			s.Linux, s.Windows = "no", "no"
		}
		table = append(table, s)
	}
	return table
}

// Supports reports whether the agent carries out the task on the operating system it runs on.
func Supports(k bridge.Kind) bool {
	for _, s := range Capabilities() {
		if s.Task == k {
			return s.here() == supported
		}
	}
	return false
}
