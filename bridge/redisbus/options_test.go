package redisbus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestOptionsReportEveryProblem(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		o    Options
		want string // "" = valid
	}{
		{"host and port", Options{Addresses: []string{"redis:6379"}}, ""},
		{"IPv6", Options{Addresses: []string{"[::1]:6379"}}, ""},
		{"socket", Options{Addresses: []string{"unix:///run/redis.sock"}}, ""},
		{"sentinels", Options{Addresses: []string{"a:1", "b:1"}, MasterName: "m"}, ""},
		{"cluster", Options{Addresses: []string{"a:1", "b:1"}, Cluster: true}, ""},
		{"nothing", Options{}, "addresses: required"},
		{"no port", Options{Addresses: []string{"redis"}}, "must be host:port"},
		{"URL", Options{Addresses: []string{"redis://h:1"}}, "must be host:port"},
		{"relative socket", Options{Addresses: []string{"unix://redis.sock"}}, "absolute path"},
		{"socket with TLS", Options{Addresses: []string{"unix:///s"}, TLS: &tls.Config{MinVersion: tls.VersionTLS12}}, "neither TLS"},
		{"several servers", Options{Addresses: []string{"a:1", "b:1"}}, "several need"},
		{"both", Options{Addresses: []string{"a:1"}, MasterName: "m", Cluster: true}, "cluster:"},
		{"DB in a cluster", Options{Addresses: []string{"a:1"}, Cluster: true, DB: 1}, "db:"},
		{"two problems", Options{DB: -1}, "db:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := c.o.Validate()
			if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
				t.Errorf("validate says %v, want %q", err, c.want)
			}
		})
	}
}

func TestConstructorsRefuseIncompleteSettings(t *testing.T) {
	t.Parallel()
	if _, err := NewStream(StreamConfig{Block: time.Minute, DeadLetter: "x", Stream: "x"}); err == nil {
		t.Error("stream accepted")
	} else {
		for _, want := range []string{"addresses: required", "name: required", "group: required", "consumer: required", "block:", "dead letter:"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error %q lacks %q", err, want)
			}
		}
	}
	if _, err := NewPubSub(PubSubConfig{Queue: -1}); err == nil || !strings.Contains(err.Error(), "channel: required") || !strings.Contains(err.Error(), "queue") {
		t.Errorf("pubsub says %v", err)
	}
	if _, err := NewPublisher(PublisherConfig{Attempts: -1}); err == nil {
		t.Error("publisher accepted")
	}
	if _, err := NewDeadLetters(Options{}, "", ""); err == nil {
		t.Error("dead letters accepted")
	}
}

// outside returns an address of this machine that is not loopback.
func outside(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && n.IP.To4() != nil && !n.IP.IsLinkLocalUnicast() {
			return n.IP.String()
		}
	}
	t.Skip("this machine has no address but loopback")
	return ""
}

