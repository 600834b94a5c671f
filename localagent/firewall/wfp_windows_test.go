package firewall

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/tailscale/wf"
	"golang.org/x/sys/windows"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// packet is what a layer sees of one connection.
type packet struct {
	in       bool
	remote   string
	proto    wf.IPProto
	local    uint16
	port     uint16
	loopback bool
}

// decide does what the platform does inside of a sublayer: the heaviest filter all of whose conditions hold. Conditions on the same
// field are alternatives.
func decide(rules []*wf.Rule, p packet) wf.Action {
	addr := netip.MustParseAddr(p.remote)
	f := familyOf(addr)
	layer := f.connect
	if p.in {
		layer = f.accept
	}
	best, weight := wf.Action(0), int64(-1)
	for _, r := range rules {
		if r.Layer != layer || int64(r.Weight) <= weight {
			continue
		}
		fields := map[wf.FieldID]bool{}
		for _, m := range r.Conditions {
			fields[m.Field] = fields[m.Field] || p.meets(m, addr)
		}
		if !slices.Contains(valuesOf(fields), false) {
			best, weight = r.Action, int64(r.Weight)
		}
	}
	return best
}

func valuesOf(m map[wf.FieldID]bool) []bool {
	var out []bool
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

func (p packet) meets(m *wf.Match, addr netip.Addr) bool {
	number := func(n uint16) bool {
		if r, ok := m.Value.(wf.Range); ok {
			return r.From.(uint16) <= n && n <= r.To.(uint16)
		}
		return m.Value.(uint16) == n
	}
	switch m.Field {
	case wf.FieldFlags:
		return p.loopback
	case wf.FieldIPProtocol:
		return m.Value.(uint8) == uint8(p.proto)
	case wf.FieldIPLocalPort:
		return number(p.local)
	case wf.FieldIPRemotePort:
		return number(p.port)
	case wf.FieldIPRemoteAddress:
		if q, ok := m.Value.(netip.Prefix); ok {
			return q.Contains(addr)
		}
		return m.Value.(netip.Addr) == addr
	}
	return false
}

func TestAnIsolationLetsThroughWhatItHasToAndNothingElse(t *testing.T) {
	t.Parallel()
	const tcp, udp, icmp6 = wf.IPProtoTCP, wf.IPProtoUDP, wf.IPProtoICMPV6
	pfx := netip.MustParsePrefix
	passes := []pass{
		{pfx("192.0.2.7/32"), []portRange{{13000, 13000}, {14000, 14010}}, ProtocolTCP, DirectionOut},
		{pfx("2001:db8:5::/64"), nil, ProtocolAny, DirectionBoth},
		{pfx("198.51.100.1/32"), []portRange{{22, 22}}, ProtocolTCP, DirectionIn},
		{pfx("192.0.2.53/32"), []portRange{{53, 53}}, ProtocolAny, DirectionOut},
	}
	rules := isolationFilters(passes, true, false)
	for _, tt := range []struct {
		name string
		p    packet
		pass bool
	}{
		{"KSC", packet{remote: "192.0.2.7", proto: tcp, port: 13000}, true},
		{"KSC, range of ports", packet{remote: "192.0.2.7", proto: tcp, port: 14005}, true},
		{"KSC, another port", packet{remote: "192.0.2.7", proto: tcp, port: 445}, false},
		{"KSC, another protocol", packet{remote: "192.0.2.7", proto: udp, port: 13000}, false},
		{"KSC begins", packet{in: true, remote: "192.0.2.7", proto: tcp, port: 13000, local: 13000}, false},
		{"a stranger", packet{remote: "203.0.113.9", proto: tcp, port: 443}, false},
		{"a stranger begins", packet{in: true, remote: "203.0.113.9", proto: tcp, local: 3389}, false},
		{"a stranger over IPv6", packet{remote: "2001:db8:6::1", proto: tcp, port: 443}, false},
		{"an allowed network over IPv6", packet{remote: "2001:db8:5::9", proto: tcp, port: 443}, true},
		{"an allowed network begins", packet{in: true, remote: "2001:db8:5::9", proto: udp, local: 9999}, true},
		{"the jump host begins", packet{in: true, remote: "198.51.100.1", proto: tcp, local: 22}, true},
		{"to the jump host", packet{remote: "198.51.100.1", proto: tcp, port: 22}, false},
		{"DNS", packet{remote: "192.0.2.53", proto: udp, port: 53}, true},
		{"DNS elsewhere", packet{remote: "203.0.113.53", proto: udp, port: 53}, false},
		{"DHCP", packet{remote: "255.255.255.255", proto: udp, local: 68, port: 67}, true},
		{"DHCP answers", packet{in: true, remote: "192.0.2.1", proto: udp, local: 68, port: 67}, true},
		{"DHCPv6", packet{remote: "ff02::1:2", proto: udp, local: 546, port: 547}, true},
		{"a DHCP server here", packet{in: true, remote: "192.0.2.1", proto: udp, local: 67, port: 68}, false},
		{"neighbour solicitation", packet{remote: "ff02::1:ff00:1", proto: icmp6, local: 135}, true},
		{"router advertisement", packet{in: true, remote: "fe80::1", proto: icmp6, local: 134}, true},
		{"echo over IPv6", packet{remote: "2001:db8:6::1", proto: icmp6, local: 128}, false},
		{"echo", packet{remote: "203.0.113.9", proto: wf.IPProtoICMP, local: 8}, false},
		{"NTP", packet{remote: "203.0.113.9", proto: udp, port: 123}, false},
		{"loopback", packet{remote: "127.0.0.1", proto: tcp, port: 80, loopback: true}, true},
		{"loopback over IPv6", packet{in: true, remote: "::1", proto: tcp, local: 80, loopback: true}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			want := wf.ActionBlock
			if tt.pass {
				want = wf.ActionPermit
			}
			if got := decide(rules, tt.p); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	for _, r := range slices.Concat(rules, blockFilters(pfx("203.0.113.9/32"))) {
		// What we block nobody may open; what we let through others may still block.
		if r.HardAction != (r.Action == wf.ActionBlock) || !r.Persistent {
			t.Errorf("filter %+v", r)
		}
	}
	if got := decide(isolationFilters(nil, false, true), packet{remote: "203.0.113.9", proto: udp, port: 123}); got != wf.ActionPermit {
		t.Error("NTP was wished and is blocked")
	}
	if got := decide(isolationFilters(nil, false, true), packet{remote: "255.255.255.255", proto: udp, local: 68, port: 67}); got != wf.ActionBlock {
		t.Error("DHCP was not wished and passes")
	}
	for _, f := range families() {
		if !slices.ContainsFunc(rules, func(r *wf.Rule) bool {
			return r.Layer == f.forward && r.Action == wf.ActionBlock && len(r.Conditions) == 0
		}) {
			t.Errorf("nothing keeps this machine from forwarding (IPv6 %v)", f.v6)
		}
	}
}

func TestABlockIsAboutOneAddressInBothDirections(t *testing.T) {
	t.Parallel()
	rules := blockFilters(netip.MustParsePrefix("203.0.113.0/24"))
	for _, in := range []bool{false, true} {
		if got := decide(rules, packet{in: in, remote: "203.0.113.9", proto: wf.IPProtoUDP}); got != wf.ActionBlock {
			t.Errorf("in %v: %v", in, got)
		}
		if got := decide(rules, packet{in: in, remote: "203.0.114.9", proto: wf.IPProtoUDP}); got != 0 {
			t.Errorf("a neighbour, in %v: %v", in, got)
		}
	}
}

// TestFiltersAreReadFromTheMemoryOfThePlatform lays a filter out as fwpmtypes.h does (offsets: mingw-w64's header) and reads it.
func TestFiltersAreReadFromTheMemoryOfThePlatform(t *testing.T) {
	t.Parallel()
	var f rawFilter
	for _, o := range []struct {
		name      string
		got, want uintptr
	}{
		{"flags", unsafe.Offsetof(f.flags), 32},
		{"providerKey", unsafe.Offsetof(f.provider), 40},
		{"providerData", unsafe.Offsetof(f.dataSize), 48},
		{"layerKey", unsafe.Offsetof(f.layer), 64},
		{"subLayerKey", unsafe.Offsetof(f.sublayer), 80},
		{"weight", unsafe.Offsetof(f.weight), 96},
		{"numFilterConditions", unsafe.Offsetof(f.count), 112},
		{"filterCondition", unsafe.Offsetof(f.conditions), 120},
		{"action", unsafe.Offsetof(f.action), 128},
		{"a condition", unsafe.Sizeof(rawCondition{}), 40},
		{"a range", unsafe.Sizeof(rawRange{}), 32},
	} {
		if o.got != o.want {
			t.Errorf("%s is at %d, the platform has it at %d", o.name, o.got, o.want)
		}
	}
	var pins runtime.Pinner
	defer pins.Unpin()
	short := func(kind uint32, v uint64) rawValue { return rawValue{kind, v} }
	long := func(kind uint32, p any, at unsafe.Pointer) rawValue {
		pins.Pin(p)
		return rawValue{kind, uint64(uintptr(at))}
	}
	provider := windows.GUID(ourProvider())
	name, _ := windows.UTF16PtrFromString("n")
	data := []byte(`{"batch":"b"}`)
	v6 := &rawV6{netip.MustParseAddr("2001:db8::").As16(), 32}
	v4 := &rawV4{0xcb007100, 0xffffff00}
	single := new(netip.MustParseAddr("2001:db8::7").As16())
	ports := &rawRange{short(typeUint16, 14000), short(typeUint16, 14010)}
	conds := []rawCondition{
		{windows.GUID(wf.FieldIPRemoteAddress), 0, short(typeUint32, 0xc0000207)},
		{windows.GUID(wf.FieldIPRemoteAddress), 0, long(typeV4Mask, v4, unsafe.Pointer(v4))},
		{windows.GUID(wf.FieldIPRemoteAddress), 0, long(typeV6Mask, v6, unsafe.Pointer(v6))},
		{windows.GUID(wf.FieldIPRemoteAddress), 0, long(typeArray16, single, unsafe.Pointer(single))},
		{windows.GUID(wf.FieldIPProtocol), 0, short(typeUint8, 6)},
		{windows.GUID(wf.FieldFlags), 6, short(typeUint32, 1)},
		{windows.GUID(wf.FieldIPRemotePort), 5, long(typeRange, ports, unsafe.Pointer(ports))},
	}
	f = rawFilter{
		key: windows.GUID{Data1: 7}, name: name, flags: flagPersistent | flagHardAction, provider: &provider, dataSize: uint32(len(data)), data: &data[0],
		layer: windows.GUID(wf.LayerALEAuthConnectV4), sublayer: windows.GUID(blockSublayer()), count: uint32(len(conds)), conditions: &conds[0],
		action: uint32(wf.ActionBlock),
	}
	got, err := f.rule()
	if err != nil {
		t.Fatal(err)
	}
	want := []*wf.Match{
		{Field: wf.FieldIPRemoteAddress, Value: netip.MustParsePrefix("192.0.2.7/32")},
		{Field: wf.FieldIPRemoteAddress, Value: netip.MustParsePrefix("203.0.113.0/24")},
		{Field: wf.FieldIPRemoteAddress, Value: netip.MustParsePrefix("2001:db8::/32")},
		{Field: wf.FieldIPRemoteAddress, Value: netip.MustParsePrefix("2001:db8::7/128")},
		{Field: wf.FieldIPProtocol, Value: uint8(6)},
		{Field: wf.FieldFlags, Op: wf.MatchTypeFlagsAllSet, Value: uint32(1)},
		{Field: wf.FieldIPRemotePort, Op: wf.MatchTypeRange, Value: wf.Range{From: uint16(14000), To: uint16(14010)}},
	}
	if !sameConditions(want, got.Conditions) || got.Action != wf.ActionBlock || !got.Persistent || !got.HardAction || got.Disabled ||
		got.Sublayer != blockSublayer() || string(got.ProviderData) != string(data) {
		t.Errorf("got %+v %v", got, got.Conditions)
	}
	for name, spoil := range map[string]func(*rawFilter){
		"a type that is none of ours": func(f *rawFilter) { f.conditions = &rawCondition{value: short(13, 1)}; f.count = 1 },
		"a missing value":             func(f *rawFilter) { f.conditions = &rawCondition{value: rawValue{kind: typeV4Mask}}; f.count = 1 },
		"a mask with holes": func(f *rawFilter) {
			mask := &rawV4{1, 0xff00ff00}
			f.conditions, f.count = &rawCondition{value: long(typeV4Mask, mask, unsafe.Pointer(mask))}, 1
		},
		"endless conditions": func(f *rawFilter) { f.count = maxConditions + 1 },
		"endless data":       func(f *rawFilter) { f.dataSize = maxTag + 1 },
	} {
		bad := f
		spoil(&bad)
		if _, err := bad.rule(); err == nil {
			t.Errorf("%s was believed", name)
		}
	}
}

func TestAPlannedEndIsReadBackAsItStandsInTheFolder(t *testing.T) {
	t.Parallel()
	s := taskScheduler{tasks: t.TempDir(), program: `C:\Program Files\edr & bridge\edr-bridge.exe`}
	at := time.Date(2026, 11, 21, 4, 0, 0, 0, time.UTC)
	if due, err := s.due(); err != nil || !due.IsZero() {
		t.Errorf("no task: %s, %v", due, err)
	}
	for name, spoil := range map[string]func(*taskXML){
		"":                          func(*taskXML) {},
		"another program":           func(d *taskXML) { d.Actions.Exec.Command = `C:\evil.exe` },
		"other arguments":           func(d *taskXML) { d.Actions.Exec.Arguments = "service uninstall" },
		"another account":           func(d *taskXML) { d.Principal.User = "S-1-5-19" },
		"a trigger that is off":     func(d *taskXML) { d.Time.Enabled = false },
		"no trigger":                func(d *taskXML) { d.Time = nil },
		"a task that is off":        func(d *taskXML) { d.Settings.Enabled = false },
		"a time that is no time":    func(d *taskXML) { d.Time.Start = "tomorrow" },
		"a time without its offset": func(d *taskXML) { d.Time.Start = "2026-11-21T04:00:00" },
	} {
		doc := s.task(at)
		spoil(doc)
		raw, err := encodeTask(doc)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.tasks, expiryTask), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		due, err := s.due()
		if ok := err == nil && due.Equal(at); ok != (name == "") {
			t.Errorf("%s: due %s, %v", name, due, err)
		}
	}
}

// TestATaskSchedulerThatKeepsNothingIsNotBelieved runs wine's, which takes a task and forgets its time and program.
func TestATaskSchedulerThatKeepsNothingIsNotBelieved(t *testing.T) {
	needWine(t)
	s, err := systemScheduler()
	if err != nil {
		t.Fatal(err)
	}
	// The program of the test lies where its user may replace it.
	if err := s.set(t.Context(), time.Now().Add(time.Hour)); !errors.Is(err, files.ErrOthers) {
		t.Errorf("set: %v, want that somebody could replace the program", err)
	}
	tasks, ok := s.(taskScheduler)
	if !ok {
		t.Fatalf("%T", s)
	}
	tasks.judge = func(string) error { return nil }
	if err := tasks.set(t.Context(), time.Now().Add(time.Hour)); err == nil || !strings.Contains(err.Error(), "did not read back") {
		t.Errorf("set: %v", err)
	}
	if due, err := tasks.due(); err != nil || !due.IsZero() {
		t.Errorf("a broken task was left behind: %s, %v", due, err)
	}
	if err := s.clear(t.Context()); err != nil {
		t.Errorf("clear: %v", err)
	}
	tasks.tool = filepath.Join(filepath.Dir(tasks.tool), "netsh.exe") // exits 0 here and does nothing
	if err := tasks.set(t.Context(), time.Now()); err == nil {
		t.Error("a tool that only says yes was believed")
	}
}

func TestOwnConnectionsAndAddressesAreSeen(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	flows, err := tcpFlows(false)
	if err != nil {
		t.Fatal(err)
	}
	want := netip.MustParseAddrPort(c.LocalAddr().String())
	if !slices.ContainsFunc(flows, func(f flow) bool { return f.local == want && f.remote == netip.MustParseAddrPort(l.Addr().String()) }) {
		t.Errorf("%s is not among %d connections", want, len(flows))
	}
	if _, err := tcpFlows(true); err != nil {
		t.Error(err)
	}
	live, err := lifelines()
	if err != nil || !slices.ContainsFunc(live, func(n taboo) bool { return n.prefix.Addr() == netip.MustParseAddr("127.0.0.1") }) {
		t.Errorf("lifelines %v, %v", live, err)
	}
}

func FuzzTaskIsReadWithoutHarm(f *testing.F) {
	doc, err := encodeTask(taskScheduler{program: `C:\x.exe`}.task(time.Unix(0, 0)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(doc)
	f.Add([]byte("<Task>"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		if got, err := decodeTask(doc); err == nil && got == nil {
			t.Error("neither a task nor an error")
		}
	})
}

func FuzzTableOfConnectionsIsReadWithoutHarm(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 5, 0, 0, 0}, true)
	f.Fuzz(func(t *testing.T, table []byte, v6 bool) {
		if n := len(decodeFlows(table, v6)); n > len(table)/tcpRowSize {
			t.Errorf("%d connections in %d bytes", n, len(table))
		}
	})
}

// TestWhatAFunctionOfWindowsFillsInIsNotLeftBehindByAGrowingStack calls from every depth of a fresh stack: at some of them it grows, and so
// moves, between taking the address and the call.
func TestWhatAFunctionOfWindowsFillsInIsNotLeftBehindByAGrowingStack(t *testing.T) {
	t.Parallel()
	r := &filterReader{dll: windows.NewLazySystemDLL("kernel32.dll")}
	for depth := range 200 {
		filled := make(chan bool)
		go func() { filled <- fillsIn(r, depth) }()
		if !<-filled {
			t.Fatalf("at depth %d the time of the system was written to memory nobody reads", depth)
		}
	}
}

//go:noinline
func fillsIn(r *filterReader, depth int) bool {
	if depth > 0 {
		return fillsIn(r, depth-1)
	}
	var now windows.Filetime
	_ = r.call("GetSystemTimeAsFileTime", uintptr(unsafe.Pointer(&now))) // it returns nothing
	return now.HighDateTime != 0
}
