// Command edr-bridge-call is edr-bridge under the nine names of KUMA's scripts and nothing else: an eighth of the size, for
// correlators that call often. `edr-bridge kuma install` links the names to it where it lies beside edr-bridge.
package main

import (
	"os"

	"github.com/edr-bridge/edr-bridge/kuma/callout"
)

const exitUsage = 2

func main() {
	exit, ok := callout.RunScript(os.Args, os.Stdout, os.Stderr)
	if !ok {
		_, _ = os.Stderr.WriteString("error: call it by the name of a script, such as isolateHost.py: edr-bridge kuma install\n")
		exit = exitUsage
	}
	os.Exit(exit) //nolint:forbidigo // the end of the program
}
