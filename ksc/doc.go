// Package ksc speaks OpenAPI with Kaspersky Security Center and carries orders out through it.
//
// Client has one method for each remote method it needs, every one through the same call; Executor fixes the
// intent of an order, adds the incident that makes KSC create the response task, and finds out after a lost
// answer whether it did:
//
//	POST /api/v1.0/HostGroup.AddIncident  {"pData":{"KLINCDT_SEVERITY":2, … "KLINCDT_BODY":"{\"targetHost\":…}"}}
//	200 {"PxgRetVal":17}   or   200 {"PxgError":{"code":1181, …}}
//
// AddIncident has no idempotency key, so it is never repeated once a byte of it may have left this machine.
// Neither the password nor the session id appears in an error, a log record or a String.
package ksc
