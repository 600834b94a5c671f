//go:build !linux

package kuma

import (
	"errors"
	"time"
)

// spoolDir has no implementation for this platform: who wrote a file cannot be told.
type spoolDir struct{}

// MakeSpool answers errors.ErrUnsupported: KUMA's correlator runs on Linux.
func MakeSpool(string, string) error { return errors.ErrUnsupported }

func openSpool(string) (*spoolDir, error) { return nil, errors.ErrUnsupported }

func (d *spoolDir) close() error { return nil }

func (d *spoolDir) open() bool { return false }

func (d *spoolDir) inPlace() error { return errors.ErrUnsupported }

func (d *spoolDir) names(int) ([]string, error) { return nil, errors.ErrUnsupported }

func (d *spoolDir) write(string, []byte) error { return errors.ErrUnsupported }

func (d *spoolDir) read(string, spoolName, []uint32) ([]byte, error) {
	return nil, errors.ErrUnsupported
}

func (d *spoolDir) remove(string) error { return errors.ErrUnsupported }

func (d *spoolDir) torn(string, time.Time) bool { return false }

func (d *spoolDir) setAside(string, time.Time) (string, error) { return "", errors.ErrUnsupported }

func (d *spoolDir) watch(chan<- struct{}) (func(), error) { return nil, errors.ErrUnsupported }
