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

// hurry changes nothing here.
func hurry() (done func()) { return func() {} }

func (a *Agent) grow(context.Context, *plan) error {
	return verdict.Refuse(bridge.ReasonUnsupported, "%w", errNoProcesses)
}

func (a *Agent) stragglers(context.Context, *plan) (*plan, error) { return nil, errNoProcesses }
