// Package kuma is the seam to Kaspersky Unified Monitoring and Analysis Platform: the source that takes up the calls of the nine
// script names of its response rules, and what its events, interfaces and pushes look like.
//
// A call is made by a program under one of the names (package callout), which hands it over a socket of its own or through a
// spool directory, and delivered by the Script source:
//
//	{"id":"k018f…","task":"isolateHost","host":"ws-01","params":{"action":1},"at":"2026-11-20T20:06:56Z","event":null}
//
// Events carry text an attacker wrote: it stays data, bounded and escaped wherever people read it.
// The package knows bridge, cef and callout, and nothing else of the project.
package kuma
