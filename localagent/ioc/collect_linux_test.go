package ioc

import (
	"encoding/binary"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

// startProgram runs an own copy of sleep.
func startProgram(t *testing.T, as string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(agenttest.Program(t, "sleep", as), "300")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

func TestProcessesAreCollectedWithWhatTheKernelKnows(t *testing.T) {
	t.Parallel()
	before := time.Now().Add(-2 * time.Second)
	cmd := startProgram(t, "ioc evil (1) ")
	r := find(t, collected(t, KindProcess, host{}), "pid", strconv.Itoa(cmd.Process.Pid))
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]string{
		"name": "ioc evil (1) ", "path": cmd.Path, "arguments": cmd.Path + " 300", "parentpid": strconv.Itoa(os.Getpid()), "Username": me.Username, "SecurityID": me.Uid,
	} {
		if got := r.Fields[field]; len(got) == 0 || string(got[0]) != want {
			t.Errorf("%s is %q, want %q", field, got, want)
		}
	}
	start, err := time.Parse(time.RFC3339Nano, string(r.Fields["startTime"][0]))
	if err != nil || start.Before(before) || start.After(time.Now().Add(2*time.Second)) {
		t.Errorf("started at %v, which is not between %v and now (%v)", start, before, err)
	}
	// A program that is gone keeps its path.
	if err := os.Remove(cmd.Path); err != nil {
		t.Fatal(err)
	}
	r = find(t, collected(t, KindProcess, host{}), "pid", strconv.Itoa(cmd.Process.Pid))
	if got := r.Fields["path"]; !slices.Equal(got, []Text{Text(cmd.Path)}) {
		t.Errorf("path %q", got)
	}
	q, _ := query(t, v10("d", all(items("ProcessItem/path is "+cmd.Path, "ProcessItem/arguments contains  300"))))
	res := scanned(t, q, Config{}, t.TempDir())
	if len(res.Matches) != 1 || len(res.Matches[0].Records) != 1 || len(res.Files) != 0 {
		t.Errorf("matches %+v, files %v", res.Matches, res.Files)
	}
}

func TestStatLinesAreReadFromTheLastParenthesis(t *testing.T) {
	t.Parallel()
	good := "12 (a) R 1 (b)) S 7 1 1 0 -1 4194560 1 2 3 4 250 125 0 0 20 0 1 0 98765 1 2\n"
	var p program
	if !p.parseStat([]byte(good)) || p.comm != "a) R 1 (b)" || p.parent != 7 || p.user != 2500*time.Millisecond || p.kernel != 1250*time.Millisecond || p.start != 98765 {
		t.Errorf("%+v", p)
	}
	for _, bad := range []string{"", "12", "12 (a", "12 a) S 7", "12 (a) S 7", strings.Replace(good, " 7 ", " x ", 1), ")("} {
		if p.parseStat([]byte(bad)) {
			t.Errorf("%q was read as %+v", bad, p)
		}
	}
}

func TestSocketsAreCollectedWithTheirHolders(t *testing.T) {
	t.Parallel()
	var list net.ListenConfig
	tcp, err := list.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := list.ListenPacket(t.Context(), "udp6", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	client, err := net.Dial("tcp4", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	port := strconv.Itoa(tcp.Addr().(*net.TCPAddr).Port)
	own := strconv.Itoa(client.LocalAddr().(*net.TCPAddr).Port)
	records := collected(t, KindPort, host{})
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		record *Record
		want   map[string]string
	}{
		"listener": {find(t, records, "localPort", port), map[string]string{"localIP": "127.0.0.1", "protocol": "TCP", "state": "LISTENING", "remotePort": ""}},
		"client":   {find(t, records, "localPort", own), map[string]string{"remoteIP": "127.0.0.1", "remotePort": port, "state": "ESTABLISHED"}},
		"udp":      {find(t, records, "localPort", strconv.Itoa(udp.LocalAddr().(*net.UDPAddr).Port)), map[string]string{"localIP": "::1", "protocol": "UDP", "state": ""}},
	} {
		c.want["pid"], c.want["path"], c.want["process"] = strconv.Itoa(os.Getpid()), exe, filepath.Base(exe)
		for field, want := range c.want {
			if got := c.record.Fields[field]; want == "" && len(got) > 0 || want != "" && (len(got) == 0 || string(got[0]) != want) {
				t.Errorf("%s: %s is %q, want %q", name, field, got, want)
			}
		}
	}
}

func TestSocketsOfOtherNetworkNamespacesAreCollected(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWPID|unix.CLONE_NEWNS|unix.CLONE_NEWNET) {
		return
	}
	// A process in a namespace below this one, with a listener nobody else has.
	shell := exec.Command("unshare", "-n", "sh", "-c", `ip link set lo up 2>/dev/null; exec python3 -c '
import socket, time
s = socket.socket(); s.bind(("0.0.0.0", 45671)); s.listen(); print("ready", flush=True); time.sleep(300)'`)
	out, err := shell.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := shell.Start(); err != nil {
		t.Skipf("no unshare: %v", err)
	}
	defer func() {
		_ = shell.Process.Kill()
		_ = shell.Wait()
	}()
	if n, _ := out.Read(make([]byte, 6)); n == 0 {
		t.Skip("no python3")
	}
	r := find(t, collected(t, KindPort, host{}), "localPort", "45671")
	if got := r.Fields["pid"]; len(got) != 1 || string(got[0]) != strconv.Itoa(shell.Process.Pid) {
		t.Errorf("held by %v, want %d", got, shell.Process.Pid)
	}
}

func TestSocketLinesAreReadAsTheKernelWritesThem(t *testing.T) {
	t.Parallel()
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the samples are of a little-endian machine")
	}
	for _, c := range []struct{ line, local, remote, inode string }{
		{"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 31337 1 0000000000000000 100 0 0 10 0", "127.0.0.1:8080", "0.0.0.0:0", "31337"},
		{"   1: 0000000000000000FFFF00000100007F:0016 B80D0120000000000000000007000000:01BB 01 0:0 0:0 0 0 0 7 1", "127.0.0.1:22", "[2001:db8::7]:443", "7"},
	} {
		s, ok := parseSocket(c.line)
		if !ok || s.local.String() != c.local || s.remote.String() != c.remote || s.inode != c.inode {
			t.Errorf("%+v, %v", s, ok)
		}
	}
	for _, bad := range []string{"", "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode", "0: 01:1 02:2 0A 0 0 0 0 0 1", "0: 0100007F 0100007F:1 0A 0 0 0 0 0 1", "0: 0100007G:1 0100007F:1 0A 0 0 0 0 0 1"} {
		if s, ok := parseSocket(bad); ok {
			t.Errorf("%q was read as %+v", bad, s)
		}
	}
}

