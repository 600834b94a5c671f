package firewall

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/windows"
)

const (
	// tcpTableAll is TCP_TABLE_OWNER_PID_ALL; the states and the order of MIB_TCPROW are those of tcpmib.h.
	tcpTableAll                         = 5
	tcpListen, tcpTimeWait, tcpDeleteMe = 2, 11, 12
	tcpRowSize, tcpRowSize6             = 24, 56
	tableTries                          = 5
	maxTable                            = 16 << 20
)

// errOnlyIPv4 says what Windows offers nobody.
var errOnlyIPv4 = errors.New("windows cannot end a connection of IPv6: its packets are dropped from the next one on")

// flow is one TCP connection of this machine.
type flow struct {
	local, remote netip.AddrPort
	state         uint32
	// row is MIB_TCPROW_OWNER_PID.
	row []byte
}

// cutFlows ends the IPv4 connections of this machine that forbidden names and returns how many it ended. Those of IPv6 it cannot end:
// the filtering platform looks at every existing flow again when filters change and drops what they forbid
// (learn.microsoft.com/windows/win32/fwp/ale-re-authorization).
func cutFlows(ctx context.Context, forbidden func(flow) bool) (int, error) {
	cut := 0
	var errs []error
	for _, v6 := range []bool{false, true} {
		flows, err := tcpFlows(v6)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, f := range flows {
			if cause := context.Cause(ctx); cause != nil {
				return cut, errors.Join(append(errs, cause)...)
			}
			switch {
			case f.state == tcpListen, f.state == tcpTimeWait, f.remote.Addr().IsLoopback(), f.remote.Addr().IsUnspecified(), !forbidden(f):
			case v6:
				errs = append(errs, errOnlyIPv4)
			default:
				if err := f.end(); err != nil {
					errs = append(errs, fmt.Errorf("end the connection of port %d: %w", f.local.Port(), err))
					continue
				}
				cut++
			}
		}
	}
	return cut, errors.Join(errs...)
}

// end deletes the connection (learn.microsoft.com/windows/win32/api/iphlpapi/nf-iphlpapi-settcpentry).
func (f *flow) end() error {
	proc := windows.NewLazySystemDLL("iphlpapi.dll").NewProc("SetTcpEntry")
	if err := proc.Find(); err != nil {
		return err
	}
	row := append([]byte(nil), f.row[:20]...) // MIB_TCPROW is the row without the process
	binary.LittleEndian.PutUint32(row, tcpDeleteMe)
	if code, _, _ := proc.Call(uintptr(unsafe.Pointer(&row[0]))); code != 0 { //nolint:gosec // the function reads the row
		return windows.Errno(code)
	}
	return nil
}

// tcpFlows lists the TCP connections of one family.
func tcpFlows(v6 bool) ([]flow, error) {
	proc := windows.NewLazySystemDLL("iphlpapi.dll").NewProc("GetExtendedTcpTable")
	if err := proc.Find(); err != nil {
		return nil, fmt.Errorf("list connections: %w", err)
	}
	family := uintptr(windows.AF_INET)
	if v6 {
		family = windows.AF_INET6
	}
	size := uint32(64 << 10)
	for range tableTries {
		buf := make([]byte, size)
		code, _, _ := proc.Call(uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&size)), 0, family, tcpTableAll, 0) //nolint:gosec // out parameters
		switch {
		case code == 0:
			return decodeFlows(buf, v6), nil
		case !errors.Is(windows.Errno(code), windows.ERROR_INSUFFICIENT_BUFFER) || size > maxTable:
			return nil, fmt.Errorf("list connections: %w", windows.Errno(code))
		}
	}
	return nil, errors.New("list connections: they change faster than they can be read")
}

// decodeFlows reads MIB_TCPTABLE_OWNER_PID or MIB_TCP6TABLE_OWNER_PID (iprtrmib.h). Ports are in network order.
func decodeFlows(table []byte, v6 bool) []flow {
	if len(table) < 4 {
		return nil
	}
	n, rest := binary.LittleEndian.Uint32(table), table[4:]
	size := tcpRowSize
	if v6 {
		size = tcpRowSize6
	}
	var out []flow
	for ; n > 0 && len(rest) >= size; n-- {
		row := rest[:size:size]
		rest = rest[size:]
		if v6 {
			out = append(out, flow{
				local:  netip.AddrPortFrom(netip.AddrFrom16([16]byte(row[0:16])).Unmap(), binary.BigEndian.Uint16(row[20:])),
				remote: netip.AddrPortFrom(netip.AddrFrom16([16]byte(row[24:40])).Unmap(), binary.BigEndian.Uint16(row[44:])),
				state:  binary.LittleEndian.Uint32(row[48:]), row: row,
			})
			continue
		}
		out = append(out, flow{
			local:  netip.AddrPortFrom(netip.AddrFrom4([4]byte(row[4:8])), binary.BigEndian.Uint16(row[8:])),
			remote: netip.AddrPortFrom(netip.AddrFrom4([4]byte(row[12:16])), binary.BigEndian.Uint16(row[16:])),
			state:  binary.LittleEndian.Uint32(row), row: row,
		})
	}
	return out
}
