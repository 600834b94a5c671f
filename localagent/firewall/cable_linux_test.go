package firewall

import (
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	near4, far4 = "198.51.100.1", "198.51.100.2"
	near6, far6 = "2001:db8::1", "2001:db8::2"
	gateway4    = "198.51.100.254"
)

// far is the other end of a cable: a network namespace with a thread of its own.
type far struct {
	work chan func()
}

// do runs f on the thread that lives in the far namespace; sockets f opens stay there.
func (f far) do(work func()) {
	done := make(chan struct{})
	f.work <- func() { defer close(done); work() }
	<-done
}

// cable connects the test's namespace with a far one by a pair of virtual interfaces.
func cable(t *testing.T) far {
	t.Helper()
	f := far{work: make(chan func())}
	ready := make(chan error)
	ended := make(chan struct{})
	fd := -1
	go func() {
		defer close(ended)
		// Never unlocked: the thread ends with the goroutine, and its namespace with it.
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		ready <- err
		for work := range f.work {
			work()
		}
	}()
	if err := <-ready; err != nil {
		t.Skipf("the machine allows no network namespaces: %v", err)
	}
	t.Cleanup(func() { close(f.work); <-ended; _ = unix.Close(fd) })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "near"}, PeerName: "far", PeerNamespace: netlink.NsFd(fd)}))
	up := func(h *netlink.Handle, name string, addrs ...string) {
		lo, err := h.LinkByName("lo")
		must(err)
		must(h.LinkSetUp(lo))
		link, err := h.LinkByName(name)
		must(err)
		for _, s := range addrs {
			addr, err := netlink.ParseAddr(s)
			must(err)
			addr.Flags = unix.IFA_F_NODAD
			must(h.AddrAdd(link, addr))
		}
		must(h.LinkSetUp(link))
	}
	here, err := netlink.NewHandle()
	must(err)
	up(here, "near", near4+"/24", near6+"/64")
	must(here.RouteAdd(&netlink.Route{Gw: net.ParseIP(gateway4)}))
	f.do(func() {
		there, err := netlink.NewHandle()
		must(err)
		up(there, "far", far4+"/24", far6+"/64", "198.51.100.3/24")
	})
	return f
}

// echo serves on a listener until it is closed.
func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
	}
}

// talk reports whether the connection still carries bytes both ways.
func talk(c net.Conn) error {
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

func mustListen(t *testing.T, f *far, addr string) net.Listener {
	t.Helper()
	var l net.Listener
	var err error
	listen := func() { l, err = net.Listen("tcp", net.JoinHostPort(addr, "0")) }
	if f == nil {
		listen()
	} else {
		f.do(listen)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go echo(l)
	return l
}

func mustDial(t *testing.T, f *far, addr string) net.Conn {
	t.Helper()
	var c net.Conn
	var err error
	if f == nil {
		// A fresh link may lose the first packets, and neighbours and connections are asked again after a second each.
		for try := 0; try == 0 || err != nil && try < 5; try++ {
			c, err = net.DialTimeout("tcp", addr, 2*time.Second)
		}
	} else {
		// A plain dial of one address stays on the thread.
		f.do(func() { c, err = net.DialTCP("tcp", nil, tcpAddr(addr)) })
	}
	if err != nil {
		t.Fatalf("dial %s: %v", addr, err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := talk(c); err != nil {
		t.Fatalf("talk to %s: %v", addr, err)
	}
	return c
}

func tcpAddr(s string) *net.TCPAddr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
