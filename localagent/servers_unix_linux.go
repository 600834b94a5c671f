package localagent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// The messages of sock_diag(7) about sockets of unix(7), linux/unix_diag.h.
const (
	diagByFamily     = 20 // SOCK_DIAG_BY_FAMILY
	diagShowFile     = 2  // UDIAG_SHOW_VFS
	diagFile         = 1  // UNIX_DIAG_VFS
	diagUnixRequest  = 24 // sizeof(struct unix_diag_req)
	diagUnixAnswer   = 16 // sizeof(struct unix_diag_msg)
	diagUnixNumberAt = 4  // offsetof(struct unix_diag_msg, udiag_ino)
	diagRoom         = 64 << 10
)

// unixSocket is a listening socket and the file it is bound to.
type unixSocket struct{ inode, ino, dev uint32 }

// unixSockets lists the listening sockets of the agent's network namespace that are bound to a file.
func unixSockets() ([]unixSocket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer func() { _ = unix.Close(fd) }()
	o := binary.NativeEndian
	m := make([]byte, unix.SizeofNlMsghdr+diagUnixRequest)
	o.PutUint32(m, uint32(len(m))) //nolint:gosec // 40
	o.PutUint16(m[4:], diagByFamily)
	o.PutUint16(m[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	m[unix.SizeofNlMsghdr] = unix.AF_UNIX
	o.PutUint32(m[unix.SizeofNlMsghdr+4:], 1<<socketListens)
	o.PutUint32(m[unix.SizeofNlMsghdr+12:], diagShowFile)
	if err := unix.Sendto(fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, os.NewSyscallError("sendto", err)
	}
	var list []unixSocket
	buf := make([]byte, diagRoom)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, os.NewSyscallError("recvfrom", err)
		}
		more, err := parseUnixSockets(buf[:n], &list)
		if err != nil || !more {
			return list, err
		}
	}
}

// parseUnixSockets adds what one answer tells and reports whether more follow.
func parseUnixSockets(b []byte, list *[]unixSocket) (bool, error) {
	o := binary.NativeEndian
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(o.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return false, fmt.Errorf("a message of %d bytes in %d", size, len(b))
		}
		body := b[unix.SizeofNlMsghdr:size]
		switch kind := o.Uint16(b[4:]); {
		case kind == unix.NLMSG_DONE:
			return false, nil
		case kind == unix.NLMSG_ERROR && len(body) >= 4:
			return false, os.NewSyscallError("sock_diag", unix.Errno(-int32(o.Uint32(body)))) //nolint:gosec // a negative errno
		case kind == diagByFamily && len(body) >= diagUnixAnswer:
			s := unixSocket{inode: o.Uint32(body[diagUnixNumberAt:])}
			if file := diagAttribute(body[diagUnixAnswer:], diagFile); len(file) >= 8 {
				s.ino, s.dev = o.Uint32(file), o.Uint32(file[4:])
				*list = append(*list, s)
			}
		}
		b = b[min(aligned(size), len(b)):]
	}
	return true, nil
}

func diagAttribute(b []byte, kind uint16) []byte {
	for len(b) >= unix.SizeofNlAttr {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofNlAttr || size > len(b) {
			return nil
		}
		if binary.NativeEndian.Uint16(b[2:]) == kind {
			return b[unix.SizeofNlAttr:size]
		}
		b = b[min(aligned(size), len(b)):]
	}
	return nil
}

// aligned rounds up to what netlink messages and attributes begin at.
func aligned(n int) int { return (n + 3) &^ 3 }
