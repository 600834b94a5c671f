// Package kuma is the seam to Kaspersky Unified Monitoring and Analysis Platform: the nine script names of its response
// rules, how their calls get to the bridge, and what its events, interfaces and pushes look like.
//
// A call is read from an argument line (ParseCall), handed over within 50 ms over a socket of its own or through a spool
// directory (HandOver), and delivered by the Script source:
//
//	{"id":"k018f…","task":"isolateHost","host":"ws-01","params":{"action":1},"at":"2026-11-20T20:06:56Z","event":null}
//
// Argument lines and events carry text an attacker wrote: a value stays one value or the whole call is refused.
// The package knows bridge and nothing else of the project.
package kuma
