package peersocket

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// TellsPeers reports whether this system names who connects.
const TellsPeers = true

// PeerUID returns the user at the other end (SO_PEERCRED, unix(7)): of an accepted connection the effective one at the time of connect(2), of one that
// was dialled that at the time of listen(2). It wraps errors.ErrUnsupported where the system does not tell.
func PeerUID(conn net.Conn) (uint32, error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return 0, fmt.Errorf("peer of %T: %w", conn, errors.ErrUnsupported)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *syscall.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err := errors.Join(err, credErr); err != nil {
		return 0, fmt.Errorf("SO_PEERCRED: %w", err)
	}
	return cred.Uid, nil
}
