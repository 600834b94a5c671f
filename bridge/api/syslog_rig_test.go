package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const syslogPatience = 10 * time.Second

// syslogRig is a running source with what it told.
type syslogRig struct {
	*Syslog
	log *syslogLog

	mu    sync.Mutex // guards notes
	notes []bridge.Note
}

// syslogLog keeps what was logged, one line each.
type syslogLog struct {
	mu    sync.Mutex // guards lines
	lines []string
}

func (l *syslogLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(p))
	return len(p), nil
}

func (l *syslogLog) count(text string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// lost adds up the notes of losses.
func (r *syslogRig) lost() (n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, note := range r.notes {
		if note.What == bridge.NoteLoss && note.Source == "lines" {
			n += note.Count
		}
	}
	return n
}

func newSyslogRig(t *testing.T, change func(*SyslogConfig)) *syslogRig {
	t.Helper()
	r := &syslogRig{log: &syslogLog{}}
	cfg := SyslogConfig{
		Name: "lines", Preset: "cef", Listen: "127.0.0.1:0",
		Logger: slog.New(slog.NewTextHandler(r.log, nil)),
		OnNote: func(n bridge.Note) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.notes = append(r.notes, n)
		},
	}
	if change != nil {
		change(&cfg)
	}
	s, err := NewSyslog(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Syslog = s
	return r
}

func startSyslog(t *testing.T, change func(*SyslogConfig)) *syslogRig {
	t.Helper()
	r := newSyslogRig(t, change)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v, want nil", err)
		}
	})
	select {
	case <-r.Ready():
	case <-time.After(syslogPatience):
		t.Fatal("the port did not open")
	}
	return r
}

func (r *syslogRig) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (r *syslogRig) write(t *testing.T, text string) net.Conn {
	t.Helper()
	conn := r.dial(t)
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func (r *syslogRig) next(t *testing.T) bridge.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), syslogPatience)
	defer cancel()
	d, err := r.Receive(ctx)
	if err != nil {
		t.Fatalf("receive: %v", err)
	}
	return d
}

func (r *syslogRig) settled(t *testing.T, want string) {
	t.Helper()
	d := r.next(t)
	if string(d.Alert.Raw) != want {
		t.Fatalf("delivered is %.100q, want %.100q", d.Alert.Raw, want)
	}
	if err := d.Settle(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}

func (r *syslogRig) silent(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if d, err := r.Receive(ctx); err == nil {
		t.Fatalf("%.100q was delivered", d.Alert.Raw)
	}
}

// syslogEventually waits for what other goroutines do.
func syslogEventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(syslogPatience); ; {
		if ok() {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("did not come to pass: %s", what)
		}
	}
}

// isClosed waits until the other side has closed the connection.
func isClosed(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(syslogPatience))
	var timeout net.Error
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatalf("the connection is not closed: %v", err)
	}
}
