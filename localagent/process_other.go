//go:build !linux && !windows

package localagent

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// maxPID bounds process ids.
const maxPID = 1<<31 - 1

type processSignal int

const (
	sigTerm processSignal = iota
	sigKill
)

// errNoProcesses says where processes can be ended.
var errNoProcesses = fmt.Errorf("processes are ended on Linux and Windows only: send the order through KSC: %w", errors.ErrUnsupported)

type (
	platform struct {
		own    onceFacts
		images imageTable
	}
	onceFacts  struct{}
	imageTable struct{}
	pinned     struct {
		pid        int
		start      uint64
		image      string
		signalled  bool
		descendant bool
	}
)

func pin(int) (*pinned, error) { return nil, errNoProcesses }

func (*pinned) readImage() error                           { return errNoProcesses }
func (*pinned) lingers() string                            { return "" }
func zombie(int, uint64) string                            { return "" }
func (p *pinned) close()                                   {}
func (p *pinned) alive() error                             { return errNoProcesses }
func (p *pinned) ended() bool                              { return false }
func (p *pinned) openExe() (*os.File, error)               { return nil, errNoProcesses }
func (p *pinned) signal(processSignal) error               { return errNoProcesses }
func (p *pinned) send(processSignal) error                 { return errNoProcesses }
func (p *pinned) waitExit(context.Context, time.Time) bool { return false }
func (p *pinned) imageView() view                          { return view{name: p.image, open: p.openExe} }
func (p *pinned) views() iter.Seq[view]                    { return func(func(view) bool) {} }

func spellings(path string) []string { return []string{path} }

func candidates(context.Context, *criteria) ([]int, error) {
	return nil, verdict.Refuse(bridge.ReasonUnsupported, "%w", errNoProcesses)
}

func checkPID(int) error { return verdict.Refuse(bridge.ReasonUnsupported, "%w", errNoProcesses) }

func checkPIDRange(int) error { return nil }

func startedAt(uint64, time.Time) time.Time { return time.Time{} }

func (a *Agent) protected(context.Context, *pinned) (bridge.Reason, string, error) {
	return bridge.ReasonNone, "", errNoProcesses
}

func (*onceFacts) get() (struct{}, error) { return struct{}{}, errNoProcesses }

func (*imageTable) refresh(time.Time) {}

func (*imageTable) refreshIfOld(time.Time) {}

// Probe answers that nothing the agent does works here.
func (a *Agent) Probe(context.Context) []Capability {
	return []Capability{{Name: "processes", Detail: errNoProcesses.Error()}}
}