func TestOpenServerIsRefusedUnlessAllowed(t *testing.T) {
	t.Parallel()
	host := outside(t)
	for _, c := range []struct {
		name    string
		args    []string
		setup   [][]any
		change  func(*Options)
		refused bool
	}{
		{name: "open", args: []string{"--protected-mode", "no"}, refused: true},
		{name: "open and allowed", args: []string{"--protected-mode", "no"}, change: func(o *Options) { o.AllowOpen = true }},
		{name: "open beside our own user", args: []string{"--protected-mode", "no", "--user", "bridge", "on", ">secret", "~*", "&*", "+@all"}, change: withPassword("bridge", "secret"), refused: true},
		{name: "password", args: []string{"--protected-mode", "no", "--requirepass", "secret"}, change: withPassword("", "secret")},
		{name: "config hidden", args: []string{"--protected-mode", "no", "--user", "default", "on", "nopass", "~*", "&*", "+@all", "-config"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			srv := startRedisAt(t, host, c.args...)
			o := Options{Addresses: []string{srv}}
			if c.change != nil {
				c.change(&o)
			}
			s, err := NewStream(StreamConfig{Options: o, Name: "bus", Stream: "alerts", Group: "g", Consumer: "one", Block: 50 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			p, err := NewPubSub(PubSubConfig{Options: o, Name: "legacy", Channel: channel})
			if err != nil {
				t.Fatal(err)
			}
			for _, src := range []source{s, p} {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				ended := make(chan error, 1)
				go func() { ended <- src.Run(ctx) }()
				select {
				case <-src.Ready():
					if c.refused {
						t.Errorf("%T accepts an open server", src)
					}
					cancel()
					<-ended
				case err := <-ended:
					if !c.refused || !errors.Is(err, ErrOpenServer) {
						t.Errorf("%T ended with %v (%v)", src, err, src.Err())
					}
				}
				cancel()
				_ = src.Close(t.Context())
			}
			pub, err := NewPublisher(PublisherConfig{Options: o})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = pub.Close() }()
			if _, err := pub.Add(t.Context(), "alerts", []byte("{}"), "a"); errors.Is(err, ErrOpenServer) != c.refused {
				t.Errorf("publisher says %v", err)
			}
			r, err := Check(t.Context(), CheckConfig{Options: o, Stream: "alerts", Group: "g"})
			if err != nil || r.Open != (c.refused || c.name == "open and allowed") {
				t.Errorf("check says open=%v, %v", r.Open, err)
			}
		})
	}
}

func withPassword(user, secret string) func(*Options) {
	return func(o *Options) {
		o.Username = user
		o.Password = func(context.Context) ([]byte, error) { return []byte(secret), nil }
	}
}

// startRedisAt starts a server that also listens on an address beyond loopback and returns that address.
func startRedisAt(t *testing.T, host string, extra ...string) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Skipf("no listening on %s: %v", host, err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	startRedisOn(t, addr, extra...)
	return addr
}

func TestCredentialsAreReportedAsSuchAndNeverShown(t *testing.T) {
	t.Parallel()
	srv := startRedis(t, "--user", "bridge", "on", ">right-secret", "~*", "&*", "+@all", "--user", "narrow", "on", ">right-secret", "~other", "&*", "+ping")
	for _, c := range []struct {
		name   string
		change func(*Options)
		want   error
	}{
		{"right", withPassword("bridge", "right-secret"), nil},
		{"wrong password", withPassword("bridge", "wrong-secret"), ErrCredentials},
		{"unknown user", withPassword("nobody", "wrong-secret"), ErrCredentials},
		{"not allowed", withPassword("narrow", "right-secret"), ErrCredentials},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := Options{Addresses: []string{srv.addr}}
			c.change(&o)
			s, err := NewStream(StreamConfig{Options: o, Name: "bus", Stream: "alerts", Group: "g", Consumer: c.name, Block: 50 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			run(t, s)
			eventually(t, 5*time.Second, "it is known", func() bool { return s.Connected() || s.Err() != nil })
			if err := s.Err(); !errors.Is(err, c.want) {
				t.Errorf("source says %v, want %v", err, c.want)
			}
			_, err = Check(t.Context(), CheckConfig{Options: o, Stream: "alerts"})
			if !errors.Is(err, c.want) {
				t.Errorf("check says %v, want %v", err, c.want)
			}
			if text := fmt.Sprintf("%v %v %+v", err, s.Err(), o); strings.Contains(text, "-secret") {
				t.Errorf("the password is shown: %s", text)
			}
		})
	}
}

func TestCheckReportsServerGroupAndProblems(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	s, _ := newTestStream(t, srv.addr, nil)
	run(t, s)
	awaitReady(t, s)
	srv.add(t, "alerts", "1", "2")
	settle(t, receive(t, s, 5*time.Second), nil)
	receive(t, s, 5*time.Second)
	eventually(t, 5*time.Second, "one is acknowledged", func() bool { return srv.pending(t, "alerts", "edr-bridge") == 1 })
	cfg := CheckConfig{Options: Options{Addresses: []string{srv.addr}}, Stream: "alerts", Group: "edr-bridge", Channel: channel}
	r, err := Check(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(r.Version, "7.") && !strings.HasPrefix(r.Version, "8.") {
		t.Errorf("version %q", r.Version)
	}
	if r.Role != "master" || r.Latency <= 0 || !r.GroupExists || r.Pending != 1 || r.Lag != 0 || r.Length != 2 || r.Consumers != 1 || r.Open || r.Subscribers != 0 {
		t.Errorf("report %+v", r)
	}
	if text := strings.Join(r.Problems, "\n"); !strings.Contains(text, "appendonly") {
		t.Errorf("a server without persistence is not reported: %q", text)
	}
	srv.do(t, "REPLICAOF", "127.0.0.1", "1")
	srv.do(t, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
	if r, err = Check(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(r.Problems, "\n"); r.Role != "slave" || !strings.Contains(text, "replica") || !strings.Contains(text, "noeviction") {
		t.Errorf("report %+v", r)
	}
	srv.stop()
	if _, err := Check(t.Context(), cfg); !errors.Is(err, bridge.ErrNotConnected) {
		t.Errorf("check without a server says %v", err)
	}
}

func TestCheckReportsAnOldOrUnknownVersion(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	r, err := Check(t.Context(), CheckConfig{Options: Options{Addresses: []string{m.Addr()}}, Stream: "alerts", Group: "g"})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Problems) == 0 {
		t.Errorf("nothing to say about version %q", r.Version)
	}
	t.Log(r.Problems)
}

func TestStreamWorksOverAUnixSocket(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	s, _ := newTestStream(t, "unix://"+srv.socket(), nil)
	run(t, s)
	awaitReady(t, s)
	srv.add(t, "alerts", "1")
	settle(t, receive(t, s, 5*time.Second), nil)
}
