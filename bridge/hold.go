package bridge

import "sync/atomic"

// HoldSwitch is the in-memory copy of the latched stop that is asked right before every effect.
// The zero value is not holding. It is safe for concurrent use.
type HoldSwitch struct {
	current atomic.Pointer[Hold]
}

// Set replaces the hold.
func (h *HoldSwitch) Set(to Hold) { h.current.Store(&to) }

// Get returns the hold as last set.
func (h *HoldSwitch) Get() Hold {
	if p := h.current.Load(); p != nil {
		return *p
	}
	return Hold{}
}

// IsRelease reports whether the task only gives something back; releases pass a hold.
func IsRelease(t Task) bool {
	iso, ok := t.(IsolateHost)
	return ok && iso.Action == IsolationOff
}

// Repeatable reports whether doing the task a second time changes nothing, so that an order whose outcome was
// lost may simply be done again on this machine.
func Repeatable(k Kind) bool { return k != KindStartProcess }
