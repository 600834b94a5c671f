package firewall

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPeersAreUnderstoodOrRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		peer Peer
		want string
		err  string
	}{
		"an address":       {Peer{Host: "192.0.2.7"}, "192.0.2.7 tcp out", ""},
		"a mapped address": {Peer{Host: "::ffff:192.0.2.7", Protocol: ProtocolAny}, "192.0.2.7 any out", ""},
		"a zone":           {Peer{Host: "fe80::1%eth0"}, "fe80::1 tcp out", ""},
		"a prefix":         {Peer{Host: "192.0.2.0/24", Direction: DirectionBoth}, "192.0.2.0/24 tcp both", ""},
		"ports":            {Peer{Host: "2001:db8::/64", Ports: "14000-14010, 13000,14011,14005-14006", Protocol: ProtocolUDP, Direction: DirectionIn}, "2001:db8::/64 udp 13000,14000-14011 in", ""},
		"the last port":    {Peer{Host: "192.0.2.7", Ports: "65535,1-65534"}, "192.0.2.7 tcp 1-65535 out", ""},
		"port 0":           {Peer{Host: "192.0.2.7", Ports: "0"}, "", "neither a port"},
		"port 65536":       {Peer{Host: "192.0.2.7", Ports: "65536"}, "", "neither a port"},
		"a range backward": {Peer{Host: "192.0.2.7", Ports: "9-8"}, "", "neither a port"},
		"half a range":     {Peer{Host: "192.0.2.7", Ports: "9-"}, "", "neither a port"},
		"a port by name":   {Peer{Host: "192.0.2.7", Ports: "https"}, "", "neither a port"},
		"too many ranges":  {Peer{Host: "192.0.2.7", Ports: strings.Repeat("1,", maxPortRanges) + "3"}, "", "more than 32"},
		"nothing":          {Peer{}, "", "no host name"},
		"everything":       {Peer{Host: "0.0.0.0/0"}, "", "nothing would be cut off"},
		"everything IPv6":  {Peer{Host: "::/0", Ports: "443"}, "", "nothing would be cut off"},
		"host bits":        {Peer{Host: "192.0.2.7/24"}, "", "write 192.0.2.0/24"},
		"a bad prefix":     {Peer{Host: "192.0.2.0/33"}, "", "no prefix"},
		"multicast":        {Peer{Host: "224.0.0.1"}, "", "no peer"},
		"a last prefix":    {Peer{Host: "255.255.255.0/24"}, "", "no peers"},
		"unspecified":      {Peer{Host: "::"}, "", "no peer"},
		"half an address":  {Peer{Host: "192.0.2"}, "", "no host name"},
		"an injection":     {Peer{Host: "a;flush ruleset"}, "", "no host name"},
		"a long name":      {Peer{Host: strings.Repeat("a.", 127) + "aa"}, "", "no host name"},
		"a long label":     {Peer{Host: strings.Repeat("a", 64)}, "", "no host name"},
		"a wild card":      {Peer{Host: "*.corp.local"}, "", "no host name"},
		"a protocol":       {Peer{Host: "192.0.2.7", Protocol: "icmp"}, "", "none of tcp"},
		"a direction":      {Peer{Host: "192.0.2.7", Direction: "up"}, "", "none of in"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := c.peer.parse()
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error = %v, want one with %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := (pass{p.prefix, p.ports, p.protocol, p.direction}).describe(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	for _, name := range []string{"ksc01", "KSC01.corp.local", "a-b.example.", "_ldap._tcp.corp", "1a", "xn--80ak6aa92e.com"} {
		if p, err := (Peer{Host: name}).parse(); err != nil || p.prefix.IsValid() {
			t.Errorf("%s: %+v, %v, want a name", name, p, err)
		}
	}
}

func TestNewReportsEveryProblem(t *testing.T) {
	t.Parallel()
	_, err := New(Config{Never: make([]netip.Prefix, 1), Needs: []Peer{{Host: "ok.test"}, {Host: ""}}, Allow: []Peer{{Host: "10.0.0.1", Ports: "x"}}})
	for _, text := range []string{"never_block", "isolation.needs[1]: host", "isolation.allow[0]: ports"} {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("error = %v, want one with %q", err, text)
		}
	}
	if _, err := New(Config{Allow: make([]Peer, maxPeers+1)}); err == nil || !strings.Contains(err.Error(), "at most 512") {
		t.Errorf("error = %v", err)
	}
}

func TestAPassIsForTheRightPortOfTheRightSide(t *testing.T) {
	t.Parallel()
	prefix := netip.MustParsePrefix("192.0.2.0/24")
	for name, c := range map[string]struct {
		pass   pass
		remote string
		local  uint16
		want   bool
	}{
		"their service":              {pass{prefix, []portRange{{443, 443}}, ProtocolTCP, DirectionOut}, "192.0.2.7:443", 50000, true},
		"another service of theirs":  {pass{prefix, []portRange{{443, 443}}, ProtocolTCP, DirectionOut}, "192.0.2.7:80", 443, false},
		"our service":                {pass{prefix, []portRange{{22, 22}}, ProtocolTCP, DirectionIn}, "192.0.2.7:50000", 22, true},
		"their service, but inbound": {pass{prefix, []portRange{{22, 22}}, ProtocolTCP, DirectionIn}, "192.0.2.7:22", 50000, false},
		"both":                       {pass{prefix, []portRange{{22, 22}}, ProtocolAny, DirectionBoth}, "192.0.2.7:22", 50000, true},
		"all ports":                  {pass{prefix, nil, ProtocolAny, DirectionOut}, "192.0.2.7:1", 1, true},
		"UDP only":                   {pass{prefix, nil, ProtocolUDP, DirectionBoth}, "192.0.2.7:1", 1, false},
		"somebody else":              {pass{prefix, nil, ProtocolAny, DirectionBoth}, "192.0.3.7:1", 1, false},
	} {
		if got := c.pass.permits(netip.MustParseAddrPort(c.remote), c.local); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestAddressesOfANameAreKeptForAWhile(t *testing.T) {
	t.Parallel()
	var n names
	now := time.Now()
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("::ffff:192.0.2.2")
	n.learn("x", []netip.Addr{a, netip.IPv6Unspecified()}, now)
	n.learn("x", []netip.Addr{b}, now.Add(keepAddress/2))
	if got := n.of("x"); !slices.Equal(got, []netip.Addr{a, b.Unmap()}) {
		t.Errorf("addresses = %v", got)
	}
	n.learn("x", nil, now.Add(2*keepAddress))
	if got := n.of("x"); len(got) != 2 {
		t.Errorf("an unanswered question took addresses away: %v", got)
	}
	n.learn("x", []netip.Addr{b}, now.Add(keepAddress+time.Second))
	if got := n.of("x"); !slices.Equal(got, []netip.Addr{b.Unmap()}) {
		t.Errorf("addresses = %v, want the fresh one", got)
	}
	for i := range 2 * maxAddresses {
		n.learn("y", []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})}, now)
	}
	if got := n.of("y"); len(got) != maxAddresses {
		t.Errorf("%d addresses of one name, want %d", len(got), maxAddresses)
	}
}

