// Package socket puts the local agent behind a Unix socket: the bridge runs without rights, the agent with the few it needs.
//
//	bridge (Client is its executor) → typed orders, one JSON document a line → Server → peer credentials → guards again → Agent
//
// Both sides share the types of package bridge and nothing else; whatever the agent refuses in one process it refuses here.
package socket
