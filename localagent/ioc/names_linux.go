package ioc

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"strings"
	"time"
)

const (
	// resolvedSocket is where systemd-resolved shows its cache to root, since version 254 (systemd-resolved.service(8)).
	resolvedSocket = "/run/systemd/resolve/io.systemd.Resolve.Monitor"
	// resolvedTime bounds the talk with it.
	resolvedTime = 5 * time.Second
	// maxCache bounds its answer in bytes; the cache holds at most 4096 entries a network.
	maxCache = 64 << 20
)

// entry is one name and what it stands for.
type entry struct {
	name, kind, target string
	address            netip.Addr
}

// collectNames lists the names of /etc/hosts and, where systemd-resolved runs, of its cache.
func collectNames(ctx context.Context, h host, o *object, emit func(*object)) error {
	handOver := func(e entry) {
		o.text(dnsHost, e.name)
		o.text(dnsName, e.name)
		o.text(dnsType, e.kind)
		o.text(dnsTarget, e.target)
		if e.address.Is4() {
			o.address(dnsIPv4, e.address)
		} else {
			o.address(dnsIPv6, e.address)
		}
		emit(o)
	}
	lines, errHosts := h.lines("/etc/hosts")
	for _, l := range lines {
		for _, e := range parseHosts(l) {
			handOver(e)
		}
	}
	reply, errCache := askResolved(ctx, h.path(resolvedSocket))
	if errors.Is(errCache, fs.ErrNotExist) {
		return errHosts
	}
	var entries []entry
	if errCache == nil {
		entries, errCache = parseCache(reply)
	}
	for _, e := range entries {
		handOver(e)
	}
	return errors.Join(errHosts, errCollector("read the cache of systemd-resolved", errCache))
}

// parseHosts reads a line of hosts(5).
func parseHosts(line string) []entry {
	line, _, _ = strings.Cut(line, "#")
	f := strings.Fields(line)
	if len(f) < 2 {
		return nil
	}
	addr, err := netip.ParseAddr(f[0])
	if err != nil {
		return nil
	}
	var entries []entry
	for _, name := range f[1:] {
		entries = append(entries, addressEntry(name, addr))
	}
	return entries
}

func addressEntry(name string, addr netip.Addr) entry {
	addr = addr.Unmap().WithZone("")
	kind := "AAAA"
	if addr.Is4() {
		kind = "A"
	}
	return entry{name: strings.TrimSuffix(name, "."), kind: kind, address: addr}
}

// askResolved calls io.systemd.Resolve.Monitor.DumpCache by varlink: JSON with a NUL at the end, both ways (varlink.org).
func askResolved(ctx context.Context, socket string) ([]byte, error) {
	ctx, stop := context.WithTimeout(ctx, resolvedTime)
	defer stop()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return nil, err
	}
	release := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer release()
	if _, err := c.Write([]byte(`{"method":"io.systemd.Resolve.Monitor.DumpCache","parameters":{}}` + "\x00")); err != nil {
		return nil, err
	}
	limited := &io.LimitedReader{R: c, N: maxCache}
	reply, err := bufio.NewReader(limited).ReadBytes(0)
	if limited.N == 0 {
		return nil, fmt.Errorf("the answer is larger than %d bytes", maxCache)
	}
	if err != nil {
		return nil, err
	}
	return reply[:len(reply)-1], nil
}

// cacheReply is what is read of the answer (systemd, src/resolve/resolved-dns-cache.c, dns_cache_dump_to_json).
type cacheReply struct {
	Error      string `json:"error"`
	Parameters struct {
		Dump []struct {
			Cache []struct {
				Key resourceKey `json:"key"`
				RRs []struct {
					RR struct {
						Key     resourceKey     `json:"key"`
						Address json.RawMessage `json:"address"`
						Name    string          `json:"name"`
					} `json:"rr"`
				} `json:"rrs"`
			} `json:"cache"`
		} `json:"dump"`
	} `json:"parameters"`
}

// resourceKey is a name and a type of RFC 1035.
type resourceKey struct {
	Type int    `json:"type"`
	Name string `json:"name"`
}

func parseCache(reply []byte) ([]entry, error) {
	var r cacheReply
	if err := json.Unmarshal(reply, &r); err != nil {
		return nil, errors.New("the answer is not as expected")
	}
	if r.Error != "" {
		return nil, fmt.Errorf("it answers %s", Text(r.Error))
	}
	var entries []entry
	for _, d := range r.Parameters.Dump {
		for _, c := range d.Cache {
			if len(c.RRs) == 0 {
				// It is cached that the name does not exist, which says all the same that it was asked for.
				entries = append(entries, entry{name: strings.TrimSuffix(c.Key.Name, "."), kind: typeName(c.Key.Type)})
			}
			for _, rr := range c.RRs {
				e := entry{
					name: strings.TrimSuffix(rr.RR.Key.Name, "."), kind: typeName(rr.RR.Key.Type), target: strings.TrimSuffix(rr.RR.Name, "."),
				}
				e.address, _ = netip.AddrFromSlice(octets(rr.RR.Address))
				entries = append(entries, e)
			}
		}
	}
	return entries, nil
}

// octets reads an address as an array of numbers.
func octets(raw json.RawMessage) []byte {
	var numbers []octet
	if json.Unmarshal(raw, &numbers) != nil {
		return nil
	}
	b := make([]byte, len(numbers))
	for i, n := range numbers {
		b[i] = byte(n)
	}
	return b
}

// octet is a number of an array; []byte would be read as base64.
type octet uint8

// typeName returns the name of a record type of RFC 1035 and its successors.
func typeName(t int) string {
	switch t {
	case 1:
		return "A"
	case 5:
		return "CNAME"
	case 12:
		return "PTR"
	case 15:
		return "MX"
	case 16:
		return "TXT"
	case 28:
		return "AAAA"
	case 33:
		return "SRV"
	case 65:
		return "HTTPS"
	default:
		return fmt.Sprintf("TYPE%d", t)
	}
}
