package localagent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Probe looks for what the agent needs from the machine and answers for each. It changes nothing but a loopback
// connection it makes for itself, takes a few milliseconds, and stops early when ctx ends.
func (a *Agent) Probe(ctx context.Context) []Capability {
	var found []Capability
	for _, p := range []struct {
		name, without string
		look          func(context.Context) (string, error)
	}{
		{"root", "only own processes can be ended and nothing blocked", probeRoot},
		{"pidfd", "no process is ended: a pid alone is never acted on", probePidfd},
		{"images", "processes of other users cannot be identified", probeImages},
		{"nftables", "blockAddress does not work", probeNftables},
		{"sock_destroy", "connections of a blocked address are not cut, they run into the filter", probeSockDestroy},
	} {
		if context.Cause(ctx) != nil {
			break
		}
		detail, err := p.look(ctx)
		if err != nil {
			detail = fmt.Sprintf("%v: %s", err, p.without)
		}
		found = append(found, Capability{Name: p.name, OK: err == nil, Detail: detail})
	}
	return found
}

func probeRoot(context.Context) (string, error) {
	if uid := os.Geteuid(); uid != 0 {
		return "", fmt.Errorf("runs as user %d; root or CAP_KILL, CAP_SYS_PTRACE and CAP_NET_ADMIN are needed", uid)
	}
	return "runs as root", nil
}

func probePidfd(context.Context) (string, error) {
	p, err := pin(os.Getpid())
	if err != nil {
		return "", err
	}
	defer p.close()
	return fmt.Sprintf("pidfd_open and pidfd_send_signal work; this agent started at tick %d", p.start), nil
}

func probeImages(context.Context) (string, error) {
	if _, err := os.Readlink("/proc/1/exe"); err != nil {
		return "", fmt.Errorf("image of process 1: %w", err)
	}
	return "images of all users can be read", nil
}

func probeNftables(context.Context) (string, error) {
	conn, err := nftables.New()
	if err == nil {
		_, err = newBlockRules().readBlocks(conn)
	}
	if err != nil {
		return "", netfilterVerdict("read the packet filter", err)
	}
	return "table inet " + blockTable + " can be read", nil
}

// probeSockDestroy cuts a connection it has made on loopback for the purpose.
func probeSockDestroy(ctx context.Context) (_ string, err error) {
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
