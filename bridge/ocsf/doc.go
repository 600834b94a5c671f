// Package ocsf tells outcomes of orders as events of the Open Cybersecurity Schema Framework, version 1.5.0, category
// Remediation (schema.ocsf.io/1.5.0/categories/remediation; sources: github.com/ocsf/ocsf-schema, events/remediation):
//
//	{"class_uid":7003,"activity_id":2,"status_id":1,"command_uid":"o4f0c…","device":{"hostname":"ws1","type_id":0},…}
//
// Each event has what its class requires; what an audit record does not tell is left out, never guessed. The package imports only
// package bridge and does no I/O.
package ocsf
