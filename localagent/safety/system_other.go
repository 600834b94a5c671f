//go:build !linux && !windows

package safety

// thisSystem has no entries of its own: the agent acts on Linux and Windows only.
const thisSystem System = "other"
