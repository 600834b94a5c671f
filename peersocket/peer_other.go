//go:build !linux

package peersocket

import (
	"errors"
	"net"
)

// TellsPeers reports whether this system names who connects.
const TellsPeers = false

// peerUID has no implementation for this platform.
func peerUID(net.Conn) (uint32, error) { return 0, errors.ErrUnsupported }
