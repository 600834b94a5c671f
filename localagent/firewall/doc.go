// Package firewall cuts machines off: one address (blockAddress) or this machine from everything but its lifelines (isolateHost).
//
// Each has a table of its own whose entries the kernel takes away by itself when their time is over, whatever becomes of this
// program. What was changed is read back before anybody is told that it holds. It knows no order, no rule and no store.
package firewall
