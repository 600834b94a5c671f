// Package mapping turns the documents of alert sources into alerts and orders.
//
// A preset reads one product's documents into alerts. It is data, a YAML file of the bridge or of the user, that says for each
// field of bridge.Alert in which places of the document to look, in which order, and which forms of a value to take:
//
//	preset: acme
//	about: alerts of Acme Shield
//	format: json
//	fields:
//	  id: [alert.uuid]
//	  level: [{path: alert.score, levels: {LOW: 0-39, HIGH: 40-100}}]
//	  host: [device.fqdn, {path: agent.name, unless: {agent.id: "000"}}]
//
// A fact that is absent, unclear (several values) or in no declared form stays absent and is never guessed; a strict preset takes
// such a field for an error. Rules then say which orders follow, by fields of the alert and by raw.<place> of the document
// (raw.^.<place> is one document outwards, where a preset unwraps or goes through a list):
//
//	rules:
//	  - name: office-spawns-shell
//	    mode: enforce
//	    match: {level: [HIGH, CRITICAL], "process.name|endswith": [powershell.exe, cmd.exe]}
//	    do:
//	      - {task: terminateProcess, params: {path: "${process.path}", sha256hash: '${process.sha256 ?: ""}'}}
//	      - {task: isolateHost, params: {action: 1}, for: 4h}
//	    dedupe: {by: [user], for: 1h}
//
// Everything is pure and deterministic: no clock, no network, no state. The package knows no broker, no executor
// and no settings file; guards and the store judge the orders later.
package mapping
