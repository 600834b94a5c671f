package sensor

import (
	"net/netip"
	"strings"
	"testing"
)

func TestIndicatorsAreFoundByAddressAndPrefix(t *testing.T) {
	t.Parallel()
	list, err := ParseIndicators("i", []byte("# a list\n203.0.113.7 # one\r\n\n198.51.100.0/24\n2001:db8::/32\n::ffff:203.0.113.9\n198.51.100.128/25\n"))
	if err != nil {
		t.Fatal(err)
	}
	in := newIndicators(list)
	for address, want := range map[string]string{
		"203.0.113.7": "203.0.113.7/32", "203.0.113.8": "", "203.0.113.9": "203.0.113.9/32", "198.51.100.1": "198.51.100.0/24",
		"198.51.100.200": "198.51.100.128/25", "::ffff:203.0.113.7": "203.0.113.7/32", "2001:db8::1%eth0": "2001:db8::/32", "2001:db9::1": "",
	} {
		got := ""
		if p, ok := in.find(netip.MustParseAddr(address)); ok {
			got = p.String()
		}
		if got != want {
			t.Errorf("%s is in %q, want %q", address, got, want)
		}
	}
}

func TestIndicatorsThatMeanTooMuchAreRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"x":                  "i:1:1: \"x\" is no address",
		"\n  1.2.3.4.5":      "i:2:3:",
		"0.0.0.0/0":          "every address",
		"::/0":               "every address",
		"127.0.0.1":          "this machine itself",
		"::1":                "this machine itself",
		"0.0.0.0":            "this machine itself",
		"203.0.113.7/24":     "203.0.113.0/24 is meant",
		"::ffff:1.2.3.0/120": "write it as an IPv4 prefix",
		"fe80::1%eth0":       "no address",
		"example.com":        "no address",
	} {
		if _, err := ParseIndicators("i", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q in it", text, err, want)
		}
	}
	if _, err := New(Config{Name: "s", Indicators: []netip.Prefix{{}}}); err == nil {
		t.Error("an entry that is none was taken")
	}
}

func FuzzParseIndicators(f *testing.F) {
	f.Add([]byte("203.0.113.7\n2001:db8::/32 # x\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := ParseIndicators("f", b)
		if err != nil {
			return
		}
		in := newIndicators(list)
		for _, p := range list {
			if _, ok := in.find(p.Addr()); !ok {
				t.Fatalf("%s is not found", p)
			}
		}
	})
}
