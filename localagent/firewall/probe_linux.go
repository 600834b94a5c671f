package firewall

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// ProbeTables says whether the packet filter can be read.
func ProbeTables(context.Context) (string, error) {
	conn, err := nftables.New()
	if err == nil {
		_, err = newBlockRules().readBlocks(conn)
	}
	if err != nil {
		return "", netfilterVerdict("read the packet filter", err)
	}
	return "table inet " + blockTable + " can be read", nil
}

// ProbeIsolation makes the whole table of an isolation in a network namespace that lives as long as this call, and enters its own
// one as it would those of containers. The machine's own packet filter is not touched.
func ProbeIsolation(context.Context) (string, error) {
	detail := "an isolation can be made and nobody else can change its rules"
	err := apart(func() error {
		err := tryRules(tableOwner | tablePersist)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
			err = tryRules(0)
			detail = "an isolation can be made; other programs can change its rules, which are put back (a kernel before Linux 6.9)"
		}
		return err
	})
	if errors.Is(err, unix.ENOENT) {
		err = fmt.Errorf("%w: the kernel lacks a part of nf_tables (CONFIG_NFT_CT, CONFIG_NFT_REJECT_INET)", err)
	}
	if err != nil {
		return "", netfilterVerdict("make an isolation apart", err)
	}
	own, err := nsOf("self")
	if err == nil {
		err = place{id: own, path: "/proc/self/ns/net"}.inside(func() error { return nil })
	}
	if err != nil {
		detail += fmt.Sprintf("; other network namespaces cannot be covered: %v", err)
	}
	return detail, nil
}

// tryRules makes the table in the network namespace of the calling thread.
func tryRules(flags uint32) error {
	rules := newIsolationRules([]pass{{netip.MustParsePrefix("192.0.2.1/32"), []portRange{{1, 2}}, ProtocolAny, DirectionBoth}}, &Config{NTP: true})
	msgs, err := rules.messages(time.Minute, false, flags)
	if err != nil {
		return err
	}
	c, err := dialFilter()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	return commit(c, msgs)
}

// apart runs work in a network namespace of its own, on a thread that ends with it.
func apart(work func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			// The first thread stands for the whole process in /proc: another one goes.
			defer runtime.UnlockOSThread()
			done <- apart(work)
			return
		}
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("a network namespace to try it in: %w", err)
			return
		}
		done <- work()
	}()
	return <-done
}

// ProbeCutting cuts a connection it has made on loopback for the purpose.
func ProbeCutting(ctx context.Context) (_ string, err error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("loopback listener: %w", err)
	}
	defer func() { _ = l.Close() }()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp4", l.Addr().String())
	if err != nil {
		return "", fmt.Errorf("loopback connection: %w", err)
	}
	defer func() { _ = c.Close() }()
	local, ok := c.LocalAddr().(*net.TCPAddr)
	if !ok {
		return "", fmt.Errorf("unexpected address type %T", c.LocalAddr())
	}
	socks, err := tcpSockets(unix.AF_INET)
	if err != nil {
		return "", fmt.Errorf("list sockets: %w", err)
	}
	for _, s := range socks {
		if int(s.ID.SourcePort) != local.Port || !s.ID.Source.Equal(local.IP) {
			continue
		}
		if err := destroy(s); err != nil {
			return "", fmt.Errorf("destroy an own socket: %w", err)
		}
		return "connections can be cut", nil
	}
	return "", errors.New("an own socket is not in the kernel's list")
}
