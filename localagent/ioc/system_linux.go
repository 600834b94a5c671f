package ioc

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// collectSystem describes this machine: one object.
func collectSystem(_ context.Context, h host, o *object, emit func(*object)) error {
	name, err := os.Hostname()
	short, domain, _ := strings.Cut(name, ".")
	o.text(systemMachine, name)
	o.text(systemHostname, name)
	if short != name {
		o.text(systemHostname, short)
	}
	release, errRelease := h.release()
	o.text(systemOS, release["PRETTY_NAME"])
	o.text(systemProduct, release["NAME"])
	o.text(systemBuild, release["VERSION_ID"])
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		o.text(systemPatch, unix.ByteSliceToString(u.Release[:]))
		o.text(systemArch, unix.ByteSliceToString(u.Machine[:]))
		if nis := unix.ByteSliceToString(u.Domainname[:]); domain == "" && nis != "(none)" {
			domain = nis
		}
	}
	o.text(systemDomain, domain)
	// Of this program, which is the system's wherever the agent is installed from a package.
	o.text(systemBits, strconv.Itoa(strconv.IntSize))
	o.text(systemArch, runtime.GOARCH)
	o.text(systemProcessor, h.processor())
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err == nil {
		unit := uint64(max(info.Unit, 1))
		o.number(systemMemory, int64(uint64(info.Totalram)*unit)) //nolint:gosec,unconvert // 32 bits wide on some machines
		o.number(systemFree, int64(uint64(info.Freeram)*unit))    //nolint:gosec,unconvert // see above
		o.span(systemUptime, time.Duration(info.Uptime)*time.Second)
	}
	o.moment(systemDate, h.now())
	errNet := networkInterfaces(o)
	emit(o)
	return errors.Join(err, missing(errRelease), errNet)
}

// release reads os-release(5).
func (h host) release() (map[string]string, error) {
	b, err := h.read("/etc/os-release", maxTable)
	if err != nil {
		b, err = h.read("/usr/lib/os-release", maxTable)
	}
	values := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			values[key] = strings.Trim(value, `"'`)
		}
	}
	return values, err
}

func (h host) processor() string {
	b, err := os.ReadFile(h.path("/proc/cpuinfo"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// networkInterfaces adds the names and addresses of the network interfaces.
func networkInterfaces(o *object) error {
	list, err := net.Interfaces()
	for _, i := range list {
		o.text(systemAdapter, i.Name)
		if len(i.HardwareAddr) > 0 && i.Flags&net.FlagLoopback == 0 {
			hardwareAddress(o, systemHardware, i.HardwareAddr)
		}
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil {
				o.address(systemAddress, prefix.Addr())
			}
		}
	}
	return err
}
