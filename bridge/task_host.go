package bridge

// The values of IsolateHost.Action.
const (
	IsolationOff = 0 // give the host its network back
	IsolationOn  = 1 // cut the host off
)

// IsolateHost cuts a host off the network or lets it back. Undo: the other action.
//
//	{"action":1}
type IsolateHost struct {
	// Action is IsolationOn or IsolationOff. On the wire it must be present: its absence is not a release.
	Action int `json:"action"`
}

// BlockAddress drops all traffic with an address on this machine for the order's For
// (10 minutes when unset). Only the local agent knows it. Undo: the kernel's own timeout.
//
//	{"address":"203.0.113.7"}
type BlockAddress struct {
	// Address is an IPv4 or IPv6 address, or a prefix no shorter than /24 or /64.
	Address string `json:"address"`
}

// Kind returns KindIsolateHost.
func (IsolateHost) Kind() Kind { return KindIsolateHost }

// Kind returns KindBlockAddress.
func (BlockAddress) Kind() Kind { return KindBlockAddress }

func (IsolateHost) task()  {}
func (BlockAddress) task() {}
