//go:build unix

package callout

import "golang.org/x/sys/unix"

// calloutSend sends to a Unix datagram socket without waiting and reports whether it was taken.
func calloutSend(path string, datagram []byte) bool {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	if unix.SetNonblock(fd, true) != nil {
		return false
	}
	return unix.Sendto(fd, datagram, 0, &unix.SockaddrUnix{Name: path}) == nil
}
