//go:build !linux && !windows

package localagent

import (
	"context"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

type forest struct{ grown bool }

func (*forest) kill([]*pinned) {}

func (*forest) letGo([]*pinned) {}

func (*forest) chase(context.Context, *pinned) {}

func (*forest) escaped() string { return "" }

func (*forest) leftOver() []string { return nil }

// hurry changes nothing here.
func hurry() (done func()) { return func() {} }

func (a *Agent) grow(context.Context, *plan) error {
	return verdict.Refuse(bridge.ReasonUnsupported, "%w", errNoProcesses)
}

func (a *Agent) stragglers(context.Context, *plan) (*plan, error) { return nil, errNoProcesses }
