package localagent

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

const (
	// socketListens is TCP_LISTEN of linux/tcp_states.h, which unix(7) sockets use as well.
	socketListens = 10
	// fdChunk is how many descriptors of a process are listed at a time.
	fdChunk = 1024
)

// servesBridge reports whether p listens, on this machine, where the bridge connects to. Whoever got the socket from its parent does not
// count: it is a worker, or what somebody made the server run.
func servesBridge(ctx context.Context, a *Agent, _ *ownFacts, p *pinned) (bool, error) {
	sockets, err := a.serverSockets()
	if err != nil || len(sockets) == 0 {
		return false, err
	}
	holds, err := p.holdsOneOf(ctx, sockets)
	if err != nil || !holds || p.ppid <= 1 {
		return holds, err
	}
	parent, err := open(p.ppid)
	if err == nil {
		defer parent.close()
		err = parent.readStat()
	}
	if err == nil {
		var inherited bool
		if inherited, err = parent.holdsOneOf(ctx, sockets); err == nil {
			return !inherited, nil
		}
	}
	if errors.Is(err, errGone) {
		return true, nil
	}
	return true, err
}

// serverSockets returns what listens on this machine for the bridge, as the links of descriptors name it. What serves it from another
// machine costs no system call.
func (a *Agent) serverSockets() (map[string]bool, error) {
	sockets := make(map[string]bool)
	for _, server := range a.cfg.Servers {
		var found []string
		var err error
		if file := strings.TrimPrefix(server, "unix://"); path.IsAbs(file) {
			found, err = unixListeners(file)
		} else {
			found, err = a.tcpListeners(server)
		}
		if err != nil {
			return nil, fmt.Errorf("what listens on %s: %w", server, err)
		}
		for _, inode := range found {
			sockets["socket:["+inode+"]"] = true
		}
	}
	return sockets, nil
}

// holdsOneOf reports whether the process has one of the sockets open.
func (p *pinned) holdsOneOf(ctx context.Context, sockets map[string]bool) (bool, error) {
	name := path.Join(path.Dir(p.exeLink), "fd")
	fd, err := unix.Openat(p.dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, p.lost("open descriptors", err)
	}
	dir := os.NewFile(uintptr(fd), name)
	defer func() { _ = dir.Close() }()
	for ctx.Err() == nil {
		names, err := dir.Readdirnames(fdChunk)
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, p.lost("list descriptors", err)
		}
		for _, n := range names {
			if link, err := p.readlink(name + "/" + n); err == nil && sockets[link] {
				return true, nil
			}
		}
	}
	return false, context.Cause(ctx)
}

// tcpListeners returns the inodes of what listens where a connection from this machine to the address ends; none for other machines.
func (a *Agent) tcpListeners(server string) ([]string, error) {
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		return nil, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	wanted := a.addressesHere(host)
	if len(wanted) == 0 {
		return nil, nil
	}
	all, err := tcpSockets(uint16(number))
	if err != nil {
		return nil, err
	}
	var found []string
	for _, addr := range wanted {
		best := 0
		for _, s := range all {
			best = max(best, s.answers(addr))
		}
		for _, s := range all {
			if best > 0 && s.answers(addr) == best {
				found = append(found, s.inode)
			}
		}
	}
	return found, nil
}

// addressesHere returns the addresses of this machine a host of the settings means.
func (a *Agent) addressesHere(host string) []netip.Addr {
	loopback := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	addr, err := netip.ParseAddr(host)
	addr = addr.Unmap().WithZone("")
	switch {
	case host == "", strings.EqualFold(host, "localhost"), err == nil && addr.IsUnspecified():
		return loopback
	case err == nil && (addr.IsLoopback() || a.cfg.Self.Is(addr.String())):
		return []netip.Addr{addr}
	case err == nil || !a.cfg.Self.Is(host):
		return nil
	default: // Debian calls itself 127.0.1.1 (hosts(5))
		_, own := a.cfg.Self.All()
		return slices.Concat(loopback, []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 1, 1})}, own)
	}
}

// tcpSocket is a listening socket.
type tcpSocket struct {
	addr  netip.Addr
	inode string
}

// answers says how closely the socket fits a connection to addr, 0 = not at all: the kernel gives it to the closest, and others who listen
// on the same port besides are nobody's server.
func (s *tcpSocket) answers(addr netip.Addr) int {
	switch {
	case s.addr == addr:
		return 3
	case s.addr.IsUnspecified() && s.addr.Is4() == addr.Is4():
		return 2
	case s.addr == netip.IPv6Unspecified() && addr.Is4():
		return 1
	default:
		return 0
	}
}

// tcpSockets lists what listens on the port in the network namespace of the agent (proc_pid_net(5)); listening sockets stand first there.
func tcpSockets(port uint16) ([]tcpSocket, error) {
	var list []tcpSocket
	for _, name := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		f, err := os.Open(name) //nolint:gosec // one of two constants
		if errors.Is(err, os.ErrNotExist) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(f)
		lines.Scan() // the title
		for lines.Scan() {
			fields := strings.Fields(lines.Text())
			if len(fields) < 10 || fields[3] != "0A" {
				break
			}
			local, err := parseListener(fields[1])
			if err != nil {
				continue
			}
			if local.Port() == port {
				list = append(list, tcpSocket{local.Addr(), fields[9]})
			}
		}
		err = lines.Err()
		_ = f.Close()
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// parseListener reads an address as the kernel prints it: words of four bytes in the order of the machine, and the port.
func parseListener(s string) (netip.AddrPort, error) {
	text, port, _ := strings.Cut(s, ":")
	number, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	b, err := hex.DecodeString(text)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for word := range slices.Chunk(b, 4) {
		if len(word) == 4 {
			binary.NativeEndian.PutUint32(word, binary.BigEndian.Uint32(word))
		}
	}
	addr, ok := netip.AddrFromSlice(b)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("%q is no address", text)
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(number)), nil
}

// unixListeners returns the inodes of what listens on the socket file at the path: by the identity of the file, because elsewhere anybody can
// have one of that name.
func unixListeners(file string) ([]string, error) {
	ino, dev, err := socketFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all, err := unixSockets()
	if err != nil {
		return nil, err
	}
	var found []string
	for _, s := range all {
		if s.ino == uint32(ino) && s.dev == dev { //nolint:gosec // the kernel tells the lower half only
			found = append(found, strconv.FormatUint(uint64(s.inode), 10))
		}
	}
	return found, nil
}

// socketFile returns number and device of a file as the kernel itself knows them, which stat(2) does not tell for all file systems.
func socketFile(file string) (ino uint64, dev uint32, err error) {
	fd, err := unix.Open(file, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, 0, err
	}
	ino, major, minor := st.Ino, unix.Major(st.Dev), unix.Minor(st.Dev)
	if n, err := fdinfo(fd, "ino:"); err == nil {
		ino = n
	}
	if mount, err := fdinfo(fd, "mnt_id:"); err == nil {
		all, err := files.Mounts()
		i := slices.IndexFunc(all, func(m files.Mount) bool { return uint64(m.ID) == mount }) //nolint:gosec // mounts have small numbers
		if i < 0 && err != nil {
			return 0, 0, err
		}
		if i >= 0 {
			if _, err := fmt.Sscanf(all[i].Device, "%d:%d", &major, &minor); err != nil {
				return 0, 0, fmt.Errorf("device of %s: %w", file, err)
			}
		}
	}
	return ino, major<<20 | minor, nil
}