func TestManyAddressesOfANameStayKnown(t *testing.T) {
	t.Parallel()
	now := time.Now()
	pool := func(first string, n int) (out []netip.Addr) {
		for a := netip.MustParseAddr(first); len(out) < n; a = a.Next() {
			out = append(out, a)
		}
		return out
	}
	var stable, rotating names
	next := netip.MustParseAddr("10.1.0.1")
	for minute := range 40 {
		at := now.Add(time.Duration(minute) * time.Minute)
		stable.learn("ksc", pool("10.0.0.1", maxAddresses), at)
		if got := len(stable.of("ksc")); got != maxAddresses {
			t.Errorf("minute %d: %d of the same %d addresses are kept", minute, got, maxAddresses)
		}
		answer := pool(next.String(), 8)
		next = answer[7].Next()
		rotating.learn("ksc", answer, at)
		for _, a := range answer {
			if !slices.Contains(rotating.of("ksc"), a) {
				t.Errorf("minute %d: %s was just answered and is not kept", minute, a)
			}
		}
	}
	long := pool("10.2.0.1", 3*maxAddresses)
	rotating.learn("ksc", long, now.Add(41*time.Minute))
	first := rotating.of("ksc")
	slices.Reverse(long)
	rotating.learn("ksc", long, now.Add(42*time.Minute))
	if !slices.Equal(first, rotating.of("ksc")) || len(first) != maxAddresses {
		t.Error("a long answer changes what is kept of it")
	}
}

