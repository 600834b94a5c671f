// Package configs holds the settings of edr-bridge: their types, defaults, reading and checking.
//
// A settings file is strict YAML. Unknown and repeated keys, wrong types and values out of range are errors that name
// file, line and column, as many at once as can be found:
//
//	edr-bridge.yaml:6:5: ksc.addess: unknown setting, did you mean "address"?
//	  6 |     addess: ksc01.corp.local:13299
//	    |     ^
//
// Environment variables of one table override single values. Secrets never stand in settings, only references to them;
// the package knows neither keyring nor network and neither prints a password that was put in the wrong place.
package configs
