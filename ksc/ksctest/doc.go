// Package ksctest is a mock of the Kaspersky Security Center OpenAPI: a real HTTPS server with
// the logins, sessions, filters, result sets, incidents and response tasks of the vendor's interface.
//
//	POST /api/v1.0/HostGroup.AddIncident
//	{"pData":{"KLINCDT_SEVERITY":2,"KLINCDT_ADDED":{"type":"datetime","value":"2026-11-20T17:06:56Z"},…}}
//	→ 200 {"PxgRetVal":17}
//
// It can fail on demand before or after an incident is stored, and tells a test what it stored.
// It knows only the wire: it shares no code with the client and imports the standard library only.
// The numbers in its errors are made up; the vendor publishes none.
package ksctest
