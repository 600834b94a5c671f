//go:build !linux && !windows

package sensor

import (
	"context"
	"errors"
	"fmt"
	"os"
)

var errNoSensor = fmt.Errorf("there is a sensor on Linux and Windows only; feed alerts by a webhook or Redis: %w", errors.ErrUnsupported)

// watch answers an error that wraps errors.ErrUnsupported.
func (*Sensor) watch(context.Context) error { return errNoSensor }

// Probe answers an error that wraps errors.ErrUnsupported.
func Probe(context.Context) (string, error) { return "", errNoSensor }

// system knows nothing of the processes of this machine.
type system struct{}

func (system) pids() ([]int, error)                 { return nil, errNoSensor }
func (system) stat(int) (stat, error)               { return stat{}, errNoSensor }
func (system) image(int) (string, bool, error)      { return "", false, errNoSensor }
func (system) commandLine(int, int) ([]byte, error) { return nil, errNoSensor }
func (system) open(int) (*os.File, error)           { return nil, errNoSensor }
func (system) after(uint64, uint64) bool            { return false }
func (system) program() string                      { return "" }
func (system) isOurs(int) bool                      { return false }
func (system) boot() string                         { return "" }
