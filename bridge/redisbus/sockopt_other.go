//go:build !linux && !windows

package redisbus

import (
	"errors"
	"time"
)

func setUserTimeout(uintptr, time.Duration) error { return errors.ErrUnsupported }