func TestNamesOfTheHostsFileAndTheResolverAreCollected(t *testing.T) {
	t.Parallel()
	// The path of a socket has room for 107 bytes (unix(7)).
	root, err := os.MkdirTemp("", "ioc") //nolint:usetesting // t.TempDir is too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	write(t, root+"/etc/hosts", "# comment\n127.0.0.1 localhost me.example. # more\n2001:db8::1\tsix\nnonsense here\n10.0.0.1\n")
	write(t, root+"/run/systemd/resolve/x", "")
	l, err := net.Listen("unix", root+resolvedSocket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	asked := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b := make([]byte, 4096)
		n, _ := c.Read(b)
		asked <- string(b[:n])
		_, _ = c.Write([]byte(`{"parameters":{"dump":[{"protocol":"dns","cache":[
			{"key":{"class":1,"type":1,"name":"evil.example"},"rrs":[{"rr":{"key":{"class":1,"type":1,"name":"evil.example"},"address":[203,0,113,9]},"raw":"AA=="}],"until":1},
			{"key":{"class":1,"type":5,"name":"www.example"},"rrs":[{"rr":{"key":{"class":1,"type":5,"name":"www.example"},"name":"cdn.example."},"raw":""}]},
			{"key":{"class":1,"type":28,"name":"gone.example"},"type":"nxdomain","until":1}]}]}}` + "\x00"))
	}()
	records := collected(t, KindDNS, host{root: root})
	if got := <-asked; got != `{"method":"io.systemd.Resolve.Monitor.DumpCache","parameters":{}}`+"\x00" {
		t.Errorf("asked %q", got)
	}
	if len(records) != 6 {
		t.Errorf("%d records, want 6", len(records))
	}
	for name, want := range map[string]string{
		"localhost": "A 127.0.0.1", "me.example": "A 127.0.0.1", "six": "AAAA 2001:db8::1", "evil.example": "A 203.0.113.9", "www.example": "CNAME cdn.example", "gone.example": "AAAA ",
	} {
		f := find(t, records, "Host", name).Fields
		var got strings.Builder
		got.WriteString(string(f["RecordType"][0]) + " ")
		for _, field := range []string{"RecordData/IPv4Address", "RecordData/IPv6Address", "RecordData/Host"} {
			for _, v := range f[field] {
				got.WriteString(string(v))
			}
		}
		if got.String() != want {
			t.Errorf("%s is %q, want %q", name, got.String(), want)
		}
	}
	// Without a resolver only the file is there; with a broken one that is said.
	if _, err := parseCache([]byte(`{"error":"io.systemd.System"}`)); err == nil || !strings.Contains(err.Error(), "io.systemd.System") {
		t.Errorf("error %v", err)
	}
	if got := len(collected(t, KindDNS, host{root: root + "/none"})); got != 0 {
		t.Errorf("%d names of nothing", got)
	}
}

