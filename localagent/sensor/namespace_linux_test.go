package sensor

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

func TestOtherNetworkNamespacePollsAndSaysSo(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	pollsAndSaysSo(t, unix.ECONNREFUSED)
}

func TestOtherProcessNamespacePollsAndSaysSo(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWPID|unix.CLONE_NEWNS) {
		return
	}
	pollsAndSaysSo(t, nil)
}

func pollsAndSaysSo(t *testing.T, want error) {
	t.Helper()
	method, err := Probe(t.Context())
	if method != MethodPolling || err == nil || want != nil && !errors.Is(err, want) {
		t.Fatalf("%s, %v", method, err)
	}
	var c catcher
	var book logbook
	cfg := noLimits(Config{Emit: c.emits(), Poll: 20 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(&book, nil))})
	s := startSensor(t, cfg)
	st := s.Status()
	if st.Method != MethodPolling || st.Why == "" || s.Err() == nil || !strings.Contains(book.text(), "level=WARN") {
		t.Errorf("status %+v, log %s", st, book.text())
	}
	parent, child := startChain(t, "winword.exe", "powershell.exe", "1")
	agenttest.Eventually(t, "an alert", func() bool { return len(c.of(child)) == 1 })
	if d := c.of(child)[0]; d.ParentExe != parent || d.ActionablePID == 0 || d.StartTicks == 0 || d.Method != MethodPolling {
		t.Errorf("alert %+v", d)
	}
}

func TestConnectionToAListedAddressNamesItsProcess(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNET) {
		return
	}
	for _, args := range [][]string{{"link", "set", "lo", "up"}, {"addr", "add", "203.0.113.7/32", "dev", "lo"}, {"addr", "add", "2001:db8::7/128", "dev", "lo", "nodad"}} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Skipf("ip %v: %v %s", args, err, out)
		}
	}
	var c catcher
	cfg := noLimits(Config{
		Emit: c.emits(), Host: "lab", Connections: 100 * time.Millisecond,
		Indicators: []netip.Prefix{netip.MustParsePrefix("203.0.113.7/32"), netip.MustParsePrefix("2001:db8::/64")},
	})
	s := startSensor(t, cfg)
	for _, address := range []string{"203.0.113.7", "2001:db8::7"} {
		l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		var conn net.Conn
		// The kernel adds the route of an address some time later.
		agenttest.Eventually(t, "a connection", func() bool {
			conn, err = net.Dial("tcp", l.Addr().String())
			return err == nil
		})
		defer conn.Close()
	}
	udp, err := net.Dial("udp", "203.0.113.7:53")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	elsewhere, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	other, err := net.Dial("tcp", elsewhere.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	seen := func(ip, protocol string) (list []document) {
		for _, d := range c.of(RuleIndicator) {
			if d.SourceIP == ip && d.Protocol == protocol && d.PID == os.Getpid() {
				list = append(list, d)
			}
		}
		return list
	}
	agenttest.Eventually(t, "three alerts", func() bool {
		return len(seen("203.0.113.7", "tcp")) > 0 && len(seen("2001:db8::7", "tcp")) > 0 && len(seen("203.0.113.7", "udp")) > 0
	})
	exe, _ := os.Readlink("/proc/self/exe")
	d := seen("2001:db8::7", "tcp")[0]
	if d.ActionablePID != os.Getpid() || d.StartTicks == 0 || d.Exe != exe || len(d.SHA256) != 64 || d.Indicator != "2001:db8::/64" ||
		d.Level != LevelHigh || d.RemotePort == 0 || d.Host != "lab" || d.PPID != os.Getppid() {
		t.Errorf("alert %+v", d)
	}
	if d := seen("203.0.113.7", "udp")[0]; d.RemotePort != 53 || d.Indicator != "203.0.113.7" {
		t.Errorf("alert %+v", d)
	}
	before := s.Status().Connections
	time.Sleep(500 * time.Millisecond)
	if after := s.Status().Connections; after != before {
		t.Errorf("connections that stand are told again: %d, then %d", before, after)
	}
	for _, d := range c.of(RuleIndicator) {
		if strings.HasPrefix(d.SourceIP, "127.") {
			t.Errorf("alert %+v", d)
		}
	}
}
