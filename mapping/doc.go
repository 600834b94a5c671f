// Package mapping turns the documents of alert sources into alerts and orders.
//
// A preset reads one product's document into a bridge.Alert, strictly: a field that is read twice, in another
// case or with another type is an error, a fact that is absent stays absent. Rules then say which orders
// follow:
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
