//go:build !linux

package peersocket

import (
	"errors"
	"net"
)

// TellsPeers reports whether this system names who connects.
const TellsPeers = false

// PeerUID has no implementation for this platform.
func PeerUID(net.Conn) (uint32, error) { return 0, errors.ErrUnsupported }
