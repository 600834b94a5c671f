package main

import (
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// closeTimeout is how long ending a session may take when the program ends.
const closeTimeout = 2 * time.Second

// identity is what this machine calls itself; no network is asked.
func identity() bridge.Identity {
	id := bridge.Identity{Names: []string{"localhost.invalid"}, Now: identityNow}
	if name, err := os.Hostname(); err == nil && name != "" {
		id.Names = []string{name}
	}
	return id
}

// identityNow is what this machine is called at the moment. The agent starts before the first interface has an address.
func identityNow() (names []string, addresses []netip.Addr) {
	if name, err := os.Hostname(); err == nil && name != "" {
		names = []string{name}
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return names, nil
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLoopback() {
			addresses = append(addresses, p.Addr().Unmap())
		}
	}
	return names, addresses
}

// protect adds to the user's lists what this bridge itself must not harm.
func (w *wiring) protect() bridge.ProtectConfig {
	cfg := w.set.ProtectConfig()
	for profile, k := range w.set.Servers() {
		cfg.Hosts = append(cfg.Hosts, bridge.ProtectEntry{
			Pattern: hostPart(k.Address), Why: "the Administration Server", At: w.set.At(kscPath(profile) + ".address"),
		})
	}
	if exe, err := os.Executable(); err == nil {
		cfg.Processes = append(cfg.Processes, bridge.ProtectEntry{Pattern: exe, Why: "this bridge", At: "built in"})
		cfg.Paths = append(cfg.Paths, bridge.ProtectEntry{Pattern: exe, Why: "this bridge", At: "built in"})
	}
	for _, path := range []string{w.set.Local.State, w.set.File()} {
		if path == "" {
			continue
		}
		path, err := filepath.Abs(path)
		if err != nil || !strings.ContainsAny(path, `/\`) {
			continue
		}
		cfg.Paths = append(cfg.Paths, bridge.ProtectEntry{Pattern: path, Why: "state and settings of this bridge", At: "built in"})
	}
	if w.set.Local.State != "" {
		cfg.Paths = append(cfg.Paths, bridge.ProtectEntry{Pattern: w.set.Local.State + "/**", Why: "state of this bridge", At: "built in"})
	}
	for _, a := range w.serverAddresses() {
		cfg.Addresses = append(cfg.Addresses, bridge.ProtectEntry{Pattern: a.String(), Why: "a server this bridge depends on", At: "built in"})
	}
	return cfg
}

// serverAddresses are the literal addresses of KSC, KUMA and Redis. Names are not resolved here: the local agent asks for them when it
// is to block or to isolate.
func (w *wiring) serverAddresses() []netip.Addr {
	var out []netip.Addr
	add := func(address string) {
		if a, err := netip.ParseAddr(hostPart(address)); err == nil {
			out = append(out, a.Unmap())
		}
	}
	for _, k := range w.set.Servers() {
		add(k.Address)
	}
	if w.set.KUMA != nil {
		add(w.set.KUMA.Address)
	}
	for _, s := range w.set.Sources {
		for _, node := range s.Nodes() {
			add(node)
		}
	}
	return out
}

func (w *wiring) neverBlock() []netip.Prefix {
	var out []netip.Prefix
	for _, a := range w.serverAddresses() {
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	return out
}

// hostPart is the host of "host:port", or the text itself.
func hostPart(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return strings.Trim(address, "[]")
}

func currentUser() string {
	u, err := user.Current()
	if err != nil {
		return ""
	}
	return u.Username
}
