package ioc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// host is the machine whose objects are collected.
type host struct {
	now func() time.Time
}

// collector hands every object of a kind to emit, which is done with it when it returns. An error says what could not be
// collected; what was handed over counts all the same.
type collector func(ctx context.Context, h host, o *object, emit func(*object)) error

// collectorOf returns the collector of a kind that Compile lets through.
func collectorOf(k Kind) collector {
	switch k {
	case KindProcess:
		return collectProcesses
	case KindPort:
		return collectPorts
	case KindService:
		return collectServices
	case KindFile, KindDNS, KindARP, KindUser, KindSystem, KindVolume:
	}
	return func(context.Context, host, *object, func(*object)) error {
		return fmt.Errorf("%s is not collected here: %w", k, errors.ErrUnsupported)
	}
}

// idle does nothing: Windows has a background mode for whole processes only, and the agent has other work.
func idle() {}

// users knows nobody: the owners of files are not looked up.
type users struct{}

func usersHere() users { return users{} }

func (users) owner(files.Stat) string { return "" }

func (users) number(files.Stat) string { return "" }
