// Command edr-bridge turns SIEM alerts into endpoint response tasks: Kaspersky Security Center runs them, or
// the bundled local agent does.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	std := stdio{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	if exit, ok := callOut(os.Args, std); ok {
		os.Exit(exit)
	}
	os.Exit(run(os.Args, std))
}

// run is main with its streams and its answer in reach of the tests.
func run(argv []string, std stdio) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	return execute(ctx, argv, std)
}
