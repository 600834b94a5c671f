package sensor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The messages of sock_diag(7), linux/inet_diag.h.
const (
	diagByFamily    = 20 // SOCK_DIAG_BY_FAMILY
	diagRequestSize = 56 // sizeof(struct inet_diag_req_v2)
	diagAnswerSize  = 72 // sizeof(struct inet_diag_msg)
	diagBuffer      = 64 << 10
	diagTime        = 5 * time.Second

	// tcpStates are those of linux/tcp_states.h with a peer that has answered: a half-open connection from outside
	// (SYN_RECV) may come from a forged address, and a listed one would be blocked for somebody who never was there.
	tcpStates = 1<<1 | 1<<2 | 1<<4 | 1<<5 | 1<<6 | 1<<8 | 1<<9 | 1<<11
	// udpStates are sockets with a peer.
	udpStates = 1 << 1
)

// listConnections returns the TCP connections and connected UDP sockets of this network namespace whose peer is listed.
func listConnections(listed func(netip.Addr) bool) ([]connection, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("list connections: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	limit := unix.NsecToTimeval(diagTime.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return nil, fmt.Errorf("list connections: %w", err)
	}
	var list []connection
	buf := make([]byte, diagBuffer)
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		for _, p := range []struct {
			name   string
			number uint8
			states uint32
		}{{"tcp", unix.IPPROTO_TCP, tcpStates}, {"udp", unix.IPPROTO_UDP, udpStates}} {
			err := dump(fd, buf, family, p.number, p.states, func(c connection) {
				if listed(c.remote.Addr()) {
					c.protocol = p.name
					list = append(list, c)
				}
			})
			// A kernel without IPv6, or without the module for UDP, has nothing to list.
			if err != nil && !errors.Is(err, unix.ENOENT) {
				return list, fmt.Errorf("list %s connections: %w", p.name, err)
			}
		}
	}
	return list, nil
}

func dump(fd int, buf []byte, family, protocol uint8, states uint32, do func(connection)) error {
	o := binary.NativeEndian
	m := make([]byte, netlinkHeader+diagRequestSize)
	o.PutUint32(m[0:], uint32(len(m))) //nolint:gosec // 72
	o.PutUint16(m[4:], diagByFamily)
	o.PutUint16(m[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	m[16], m[17] = family, protocol
	o.PutUint32(m[20:], states)
	if err := unix.Sendto(fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		done, err := eachConnection(buf[:n], do)
		if done || err != nil {
			return err
		}
	}
}

// eachConnection calls do for every connection in a datagram, and reports whether the dump is complete.
func eachConnection(b []byte, do func(connection)) (done bool, err error) {
	o := binary.NativeEndian
	for len(b) >= netlinkHeader {
		size := int(o.Uint32(b))
		if size < netlinkHeader || size > len(b) {
			return true, errors.New("the kernel's answer is cut short")
		}
		body := b[netlinkHeader:size]
		switch o.Uint16(b[4:]) {
		case unix.NLMSG_DONE:
			return true, nil
		case unix.NLMSG_ERROR:
			if len(body) >= 4 {
				if code := int32(o.Uint32(body)); code < 0 { //nolint:gosec // an errno with its sign changed
					return true, unix.Errno(-code)
				}
			}
			return true, nil
		case diagByFamily:
			if c, ok := connectionOf(body); ok {
				do(c)
			}
		}
		next := (size + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1)
		if next >= len(b) {
			break
		}
		b = b[next:]
	}
	return false, nil
}

func connectionOf(m []byte) (connection, bool) {
	if len(m) < diagAnswerSize {
		return connection{}, false
	}
	address := func(at int) netip.Addr {
		if m[0] == unix.AF_INET {
			return netip.AddrFrom4([4]byte(m[at : at+4]))
		}
		return netip.AddrFrom16([16]byte(m[at : at+16])).Unmap()
	}
	c := connection{
		local:  netip.AddrPortFrom(address(8), binary.BigEndian.Uint16(m[4:])),
		remote: netip.AddrPortFrom(address(24), binary.BigEndian.Uint16(m[6:])),
		inode:  uint64(binary.NativeEndian.Uint32(m[68:])),
	}
	return c, m[0] == unix.AF_INET || m[0] == unix.AF_INET6
}

// socketOwners finds a process for each socket. It reads the open files of all processes, some milliseconds on an ordinary host.
func socketOwners(wanted map[uint64]bool) map[uint64]int {
	owners := make(map[uint64]int, len(wanted))
	if len(wanted) == 0 {
		return owners
	}
	pids, err := system{}.pids()
	if err != nil {
		return owners
	}
	for _, pid := range pids {
		eachSocket(pid, func(inode uint64) bool {
			if wanted[inode] && owners[inode] == 0 {
				owners[inode] = pid
			}
			return len(owners) < len(wanted)
		})
		if len(owners) == len(wanted) {
			break
		}
	}
	return owners
}

// ownsSocket reports whether the process has the socket open.
func ownsSocket(pid int, inode uint64) bool {
	found := false
	eachSocket(pid, func(i uint64) bool {
		found = found || i == inode
		return !found
	})
	return found
}

// eachSocket goes through the open sockets of a process until do answers false (proc_pid_fd(5)).
func eachSocket(pid int, do func(inode uint64) bool) {
	dir, err := os.Open(procPath(pid, "fd"))
	if err != nil {
		return
	}
	defer func() { _ = dir.Close() }()
	var buf [64]byte
	for {
		names, err := dir.Readdirnames(256)
		if err != nil || len(names) == 0 {
			return
		}
		for _, name := range names {
			n, err := unix.Readlink(procPath(pid, "fd/"+name), buf[:])
			if err != nil {
				continue
			}
			text, ok := strings.CutPrefix(string(buf[:n]), "socket:[")
			inode, err := strconv.ParseUint(strings.TrimSuffix(text, "]"), 10, 64)
			if ok && err == nil && !do(inode) {
				return
			}
		}
	}
}
