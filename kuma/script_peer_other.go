//go:build !linux

package kuma

import (
	"errors"
	"net"
)

const scriptTellsPeers = false

// scriptPeerUID has no implementation for this platform.
func scriptPeerUID(net.Conn) (uint32, error) { return 0, errors.ErrUnsupported }
