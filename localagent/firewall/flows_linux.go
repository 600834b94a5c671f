package firewall

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// diagRequestSize is sizeof(struct inet_diag_req_v2) of linux/inet_diag.h.
	diagRequestSize = 56
	// dumpTries is how often a socket list that changed while it was read is read again.
	dumpTries = 3
)

// The states of linux/tcp_states.h whose sockets have nothing to cut.
const (
	tcpTimeWait   = 6
	tcpClose      = 7
	tcpListen     = 10
	tcpNewSynRecv = 12
)

// cutFlows destroys the TCP sockets of this machine whose peer lies in prefix, whoever began the connection.
func cutFlows(ctx context.Context, prefix netip.Prefix) (int, error) {
	families := []uint8{unix.AF_INET6}
	if prefix.Addr().Is4() {
		// IPv4 peers of sockets that speak both are listed under IPv6.
		families = []uint8{unix.AF_INET, unix.AF_INET6}
	}
	return cutWhere(ctx, families, func(_, peer netip.AddrPort) bool { return prefix.Contains(peer.Addr()) })
}

// cutWhere destroys the TCP sockets of the calling thread's network namespace that match. Their programs get ECONNABORTED
// (sock_diag(7), SOCK_DESTROY). It returns how many it cut.
func cutWhere(ctx context.Context, families []uint8, match func(local, peer netip.AddrPort) bool) (int, error) {
	cut := 0
	var errs []error
	for _, family := range families {
		socks, err := tcpSockets(family)
		if err != nil {
			errs = append(errs, fmt.Errorf("list sockets: %w", err))
			continue
		}
		for _, s := range socks {
			if cause := context.Cause(ctx); cause != nil {
				return cut, errors.Join(append(errs, cause)...)
			}
			if idle(s.State) || !match(endOf(s.ID.Source, s.ID.SourcePort), endOf(s.ID.Destination, s.ID.DestinationPort)) {
				continue
			}
			switch err := destroy(s); {
			case err == nil:
				cut++
			case errors.Is(err, unix.ENOENT):
				// It ended by itself.
			default:
				errs = append(errs, fmt.Errorf("cut the connection of port %d: %w", s.ID.SourcePort, err))
			}
		}
	}
	return cut, errors.Join(errs...)
}

func endOf(ip net.IP, port uint16) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.Unmap(), port)
}

func idle(state uint8) bool {
	return state == tcpTimeWait || state == tcpClose || state == tcpListen || state == tcpNewSynRecv
}

func tcpSockets(family uint8) ([]*netlink.Socket, error) {
	for try := 1; ; try++ {
		socks, err := netlink.SocketDiagTCP(family)
		if errors.Is(err, netlink.ErrDumpInterrupted) {
			if try < dumpTries {
				continue
			}
			return socks, nil
		}
		return socks, err
	}
}

// destroy ends exactly the listed socket, which its cookie names. netlink.SocketDestroy knows neither IPv6 nor cookies.
func destroy(s *netlink.Socket) error {
	req := nl.NewNetlinkRequest(nl.SOCK_DESTROY, unix.NLM_F_ACK)
	req.AddRawData(diagRequest(s))
	_, err := req.Execute(unix.NETLINK_INET_DIAG, 0)
	return err
}

// diagRequest encodes struct inet_diag_req_v2: ports and addresses in network order, the rest in native order.
func diagRequest(s *netlink.Socket) []byte {
	b := make([]byte, diagRequestSize)
	b[0], b[1] = s.Family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[4:], ^uint32(0))
	binary.BigEndian.PutUint16(b[8:], s.ID.SourcePort)
	binary.BigEndian.PutUint16(b[10:], s.ID.DestinationPort)
	copy(b[12:28], wireAddr(s.Family, s.ID.Source))
	copy(b[28:44], wireAddr(s.Family, s.ID.Destination))
	binary.NativeEndian.PutUint32(b[44:], s.ID.Interface)
	binary.NativeEndian.PutUint32(b[48:], s.ID.Cookie[0])
	binary.NativeEndian.PutUint32(b[52:], s.ID.Cookie[1])
	return b
}

func wireAddr(family uint8, ip net.IP) net.IP {
	if family == unix.AF_INET {
		return ip.To4()
	}
	return ip.To16()
}
