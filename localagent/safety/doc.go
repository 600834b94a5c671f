// Package safety is the never-touch table of this machine: processes, files, executions and networks no order may touch, with reasons.
//
// Entries go by what a thing is (inode, digest, unit cgroup, place), never by the name a program gave itself. Settings add to the
// table, nothing takes from it. It knows no order and no executor; the bridge's own guards (bridge.Protect) are asked before it.
package safety
