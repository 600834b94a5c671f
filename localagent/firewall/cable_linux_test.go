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

// newFar makes a network namespace with a thread that lives in it, and returns a descriptor of the namespace.
func newFar(t testing.TB) (far, int) {
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
	return f, fd
}

// up gives an interface of the calling thread's namespace addresses and sets it up, loopback as well.
func up(t testing.TB, name string, addrs ...string) *netlink.Handle {
	t.Helper()
	h, err := netlink.NewHandle()
	must(t, err)
	lo, err := h.LinkByName("lo")
	must(t, err)
	must(t, h.LinkSetUp(lo))
	link, err := h.LinkByName(name)
	must(t, err)
	for _, s := range addrs {
		addr, err := netlink.ParseAddr(s)
		must(t, err)
		addr.Flags = unix.IFA_F_NODAD
		must(t, h.AddrAdd(link, addr))
	}
	must(t, h.LinkSetUp(link))
	return h
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// plug connects the test's namespace with another one by a pair of virtual interfaces.
func plug(t testing.TB, here, there string, namespace int) {
	t.Helper()
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: here}, PeerName: there, PeerNamespace: netlink.NsFd(namespace)}))
}

// cable connects the test's namespace with a far one.
func cable(t testing.TB) far {
	t.Helper()
	f, fd := newFar(t)
	plug(t, "near", "far", fd)
	here := up(t, "near", near4+"/24", near6+"/64")
	must(t, here.RouteAdd(&netlink.Route{Gw: net.ParseIP(gateway4)}))
	f.do(func() { up(t, "far", far4+"/24", far6+"/64", "198.51.100.3/24") })
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

// addRoute adds a route of the calling thread's namespace: to one address, to the /24 of an address that ends in 0, or to everything.
func addRoute(to, gateway string) error {
	bits := 32
	switch {
	case to == "0.0.0.0":
		bits = 0
	case netip.MustParseAddr(to).As4()[3] == 0:
		bits = 24
	}
	h, err := netlink.NewHandle()
	if err != nil {
		return err
	}
	return h.RouteAdd(&netlink.Route{
		Dst: &net.IPNet{IP: net.ParseIP(to).To4(), Mask: net.CIDRMask(bits, 32)}, Gw: net.ParseIP(gateway),
	})
}
