//go:build !linux && !windows

package ioc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// errSystem says where indicators can be looked for.
var errSystem = fmt.Errorf("indicators are looked for on Linux and Windows only: send the order through KSC: %w", errors.ErrUnsupported)

// uncollected says why a kind is not collected on this system.
func uncollected(Kind) string { return "nothing is collected on this system" }

// unknownHere reports whether a field has no value on this system.
func unknownHere(Kind, int) bool { return true }

// host is the machine whose objects are collected.
type host struct {
	now func() time.Time
}

// collector hands every object of a kind to emit.
type collector func(ctx context.Context, h host, o *object, emit func(*object)) error

func collectorOf(Kind) collector {
	return func(context.Context, host, *object, func(*object)) error { return errSystem }
}

func rootsOf(Config) (places, error) { return places{}, errSystem }

func idle() {}

// users knows nobody.
type users struct{}

func usersHere() users { return users{} }

func (users) owner(files.Stat) string { return "" }

func (users) number(files.Stat) string { return "" }
