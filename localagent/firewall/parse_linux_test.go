package firewall

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
)

func TestNameServersAreReadFromResolvConf(t *testing.T) {
	t.Parallel()
	const conf = "# nameserver 192.0.2.9\nsearch corp.local\nnameserver 192.0.2.1\n nameserver\tfe80::1%eth0\nnameserver x\nnameserver ::ffff:192.0.2.2 # second\n"
	got, err := parseResolvConf(strings.NewReader(conf))
	want := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("fe80::1"), netip.MustParseAddr("192.0.2.2")}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("servers = %v, %v, want %v", got, err, want)
	}
}

func TestPrefixesSurviveTheFormOfTheKernel(t *testing.T) {
	t.Parallel()
	var els []nftables.SetElement
	var want []netip.Prefix
	for _, s := range []string{"203.0.113.0/25", "203.0.113.128/25", "203.0.112.0/24", "198.51.100.4/31"} {
		p := netip.MustParsePrefix(s)
		want = append(want, p)
		els = append(els, elements(p, 5)...)
	}
	slices.Reverse(els)
	var got []netip.Prefix
	for _, b := range blocksOf(els, true) {
		got = append(got, b.Prefix)
	}
	slices.SortFunc(got, netip.Prefix.Compare)
	slices.SortFunc(want, netip.Prefix.Compare)
	if !slices.Equal(got, want) {
		t.Errorf("prefixes = %v, want %v", got, want)
	}
	for _, b := range blocksOf(elements(netip.MustParsePrefix("2001:db8:1:2::/64"), 5), true) {
		if b.Prefix.String() != "2001:db8:1:2::/64" {
			t.Errorf("prefix = %v", b.Prefix)
		}
	}
}
