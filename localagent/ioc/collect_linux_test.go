package ioc

import (
	"encoding/binary"
	"fmt"
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
	link := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "ioc0"}}
	if err := netlink.LinkAdd(link); err != nil {
		t.Skipf("no dummy interfaces here: %v", err)
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

func TestServicesAreCollectedFromUnitFiles(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	lib, etc := root+"/usr/lib/systemd/system/", root+"/etc/systemd/system/"
	write(t, lib+"web.service", "[Unit]\nDescription=The web\n[Service]\nType=notify\nUser=www\nExecStartPre=-/usr/bin/test -d /x\nExecStart=/usr/sbin/web --conf \\\n /etc/web\n# ExecStart=/no\n")
	write(t, etc+"web.service.d/evil.conf", "[Service]\nExecStart=\nExecStart=@!/tmp/evil evil -x\n")
	write(t, lib+"old.service", "[Service]\nExecStart=/usr/bin/old\n")
	write(t, etc+"old.service", "[Service]\nExecStart=/usr/bin/new\n")
	write(t, lib+"getty@.service", "[Service]\nExecStart=/sbin/agetty %I\n")
	write(t, root+"/etc/init.d/legacy", "#!/bin/sh\n")
	write(t, root+"/home/u/.config/systemd/user/mine.service", "[Service]\nExecStart=/home/u/miner\n")
	write(t, root+"/secret", "[Service]\nExecStart=/not/to/be/read\n")
	write(t, root+"/etc/passwd", "root:x:0:0::/root:/bin/sh\nu:x:1000:1000::/home/u:/bin/sh\ndaemon:x:1:1::/:/usr/sbin/nologin\n")
	write(t, root+"/proc/self/mountinfo", "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n")
	write(t, root+"/proc/77/cgroup", "0::/system.slice/web.service\n")
	write(t, root+"/proc/78/cgroup", "0::/user.slice/session-1.scope\n")
	for link, to := range map[string]string{
		etc + "multi-user.target.wants/web.service": "/usr/lib/systemd/system/web.service", etc + "getty.target.wants/getty@tty1.service": lib + "getty@.service",
		etc + "dead.service": "/dev/null", root + "/home/u/.config/systemd/user/trap.service": root + "/secret",
	} {
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(root+"/home/u/.config/systemd/user/fifo.service", 0o644); err != nil {
		t.Fatal(err)
	}
	records := collected(t, KindService, host{root: root})
	for name, want := range map[string]string{
		"web":        "path=[/usr/bin/test /usr/sbin/web /tmp/evil] mode=SERVICE_AUTO_START status=SERVICE_RUNNING",
		"old":        "path=[/usr/bin/new] mode=SERVICE_DEMAND_START status=SERVICE_STOPPED",
		"getty@":     "path=[/sbin/agetty] mode=SERVICE_DEMAND_START status=SERVICE_STOPPED",
		"getty@tty1": "path=[/sbin/agetty] mode=SERVICE_AUTO_START status=SERVICE_STOPPED",
		"dead":       "path=[] mode=SERVICE_DISABLED status=SERVICE_STOPPED",
		"legacy":     "path=[/etc/init.d/legacy] mode=SERVICE_DEMAND_START status=SERVICE_STOPPED",
		"mine":       "path=[/home/u/miner] mode=SERVICE_DEMAND_START status=SERVICE_STOPPED",
	} {
		f := find(t, records, "name", name).Fields
		paths := make([]string, len(f["path"]))
		for i, p := range f["path"] {
			paths[i] = string(p)
		}
		if got := fmt.Sprintf("path=%v mode=%s status=%s", paths, string(f["mode"][0]), string(f["status"][0])); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	web := find(t, records, "name", "web.service").Fields
	if web["startedAs"][0] != "www" || web["type"][0] != "notify" || web["description"][0] != "The web" || web["pid"][0] != "77" || web["arguments"][1] != "--conf   /etc/web" {
		t.Errorf("web is %v", web)
	}
	if len(records) != 7 {
		t.Errorf("%d services, want 7", len(records))
	}
}

func TestUsersAreCollectedWithGroupsAndLogins(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, root+"/etc/passwd", "root:x:0:0:Root,Room 1:/root:/bin/sh\n\nu:x:3:100::/home/u:/bin/sh\nbroken:x\n+::::::\nw:x:4:4::/:/bin/sh\n")
	write(t, root+"/etc/group", "root:x:0:\nusers:x:100:\nwheel:x:10:u,root\n")
	write(t, root+"/etc/shadow", "root:!$6$secret:19000:0:99999:7:::\nu::19000:0:99999:7::10:\n")
	log := make([]byte, lastlogSize*4)
	binary.NativeEndian.PutUint32(log[lastlogSize*3:], 1_700_000_000)
	write(t, root+"/var/log/lastlog", string(log))
	entry := func(kind uint16, user string, at uint32) string {
		b := make([]byte, utmpSize)
		binary.NativeEndian.PutUint16(b, kind)
		copy(b[utmpUser:], user)
		binary.NativeEndian.PutUint32(b[utmpSeconds:], at)
		return string(b)
	}
	write(t, root+"/var/log/wtmp", entry(7, "u", 1_600_000_000)+entry(8, "root", 1_800_000_000)+entry(7, "w", 1_750_000_000)+"rest")
	records := collected(t, KindUser, host{root: root})
	for user, want := range map[string]map[string]string{
		"root": {"fullname": "[Root]", "SecurityID": "[0]", "grouplist/groupname": "[wheel root]", "lockedout": "[true]", "passwordrequired": "[true]", "disabled": "[false]", "LastLogin": "[]"},
		"u":    {"homedirectory": "[/home/u]", "grouplist/groupname": "[wheel users]", "lockedout": "[false]", "passwordrequired": "[false]", "disabled": "[true]", "LastLogin": "[2023-11-14T22:13:20Z]"},
		"w":    {"LastLogin": "[2025-06-15T15:06:40Z]", "lockedout": "[]"},
	} {
		f := find(t, records, "Username", user).Fields
		for field, w := range want {
			if got := fmt.Sprint(f[field]); got != w {
				t.Errorf("%s: %s is %s, want %s", user, field, got, w)
			}
		}
		for _, values := range f {
			for _, v := range values {
				if strings.Contains(string(v), "$6$") {
					t.Errorf("%s: the password stands in the record", user)
				}
			}
		}
	}
	if len(records) != 3 {
		t.Errorf("%d users, want 3", len(records))
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

func TestRootsAreChosenFromTheMounts(t *testing.T) {
	t.Parallel()
	mounts, err := parseMounts([]byte(`1 0 8:1 / / rw shared:1 - ext4 /dev/sda1 rw
2 1 0:5 / /proc rw - proc proc rw
3 1 0:6 / /dev/shm rw - tmpfs tmpfs rw
4 1 8:2 / /home rw - xfs /dev/sda2 rw
5 1 8:2 /u /srv/u rw - xfs /dev/sda2 rw
6 1 0:7 / /mnt/nfs rw - nfs4 server:/x rw
7 1 0:8 / /mnt/ssh\040fs rw - fuse.sshfs me@there rw
8 1 0:9 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw
9 1 8:3 / /mnt/gone rw - ext4 /dev/sda3 rw
10 9 0:5 / /mnt/gone rw - proc proc rw
11 1 8:4 / /vault rw - ext4 /dev/sda4 rw
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		cfg  Config
		want string
		left string
	}{
		{Config{Scope: ScopeAll, Exclude: []string{"/vault"}}, "[/ /home /dev/shm]", "[/mnt/nfs /mnt/ssh fs /var/lib/docker/overlay2/x/merged /vault]"},
		{Config{Scope: ScopeAll, Network: true}, "[/ /home /vault /dev/shm /mnt/nfs /mnt/ssh fs]", "[/var/lib/docker/overlay2/x/merged]"},
		{Config{Scope: ScopeSystem}, "[/]", "[]"},
		{Config{Scope: ScopeCustom, Roots: []string{"/home/u", "/home", "/homes", "/home", "/srv/u/x"}}, "[/home /homes /srv/u/x]", "[]"},
		{Config{Scope: ScopeCustom, Roots: []string{"/", "/home", "/etc"}}, "[/ /home]", "[]"},
		{Config{Scope: ScopeCustom, Roots: []string{"/mnt/nfs/a", "/mnt/ssh fs", "/proc/1", "/mnt/gone/x", "/var/lib/docker/overlay2/x/merged/etc"}}, "[/var/lib/docker/overlay2/x/merged/etc]", "[/mnt/nfs/a /mnt/ssh fs /proc/1 /mnt/gone/x]"},
		{Config{Scope: ScopeCustom, Roots: []string{"/mnt/nfs/a"}, Network: true}, "[/mnt/nfs/a]", "[]"},
	} {
		got := chooseRoots(c.cfg, mounts)
		var left []string
		for _, l := range got.left {
			left = append(left, l.path)
		}
		if fmt.Sprint(got.roots) != c.want || fmt.Sprint(left) != c.left {
			t.Errorf("%v %v: roots %v, want %s; left %v, want %s", c.cfg.Scope, c.cfg.Roots, got.roots, c.want, left, c.left)
		}
	}
	if got := chooseRoots(Config{Scope: ScopeAll}, mounts).covered; !got["/srv/u"] || !got["/proc"] || got["/etc"] {
		t.Errorf("covered %v", got)
	}
	if _, err := parseMounts([]byte("nonsense\n")); err == nil {
		t.Error("nonsense was read")
	}
	critical := chooseRoots(Config{Scope: ScopeCritical}, mounts)
	if !slices.Contains(critical.roots, "/etc") || !slices.Contains(critical.roots, "/usr") || slices.Contains(critical.roots, "/") {
		t.Errorf("critical roots %v", critical.roots)
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
