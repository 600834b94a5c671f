// Package localagent is the executor for the machine it runs on.
//
// It ends processes (terminateProcess) and, on Linux, drops the traffic of an address (blockAddress);
// Capabilities tells which task runs where. Every target is pinned first (pidfd on Linux, handle on Windows),
// then identified, then checked against the never-touch table, and only the pinned thing is acted on:
//
//	Execute → pin → start time, image, digests → protections → SIGKILL → exit seen → receipt
//
// It knows the words of package bridge and the kernel. It knows no alert, no rule, no store and no server.
package localagent
