package firewall

import (
	"context"
	"errors"
	"fmt"
	"net"

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