func TestNeighboursOfBothFamiliesAreCollected(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "ioc0"}, PeerName: "ioc1"}
	if err := netlink.LinkAdd(link); err != nil {
		t.Skipf("no veth interfaces here: %v", err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	mac, _ := net.ParseMAC("02:00:5e:10:00:ab")
	for _, ip := range []string{"192.0.2.7", "2001:db8::7"} {
		err := netlink.NeighAdd(&netlink.Neigh{LinkIndex: link.Attrs().Index, State: unix.NUD_PERMANENT, IP: net.ParseIP(ip), HardwareAddr: mac})
		if err != nil {
			t.Fatal(err)
		}
	}
	records := collected(t, KindARP, host{})
	for field, ip := range map[string]string{"IPv4Address": "192.0.2.7", "IPv6Address": "2001:db8::7"} {
		f := find(t, records, field, ip).Fields
		if !slices.Equal(f["PhysicalAddress"], []Text{"02:00:5e:10:00:ab", "02-00-5e-10-00-ab"}) || f["Interface"][0] != "ioc0" || f["CacheType"][0] != "static" {
			t.Errorf("%v", f)
		}
	}
	q, _ := query(t, v10("d", all(items("ArpEntryItem/PhysicalAddress is 02-00-5E-10-00-AB", "ArpEntryItem/IPv4Address is 192.0.2.0/24"))))
	if r := scanned(t, q, Config{}, t.TempDir()); len(r.Matches) != 1 || len(r.Matches[0].Records) != 1 {
		t.Errorf("matches %+v", r.Matches)
	}
}

func TestThisMachineAndItsVolumesAreDescribed(t *testing.T) {
	t.Parallel()
	system := collected(t, KindSystem, host{})
	name, _ := os.Hostname()
	if len(system) != 1 || string(system[0].Fields["hostname"][0]) != name || len(system[0].Fields["OS"]) == 0 || len(system[0].Fields["networkArray/networkInfo/ipArray/ipInfo/ipAddress"]) == 0 {
		t.Errorf("system %+v", system)
	}
	root := find(t, collected(t, KindVolume, host{}), "VolumeName", "/").Fields
	if len(root["FileSystemName"]) != 1 || len(root["TotalAllocationUnits"]) != 1 || root["IsMounted"][0] != "true" || !strings.HasPrefix(string(root["Type"][0]), "DRIVE_") {
		t.Errorf("root volume %v", root)
	}
}

func TestTheWholeMachineIsScannedOnceForAllKinds(t *testing.T) {
	t.Parallel()
	// An own program, its own socket, in the scope of the critical folders, all found in one scan of the real machine.
	cmd := startProgram(t, "ioc-whole-machine")
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	q, report := query(t, v11("d", all(
		items("ProcessItem/name is ioc-whole-machine", "ProcessItem/startTime greater-than 2020-01-01"),
		items("PortItem/localPort is "+strconv.Itoa(l.Addr().(*net.TCPAddr).Port), "PortItem/pid is "+strconv.Itoa(os.Getpid())),
		items("FileItem/FullPath is "+cmd.Path, "FileItem/SizeInBytes greater-than 1000"),
		items("UserItem/Username is root"), items("VolumeItem/VolumeName is /"), items("SystemInfoItem/uptime greater-than 0"),
	)))
	r := scanned(t, q, Config{}, filepath.Dir(cmd.Path))
	if report.UnsupportedTotal != 0 || len(r.Matches) != 1 || len(r.Matches[0].Terms) != 9 || len(r.Matches[0].Records) != 6 {
		t.Fatalf("report %+v, matches %+v", report, r.Matches)
	}
	if len(r.Collected) != 6 || !r.Complete() || !slices.Equal(paths(r), []string{cmd.Path}) {
		t.Errorf("collected %+v, files %v", r.Collected, r.Files)
	}
}
