package ioc

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// maxSockets is how much of a socket table is read, in bytes; a line has about 150.
	maxSockets = 64 << 20
	// maxNetworks bounds the network namespaces whose sockets are listed: a busy host has one a container.
	maxNetworks = 1024
	// maxDescriptors bounds the descriptors of a process that are looked at.
	maxDescriptors = 1 << 20
)

// socket is a line of /proc/PID/net/tcp and its like (proc_pid_net(5)).
type socket struct {
	local, remote netip.AddrPort
	state         uint64
	inode         string
}

// stateNames are the states of linux/tcp_states.h; Windows calls a listener LISTENING, and so do indicators.
func stateNames(protocol string, state uint64) []string {
	if protocol == "UDP" {
		return nil
	}
	names := []string{
		"", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSED", "CLOSE_WAIT", "LAST_ACK",
		"LISTEN", "CLOSING", "SYN_RECV",
	}
	switch {
	case state == 10:
		return []string{"LISTENING", "LISTEN"}
	case state > 0 && state < uint64(len(names)):
		return []string{names[state]}
	default:
		return nil
	}
}

func parseSocket(line string) (socket, bool) {
	f := strings.Fields(line)
	if len(f) < 10 {
		return socket{}, false
	}
	local, okLocal := parseEndpoint(f[1])
	remote, okRemote := parseEndpoint(f[2])
	state, err := strconv.ParseUint(f[3], 16, 8)
	return socket{local, remote, state, f[9]}, okLocal && okRemote && err == nil
}

// parseEndpoint reads an address of words of 32 bits in the order of this machine, and a port, all hex.
func parseEndpoint(s string) (netip.AddrPort, bool) {
	words, port, ok := strings.Cut(s, ":")
	n, err := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || len(words)%8 != 0 {
		return netip.AddrPort{}, false
	}
	b := make([]byte, len(words)/2)
	for i := 0; i < len(words); i += 8 {
		w, err := strconv.ParseUint(words[i:i+8], 16, 32)
		if err != nil {
			return netip.AddrPort{}, false
		}
		binary.NativeEndian.PutUint32(b[i/2:], uint32(w))
	}
	addr, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), ok
}

// networks finds processes in every network namespace and who holds which socket.
type networks struct {
	members map[string][]int
	holders map[string][]program
}

func (h host) networks(ctx context.Context) (networks, error) {
	// Several members, because the first may end before its tables are read.
	const members = 4
	n := networks{map[string][]int{}, map[string][]program{}}
	err := h.eachProcess(ctx, func(pid int, dir *os.Root) {
		if ns, err := dir.Readlink("ns/net"); err == nil {
			if pids, known := n.members[ns]; len(pids) < members && (known || len(n.members) < maxNetworks) {
				n.members[ns] = append(pids, pid)
			}
		}
		fds, err := dir.Open("fd")
		if err != nil {
			return
		}
		defer func() { _ = fds.Close() }()
		names, _ := fds.Readdirnames(maxDescriptors)
		var p program
		for _, name := range names {
			link, err := dir.Readlink("fd/" + name)
			inode, ok := strings.CutPrefix(link, "socket:[")
			if err != nil || !ok {
				continue
			}
			if p.pid == 0 {
				if p, ok = readProcess(pid, dir); !ok {
					return
				}
			}
			inode = strings.TrimSuffix(inode, "]")
			n.holders[inode] = append(n.holders[inode], p)
		}
	})
	return n, err
}

// collectPorts lists the sockets of every network namespace some process is in.
func collectPorts(ctx context.Context, h host, o *object, emit func(*object)) error {
	n, err := h.networks(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, pids := range n.members {
		for _, table := range []struct{ file, protocol string }{{"tcp", "TCP"}, {"tcp6", "TCP"}, {"udp", "UDP"}, {"udp6", "UDP"}} {
			errs = append(errs, h.socketsOfAny(ctx, pids, table.file, func(s socket) {
				n.describe(o, table.protocol, s)
				emit(o)
			}))
		}
	}
	return errors.Join(errs...)
}

// socketsOfAny reads the table of the first process that has it.
func (h host) socketsOfAny(ctx context.Context, pids []int, file string, f func(socket)) error {
	var err error
	for _, pid := range pids {
		if err = h.sockets(ctx, "/proc/"+strconv.Itoa(pid)+"/net/"+file, f); err == nil || context.Cause(ctx) != nil {
			return err
		}
	}
	// A kernel without IPv6 has no tables for it, and a namespace may end with its last process.
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}

func (h host) sockets(ctx context.Context, name string, f func(socket)) error {
	table, err := os.Open(h.path(name))
	if err != nil {
		return err
	}
	defer func() { _ = table.Close() }()
	lines := bufio.NewScanner(io.LimitReader(table, maxSockets))
	for lines.Scan() {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if s, ok := parseSocket(lines.Text()); ok {
			f(s)
		}
	}
	return lines.Err()
}

func (n *networks) describe(o *object, protocol string, s socket) {
	o.address(portLocalIP, s.local.Addr())
	o.number(portLocalPort, int64(s.local.Port()))
	if s.remote.Port() != 0 {
		o.address(portRemoteIP, s.remote.Addr())
		o.number(portRemotePort, int64(s.remote.Port()))
	}
	o.text(portProtocol, protocol)
	o.text(portState, stateNames(protocol, s.state)...)
	// A socket may have several holders: whoever forked while it was open.
	for _, p := range n.holders[s.inode] {
		o.text(portProcess, p.name())
		o.number(portPID, int64(p.pid))
		o.text(portPath, p.image)
	}
}
