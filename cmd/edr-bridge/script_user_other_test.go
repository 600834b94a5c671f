//go:build !linux

package main

import (
	"errors"

	"github.com/rogpeppe/go-internal/testscript"
)

func mayBeNobody() bool { return false }

func mayMount() bool { return false }

func (s *stage) nobody(*testscript.TestScript, []string) error { return errors.ErrUnsupported }

func (s *stage) small(*testscript.TestScript, []string) error { return errors.ErrUnsupported }

func (s *stage) unmount() {}
