package callout

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func calloutListen(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func calloutHeard(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64<<10)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestCallIsLoggedToTheFirstThatListens(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	journal, syslog := filepath.Join(dir, "journal"), filepath.Join(dir, "log")
	c := callout{Task: "isolateHost", Host: "ws-1", State: "queued", Call: "k1", Order: "o1"}
	calloutLog([]string{journal, syslog}, c) // nobody listens: nothing happens

	old := calloutListen(t, syslog)
	calloutLog([]string{journal, syslog}, c)
	if got := calloutHeard(t, old); !strings.HasPrefix(got, "<30>") || !strings.Contains(got, "edr-bridge: call isolateHost ws-1: queued exit=0 call=k1 order=o1") {
		t.Errorf("syslog heard %q", got)
	}
	native := calloutListen(t, journal)
	calloutLog([]string{journal, syslog}, c)
	if got := calloutHeard(t, native); !strings.Contains(got, "\nSYSLOG_IDENTIFIER=edr-bridge\n") || !strings.HasPrefix(got, "MESSAGE=call isolateHost ws-1: queued") {
		t.Errorf("the journal heard %q", got)
	}
}

func TestFullJournalDoesNotHoldACallUp(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	calloutListen(t, path) // and never reads
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 3000 {
			calloutLog([]string{path}, callout{Task: "isolateHost", State: "queued"})
		}
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("a full journal blocks the call")
	}
}
