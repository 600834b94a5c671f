package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"github.com/tailscale/wf"
	"golang.org/x/sys/windows"
)

// The filters are read by calls of our own: wf.Session.Rules decodes the conditions of everybody's filters, fails as a whole when
// another product uses a type it does not know, and takes FWPM_FILTER0 for eight bytes longer than it is behind the action.

const (
	// readPage is how many filters are asked for at once; a machine has some thousand.
	readPage = 256
	// maxPages bounds the reading.
	maxPages = 1024
	// maxConditions bounds what is believed of one filter; ours have far less.
	maxConditions = 256
	maxTag        = 4 << 10
	authnWinNT    = 10 // RPC_C_AUTHN_WINNT
)

// Flags of FWPM_FILTER0 (fwpmtypes.h).
const (
	flagPersistent = 0x1
	flagHardAction = 0x8 // FWPM_FILTER_FLAG_CLEAR_ACTION_RIGHT
	flagDisabled   = 0x20
)

// Types of FWP_VALUE0 (fwptypes.h) that our filters use.
const (
	typeUint8, typeUint16, typeUint32, typeArray16, typeV4Mask, typeV6Mask, typeRange = 1, 2, 3, 11, 256, 257, 258
)

// rawFilter is FWPM_FILTER0 up to its action
// (learn.microsoft.com/windows/win32/api/fwpmtypes/ns-fwpmtypes-fwpm_filter0, 64 bits).
type rawFilter struct {
	key             windows.GUID
	name, _         *uint16 // the second is the description
	flags           uint32
	provider        *windows.GUID
	dataSize        uint32
	data            *byte
	layer, sublayer windows.GUID
	weight          rawValue
	count           uint32
	conditions      *rawCondition
	action          uint32
}

// What follows is the memory of a Windows of 64 bits: for another this must not build.
var _ [136]byte = [unsafe.Sizeof(rawFilter{})]byte{}

// rawValue is FWP_VALUE0: short values stand in it, long ones where it points to.
type rawValue struct {
	kind  uint32
	value uint64
}

// at returns the place of a long value. The platform owns it.
func (v *rawValue) at() unsafe.Pointer {
	return *(*unsafe.Pointer)(unsafe.Pointer(&v.value)) //nolint:gosec // a pointer of the platform
}

// rawCondition is FWPM_FILTER_CONDITION0.
type rawCondition struct {
	field windows.GUID
	match uint32
	value rawValue
}

// rawRange is FWP_RANGE0, rawV4 FWP_V4_ADDR_AND_MASK, rawV6 FWP_V6_ADDR_AND_MASK.
type (
	rawRange struct{ low, high rawValue }
	rawV4    struct{ addr, mask uint32 }
	rawV6    struct {
		addr [16]byte
		bits uint8
	}
)

// filterReader is a session with the filtering platform that only reads.
type filterReader struct {
	dll    *windows.LazyDLL
	handle windows.Handle
}

func openFilterReader() (*filterReader, error) {
	r := &filterReader{dll: windows.NewLazySystemDLL("fwpuclnt.dll")}
	if err := r.call("FwpmEngineOpen0", 0, authnWinNT, 0, 0, uintptr(unsafe.Pointer(&r.handle))); err != nil { //nolint:gosec // an out parameter
		return nil, err
	}
	return r, nil
}

func (r *filterReader) close() { _ = r.call("FwpmEngineClose0", uintptr(r.handle)) }

// call calls a function that returns 0 or an error code.
//
//go:uintptrescapes
func (r *filterReader) call(name string, args ...uintptr) error {
	proc := r.dll.NewProc(name)
	if err := proc.Find(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if code, _, _ := proc.Call(args...); code != 0 {
		return fmt.Errorf("%s: %w", name, windows.Errno(code))
	}
	return nil
}

// filters returns every filter of the provider. Those of others are not looked into.
func (r *filterReader) filters(provider windows.GUID) ([]*wf.Rule, error) {
	var enum windows.Handle
	if err := r.call("FwpmFilterCreateEnumHandle0", uintptr(r.handle), 0, uintptr(unsafe.Pointer(&enum))); err != nil { //nolint:gosec // an out parameter
		return nil, err
	}
	defer func() { _ = r.call("FwpmFilterDestroyEnumHandle0", uintptr(r.handle), uintptr(enum)) }()
	var out []*wf.Rule
	for range maxPages {
		n, err := r.page(enum, provider, &out)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return out, nil
		}
	}
	return nil, errors.New("the packet filter holds more filters than can be read")
}

