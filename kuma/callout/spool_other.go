//go:build !linux

package callout

import (
	"errors"
	"time"
)

// SpoolDir has no implementation for this platform: who wrote a file cannot be told.
type SpoolDir struct{}

// MakeSpool answers errors.ErrUnsupported: KUMA's correlator runs on Linux.
func MakeSpool(string, int) error { return errors.ErrUnsupported }

// OpenSpool answers errors.ErrUnsupported.
func OpenSpool(string) (*SpoolDir, error) { return nil, errors.ErrUnsupported }

// Close does nothing.
func (d *SpoolDir) Close() error { return nil }

// Public answers false.
func (d *SpoolDir) Public() bool { return false }

// InPlace answers errors.ErrUnsupported.
func (d *SpoolDir) InPlace() error { return errors.ErrUnsupported }

// Names answers errors.ErrUnsupported.
func (d *SpoolDir) Names() ([]string, error) { return nil, errors.ErrUnsupported }

func (d *SpoolDir) names(int) ([]string, error) { return nil, errors.ErrUnsupported }

func (d *SpoolDir) write(string, []byte) error { return errors.ErrUnsupported }

// Read answers errors.ErrUnsupported.
func (d *SpoolDir) Read(string, SpoolName, []uint32) ([]byte, error) {
	return nil, errors.ErrUnsupported
}

// Remove answers errors.ErrUnsupported.
func (d *SpoolDir) Remove(string) error { return errors.ErrUnsupported }

// Torn answers false.
func (d *SpoolDir) Torn(string, time.Time) bool { return false }

// SetAside answers errors.ErrUnsupported.
func (d *SpoolDir) SetAside(string, time.Time) (string, error) { return "", errors.ErrUnsupported }

// Watch answers errors.ErrUnsupported.
func (d *SpoolDir) Watch(chan<- struct{}) (func(), error) { return nil, errors.ErrUnsupported }
