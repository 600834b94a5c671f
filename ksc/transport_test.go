package ksc

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptrace"
	"sync"
	"testing"
)

func TestGateLetsNothingThroughAfterItWasGivenUp(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	defer func() { _, _ = near.Close(), far.Close() }()
	g := &gate{Conn: tls.Client(near, &tls.Config{ServerName: "x", MinVersion: tls.VersionTLS12})}
	a := &attempt{method: methodAddIncident}
	a.gotConn(httptrace.GotConnInfo{Conn: g})
	a.giveUp()
	if a.sent {
		t.Error("nothing was written, yet it counts as sent")
	}
	// A goroutine of net/http that comes too late must not get a byte through.
	if n, err := g.Write([]byte("POST")); n != 0 || !errors.Is(err, errSealed) {
		t.Errorf("wrote %d, %v", n, err)
	}
	a.gotConn(httptrace.GotConnInfo{Conn: near})
	if !a.sent {
		t.Error("a connection nobody can vouch for must count as sent")
	}
}

// TestGateNeverMissesAWrite races a late writer against the decision that nothing was sent.
func TestGateNeverMissesAWrite(t *testing.T) {
	t.Parallel()
	for range 2000 {
		near, far := net.Pipe()
		_ = far.Close()
		g := &gate{Conn: tls.Client(near, &tls.Config{ServerName: "x", MinVersion: tls.VersionTLS12})}
		g.begin()
		var passed bool
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := g.Write([]byte("POST"))
			passed = !errors.Is(err, errSealed)
		})
		wrote := g.seal()
		wg.Wait()
		if passed != wrote {
			t.Fatalf("write passed: %v, gate says %v", passed, wrote)
		}
		_ = near.Close()
	}
}
