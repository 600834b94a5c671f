package main

import "github.com/edr-bridge/edr-bridge/kuma/callout"

// callOut is the program under the name of one of KUMA's nine scripts; ok is false under any other name. It needs no settings,
// no store and no flags; edr-bridge-call is the same without everything else.
func callOut(argv []string, std stdio) (exit int, ok bool) {
	return callout.RunScript(argv, std.out, std.err)
}