func TestARecordEndsWhenItHasTo(t *testing.T) {
	t.Parallel()
	t0 := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	r := &record{Version: recordVersion, Since: t0, deadline: deadline{Armed: t0, Until: t0.Add(time.Hour)}}
	for now, want := range map[time.Duration]time.Duration{
		0: time.Hour, 20 * time.Minute: 40 * time.Minute, time.Hour: -1, 2 * time.Hour: -time.Hour,
		// Whoever turns the clock back does not make it longer.
		-24 * time.Hour: time.Hour,
	} {
		if got := r.left(moment{wall: t0.Add(now)}); got != want {
			t.Errorf("after %s: %s left, want %s", now, got, want)
		}
	}
	if got := (&record{Permanent: true}).left(moment{wall: t0}); got != 0 {
		t.Errorf("permanent: %s", got)
	}
}

func TestRecordsThatMakeNoSenseAreNotBelieved(t *testing.T) {
	t.Parallel()
	t0 := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	good := record{Version: recordVersion, Since: t0, deadline: deadline{Armed: t0, Until: t0.Add(time.Hour)}}
	for name, change := range map[string]func(r *record){
		"no end":              func(r *record) { r.Until = time.Time{} },
		"an end and none":     func(r *record) { r.Permanent = true },
		"another version":     func(r *record) { r.Version++ },
		"no start":            func(r *record) { r.Since = time.Time{} },
		"an end before start": func(r *record) { r.Until = t0.Add(-1) },
		"no end in sight":     func(r *record) { r.Until = t0.Add(maxIsolateFor + 1) },
	} {
		r := good
		change(&r)
		b, err := encodeRecord(&r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeRecord(b); !errors.Is(err, errRecord) {
			t.Errorf("%s: %v, want errRecord", name, err)
		}
	}
}

func FuzzRecord(f *testing.F) {
	t0 := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	b, err := encodeRecord(&record{
		Version: recordVersion, OrderID: "o1", Since: t0, deadline: deadline{Armed: t0, Until: t0.Add(time.Hour)},
		Names: map[string][]netip.Addr{"ksc": {netip.MustParseAddr("192.0.2.1")}}, Servers: []netip.Addr{netip.MustParseAddr("::1")},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"sha256":"","isolation":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s sealed
		if json.Unmarshal(b, &s) == nil {
			// The digest would keep the fuzzer out.
			var r record
			if json.Unmarshal(s.Record, &r) == nil {
				if sealedAgain, err := encodeRecord(&r); err == nil {
					b = sealedAgain
				}
			}
		}
		r, err := decodeRecord(b)
		if err != nil {
			if !errors.Is(err, errRecord) {
				t.Fatalf("error = %v, want errRecord", err)
			}
			return
		}
		again, err := encodeRecord(r)
		if err != nil {
			t.Fatal(err)
		}
		r2, err := decodeRecord(again)
		if err != nil {
			t.Fatalf("a record that was read cannot be written: %v", err)
		}
		if third, err := encodeRecord(r2); err != nil || !bytes.Equal(again, third) {
			t.Fatalf("%s, %v, want %s", third, err, again)
		}
		if left := r.left(moment{wall: t0}); left > maxIsolateFor {
			t.Fatalf("left = %s", left)
		}
	})
}

func FuzzPorts(f *testing.F) {
	for _, s := range []string{"1", "1-2,9", "65535", " 7 , 8", "0", "1-", "-1", "99999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ranges, err := parsePorts(s)
		if err != nil {
			return
		}
		for i, r := range ranges {
			if r.first == 0 || r.first > r.last || i > 0 && uint32(ranges[i-1].last)+1 >= uint32(r.first) {
				t.Fatalf("%q → %v: not in order or touching", s, ranges)
			}
		}
		if again, err := parsePorts(portsText(ranges)); err != nil || !slices.Equal(again, ranges) {
			t.Fatalf("%q → %v → %v, %v", s, ranges, again, err)
		}
	})
}
