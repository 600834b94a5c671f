package ioc

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

func FuzzTablesOfTheSystem(f *testing.F) {
	for _, s := range []string{
		"1 0 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n", "   0: 0100007F:1F90 00000000:0000 0A 0:0 00:0 0 1000 0 31337 1",
		"12 (a) R 1 (b)) S 7 1 1 0 -1 4194560 1 2 3 4 250 125 0 0 20 0 1 0 98765 1 2\n", "2001:db8::1 six # x", "[Service]\nExecStart=-/a \\\n b\n",
		`{"parameters":{"dump":[{"cache":[{"key":{"type":1,"name":"a"},"rrs":[{"rr":{"key":{"type":1,"name":"a"},"address":[1,2,3,4]}}]}]}]}}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if all, err := files.ParseMounts(strings.NewReader(s)); err == nil {
			mounts := files.TopMounts(all)
			for _, m := range mounts {
				if got := mountOf(mounts, m.Point); got.Point != m.Point {
					t.Errorf("%q lies on %q", m.Point, got.Point)
				}
			}
			chooseRoots(Config{Scope: ScopeAll}, mounts)
		}
		if k, ok := parseSocket(s); ok && (!k.local.Addr().IsValid() || !k.remote.Addr().IsValid()) {
			t.Errorf("%q was read as %+v", s, k)
		}
		var p program
		p.parseStat([]byte(s))
		if p.user < 0 || p.kernel < 0 {
			t.Errorf("%q was read as %+v", s, p)
		}
		for _, e := range parseHosts(s) {
			if e.name == "" && e.address == (netip.Addr{}) {
				t.Errorf("%q was read as %+v", s, e)
			}
		}
		var u unit
		u.parse(s)
		describeUnit(newObject(KindService), &u, nil)
		entries, _ := parseCache([]byte(s))
		for _, e := range entries {
			if e.kind == "" {
				t.Errorf("%q was read as %+v", s, e)
			}
		}
	})
}
