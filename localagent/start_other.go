//go:build !linux && !windows

package localagent

import (
	"context"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

type (
	prepared struct {
		path    string
		digests files.Digests
		args    []string
	}
	program struct{ *pinned }
	outputs struct{}

	launcherState struct{}
)

func (*prepared) close() {}

func (*outputs) stop() bool { return false }

func (l *Launcher) keep(string) *outputs { return &outputs{} }

func (*program) outcome(context.Context, *Exit) {}

func (l *Launcher) prepare(context.Context, bridge.StartProcess) (*prepared, error) {
	return nil, verdict.Refuse(bridge.ReasonUnsupported, "%w", errNoProcesses)
}

func (l *Launcher) spawn(*prepared, string, *note) error {
	return verdict.Refuse(bridge.ReasonUnsupported, "%w", errNoProcesses)
}

func (l *Launcher) attach(*note) (*program, error) { return nil, errNoProcesses }

func (l *Launcher) search(*note) bool { return false }

func (l *Launcher) group(*note) {}

func (l *Launcher) ungroup(*note) {}

func (l *Launcher) overtime(context.Context, *program, *note) []string { return nil }

func (l *Launcher) leftBehind(*note) []string { return nil }

func (l *Launcher) elapsed(*note) time.Duration { return 0 }

func bootID() string { return "" }
