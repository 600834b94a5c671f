//go:build !linux && !windows

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// errNoServices says where the program runs as a service.
var errNoServices = fmt.Errorf("the program is a service on Linux and Windows only; here, run `edr-bridge run` under what starts your programs: %w", errors.ErrUnsupported)

func serviceManaged() error { return fail(exitFailed, "service.unsupported", errNoServices, "") }

func serviceHint() string { return "edr-bridge run" }

func installService(serviceSpec, func(string, ...any)) error { return serviceManaged() }

func removeService(context.Context) error { return serviceManaged() }

func startService(context.Context) error { return serviceManaged() }

func stopService(context.Context) error { return serviceManaged() }

func (a *app) serviceInnerCommands() []*cobra.Command { return nil }

func lookAtServices() ([]serviceView, error) { return nil, serviceManaged() }