func (r *filterReader) page(enum windows.Handle, provider windows.GUID, out *[]*wf.Rule) (int, error) {
	var (
		entries **rawFilter
		n       uint32
	)
	err := r.call("FwpmFilterEnum0", uintptr(r.handle), uintptr(enum), readPage,
		uintptr(unsafe.Pointer(&entries)), uintptr(unsafe.Pointer(&n))) //nolint:gosec // out parameters
	// An empty page is allocated, too.
	defer func() {
		if free := r.dll.NewProc("FwpmFreeMemory0"); entries != nil && free.Find() == nil {
			_, _, _ = free.Call(uintptr(unsafe.Pointer(&entries))) //nolint:gosec // the function takes the address of the pointer
		}
	}()
	if err != nil || n == 0 {
		return 0, err
	}
	for _, f := range unsafe.Slice(entries, n) { //nolint:gosec // the platform says how many there are
		if f == nil || f.provider == nil || *f.provider != provider {
			continue
		}
		rule, err := f.rule()
		if err != nil {
			return 0, fmt.Errorf("filter %s: %w", f.key, err)
		}
		*out = append(*out, rule)
	}
	return int(n), nil
}

// rule copies the filter out of the memory of the platform.
func (f *rawFilter) rule() (*wf.Rule, error) {
	r := &wf.Rule{
		ID: wf.RuleID(f.key), Layer: wf.LayerID(f.layer), Sublayer: wf.SublayerID(f.sublayer), Action: wf.Action(f.action),
		HardAction: f.flags&flagHardAction != 0, Persistent: f.flags&flagPersistent != 0, Disabled: f.flags&flagDisabled != 0,
		Name: windows.UTF16PtrToString(f.name),
	}
	if f.provider != nil {
		r.Provider = wf.ProviderID(*f.provider)
	}
	if f.dataSize > maxTag || f.count > maxConditions {
		return nil, fmt.Errorf("it has %d bytes of data and %d conditions, which none of ours has", f.dataSize, f.count)
	}
	if f.dataSize > 0 && f.data != nil {
		r.ProviderData = append([]byte(nil), unsafe.Slice(f.data, f.dataSize)...) //nolint:gosec // bounded above
	}
	if f.count == 0 || f.conditions == nil {
		return r, nil
	}
	conditions := unsafe.Slice(f.conditions, f.count) //nolint:gosec // bounded above
	for i := range conditions {
		c := &conditions[i]
		v, err := c.value.decode(isAddress(wf.FieldID(c.field)))
		if err != nil {
			return nil, fmt.Errorf("condition on %s: %w", wf.FieldID(c.field), err)
		}
		r.Conditions = append(r.Conditions, &wf.Match{Field: wf.FieldID(c.field), Op: wf.MatchType(c.match), Value: v})
	}
	return r, nil
}

func isAddress(f wf.FieldID) bool { return f == wf.FieldIPRemoteAddress }

// decode copies the value; addresses come as prefixes, whatever form the platform gave them.
func (v *rawValue) decode(address bool) (any, error) {
	short := unsafe.Pointer(&v.value) //nolint:gosec // a short value stands in the union itself
	switch {
	case v.kind == typeUint8:
		return *(*uint8)(short), nil
	case v.kind == typeUint16:
		return *(*uint16)(short), nil
	case v.kind == typeUint32 && address:
		return netip.PrefixFrom(addr4(*(*uint32)(short)), 32), nil
	case v.kind == typeUint32:
		return *(*uint32)(short), nil
	case v.value == 0:
		return nil, fmt.Errorf("a value of type %d is missing", v.kind)
	case v.kind == typeArray16 && address:
		return netip.PrefixFrom(netip.AddrFrom16(*(*[16]byte)(v.at())), 128), nil
	case v.kind == typeV4Mask:
		m := (*rawV4)(v.at())
		bits := 0
		for bits < 32 && m.mask&(1<<(31-bits)) != 0 {
			bits++
		}
		if bits < 32 && m.mask<<bits != 0 {
			return nil, fmt.Errorf("the mask %#x is no prefix", m.mask)
		}
		return netip.PrefixFrom(addr4(m.addr), bits), nil
	case v.kind == typeV6Mask:
		m := (*rawV6)(v.at())
		return netip.PrefixFrom(netip.AddrFrom16(m.addr), int(m.bits)), nil
	case v.kind == typeRange:
		r := (*rawRange)(v.at())
		if r.low.kind == typeRange || r.high.kind == typeRange {
			return nil, errors.New("a range of ranges")
		}
		low, err1 := r.low.decode(address)
		high, err2 := r.high.decode(address)
		return wf.Range{From: low, To: high}, errors.Join(err1, err2)
	default:
		return nil, fmt.Errorf("a value of type %d is none of ours", v.kind)
	}
}

// addr4 turns the platform's number into an address: it is in the order of the host.
func addr4(v uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, v)))
}
