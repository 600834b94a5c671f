package socket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/bridgetest"
)

// fakeAgent does what it is told and counts.
type fakeAgent struct {
	mu   sync.Mutex
	done map[string]bridge.Order
	err  error
	wait bool
	left chan error
}

func (f *fakeAgent) Execute(ctx context.Context, o bridge.Order) (bridge.Receipt, error) {
	if cause := context.Cause(ctx); cause != nil {
		return bridge.Receipt{}, &bridge.ExecError{Executor: "local", OrderID: o.ID, Class: bridge.Retry, Err: cause}
	}
	if o.Task == nil {
		return bridge.Receipt{}, &bridge.ExecError{Executor: "local", OrderID: o.ID, Reason: bridge.ReasonInvalid, Err: errors.New("no task")}
	}
	if f.wait {
		<-ctx.Done()
		f.left <- context.Cause(ctx)
		return bridge.Receipt{}, &bridge.ExecError{Class: bridge.Unknown, Err: context.Cause(ctx)}
	}
	if f.err != nil {
		return bridge.Receipt{}, f.err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done == nil {
		f.done = make(map[string]bridge.Order)
	}
	f.done[o.ID] = o
	return bridge.Receipt{State: bridge.StateDone, Ref: "r1", Detail: "ended pid 7"}, nil
}

func (f *fakeAgent) ResolveProcess(_ context.Context, p bridge.Process, digests bool) (bridge.Process, error) {
	if f.err != nil {
		return p, f.err
	}
	p.Path, p.Started = "/opt/lab/x", time.Unix(1700000000, 0).UTC()
	if digests {
		p.SHA256 = strings.Repeat("a", 64)
	}
	return p, nil
}

func (f *fakeAgent) Follow(_ context.Context, orders []bridge.Order) ([]bridge.Progress, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var told []bridge.Progress
	for _, o := range orders {
		if _, ok := f.done[o.ID]; ok {
			told = append(told, bridge.Progress{OrderID: o.ID, State: bridge.StateDone, Detail: "exit code 0"})
		}
	}
	return told, f.err
}

func (f *fakeAgent) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.done)
}

// serve runs a server and returns its client and a function that ends it.
func serve(t *testing.T, agent Agent, change ...func(*ServerConfig)) (*Client, func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "as") //nolint:usetesting // folders of tests have names too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cfg := ServerConfig{Path: filepath.Join(dir, "s"), Agent: agent}
	for _, f := range change {
		f(&cfg)
	}
	s, err := NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stands, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- s.Serve(ctx, func() { close(stands) }) }()
	select {
	case <-stands:
	case err := <-ended:
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return NewClient(cfg.Path), stop
}

func kill(n int) bridge.Order {
	return bridge.Order{ID: fmt.Sprintf("o%d", n), Host: "ws01", Task: bridge.TerminateProcess{Path: "/opt/lab/x"}}
}

func TestClientKeepsTheContractOfExecutors(t *testing.T) {
	t.Parallel()
	bridgetest.TestExecutor(t, func(t *testing.T) bridgetest.ExecutorUnderTest {
		agent := &fakeAgent{}
		client, _ := serve(t, agent, func(c *ServerConfig) {
			c.Check = func(o bridge.Order) (bridge.Reason, string) {
				if k, ok := o.Task.(bridge.TerminateProcess); ok && k.Path == "/sbin/init" {
					return bridge.ReasonProtectedProcess, "process 1"
				}
				return bridge.ReasonNone, ""
			}
		})
		n := 0
		return bridgetest.ExecutorUnderTest{
			Executor: client, Name: bridge.ExecutorLocal, Repeatable: true,
			Good:    func(*testing.T) bridge.Order { n++; return kill(n) },
			Effects: func(*testing.T) int { return agent.count() },
			Refused: map[string]bridgetest.RefusedOrder{
				"protected on the agent's side": {
					Order: bridge.Order{ID: "o-init", Host: "ws01", Task: bridge.TerminateProcess{Path: "/sbin/init"}}, Reason: bridge.ReasonProtectedProcess,
				},
				"invalid on the agent's side": {
					Order: bridge.Order{ID: "o-rel", Host: "ws01", Task: bridge.DeleteFile{Path: "../x"}}, Reason: bridge.ReasonInvalid,
				},
			},
		}
	})
}

func TestOrdersArriveAsTheyWereSent(t *testing.T) {
	t.Parallel()
	agent := &fakeAgent{}
	client, _ := serve(t, agent)
	at := time.Unix(1700000000, 5).UTC()
	for i, task := range []bridge.Task{
		bridge.TerminateProcess{Path: "/opt/<&>", CaseSensitive: true},
		bridge.IsolateHost{Action: 1},
		bridge.BlockAddress{Address: "203.0.113.7"},
		bridge.StartProcess{ExecutablePath: "/bin/echo", Arguments: `"a b" c`},
		bridge.OnDemandScan{Objects: []bridge.ScanObject{{Enabled: true, Path: "/opt", Recursive: true, Type: bridge.ScanFolder}}},
	} {
		o := bridge.Order{
			ID: fmt.Sprintf("t%d", i), Host: "ws01", Task: task, For: 3 * time.Hour, NotAfter: at, Rule: "r", Actor: "cli:root",
			Subject: bridge.Process{PID: 7, Start: 1 << 60, Path: "/opt/x\u202e", Tree: true, Started: at},
		}
		if _, err := client.Execute(t.Context(), o); err != nil {
			t.Fatalf("%s: %v", task.Kind(), err)
		}
		if diff := cmp.Diff(o, agent.done[o.ID]); diff != "" {
			t.Errorf("%s: -sent +arrived\n%s", task.Kind(), diff)
		}
	}
}

func TestErrorsKeepClassAndReason(t *testing.T) {
	t.Parallel()
	for _, class := range []bridge.Class{bridge.Permanent, bridge.Retry, bridge.Unknown, bridge.Unreachable} {
		agent := &fakeAgent{err: &bridge.ExecError{Class: class, Reason: bridge.ReasonProcessGone, Err: errors.New("it is gone")}}
		client, _ := serve(t, agent)
		_, err := client.Execute(t.Context(), kill(1))
		ee, ok := errors.AsType[*bridge.ExecError](err)
		if !ok || ee.Class != class || ee.Reason != bridge.ReasonProcessGone || ee.Err.Error() != "it is gone" || ee.OrderID != "o1" {
			t.Errorf("%s: got %+v", class, err)
		}
		if _, err := client.ResolveProcess(t.Context(), bridge.Process{PID: 7}, false); bridge.ClassOf(err) != class {
			t.Errorf("%s: resolve: %v", class, err)
		}
	}
}

func TestResolveAndFollowGoThrough(t *testing.T) {
	t.Parallel()
	agent := &fakeAgent{}
	client, _ := serve(t, agent)
	p, err := client.ResolveProcess(t.Context(), bridge.Process{PID: 7, Tree: true}, true)
	if err != nil || p.Path != "/opt/lab/x" || p.SHA256 == "" || !p.Tree || p.PID != 7 {
		t.Errorf("resolved %+v, %v", p, err)
	}
	if _, err := client.Execute(t.Context(), kill(1)); err != nil {
		t.Fatal(err)
	}
	told, err := client.Follow(t.Context(), []bridge.Order{kill(1), kill(2)})
	if err != nil || len(told) != 1 || told[0].OrderID != "o1" || told[0].State != bridge.StateDone {
		t.Errorf("told %v, %v", told, err)
	}
}

func TestWithoutAnAgentOrdersAreUnreachable(t *testing.T) {
	t.Parallel()
	client, stop := serve(t, &fakeAgent{})
	stop()
	_, err := client.Execute(t.Context(), kill(1))
	if bridge.ClassOf(err) != bridge.Unreachable || !errors.Is(err, ErrNoAgent) || !strings.Contains(err.Error(), "agent run") {
		t.Errorf("got %v, want unreachable with what to do", err)
	}
}

func TestAnAgentThatDiesLeavesTheOrderUnknown(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 4096))
			_ = c.Close()
		}
	}()
	client := NewClient(path)
	if _, err := client.Execute(t.Context(), kill(1)); bridge.ClassOf(err) != bridge.Unknown {
		t.Errorf("execute: %v, want unknown", err)
	}
	if _, err := client.Follow(t.Context(), []bridge.Order{kill(1)}); bridge.ClassOf(err) != bridge.Retry {
		t.Errorf("follow: %v, want retry: it changes nothing", err)
	}
}

func TestAnOrderWhoseBridgeLeavesIsToldToStop(t *testing.T) {
	t.Parallel()
	agent := &fakeAgent{wait: true, left: make(chan error, 1)}
	client, _ := serve(t, agent)
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan error, 1)
	go func() {
		_, err := client.Execute(ctx, kill(1))
		answered <- err
	}()
	time.AfterFunc(100*time.Millisecond, cancel)
	if err := <-agent.left; !errors.Is(err, errLeft) {
		t.Errorf("the agent's context ended with %v, want errLeft", err)
	}
	if err := <-answered; bridge.ClassOf(err) != bridge.Unknown || !errors.Is(err, context.Canceled) {
		t.Errorf("the bridge got %v, want unknown and canceled", err)
	}
}

func TestA13OnlyNamedUsersGiveOrders(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("this test needs root to be somebody else")
	}
	agent := &fakeAgent{}
	client, _ := serve(t, agent, func(c *ServerConfig) { c.Users = []string{"65533"} })
	// Others than the group cannot even connect; a wide mode shows that the user decides.
	if err := os.Chmod(filepath.Dir(client.path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(client.path, 0o666); err != nil {
		t.Fatal(err)
	}
	for uid, want := range map[int]string{65534: "may not give orders", 65533: `"state":"done"`} {
		got := as(t, uid, client.path, `{"version":1,"method":"execute","order":{"id":"o`+fmt.Sprint(uid)+`","host":"ws01","task":"terminateProcess","params":{"md5hash":"","sha256hash":"","path":"/opt/x","caseSensitive":false}}}`)
		if !strings.Contains(got, want) {
			t.Errorf("user %d got %q, want %q", uid, got, want)
		}
	}
	if n := agent.count(); n != 1 {
		t.Errorf("%d orders were carried out, want that of the named user", n)
	}
}

func TestServerAnswersNonsenseAndStays(t *testing.T) {
	t.Parallel()
	client, _ := serve(t, &fakeAgent{})
	for line, want := range map[string]string{
		"": "unexpected EOF", "x\n": "invalid character", `{"version":2,"method":"execute"}` + "\n": "different versions",
		`{"version":1,"method":"resolve","x":1}` + "\n": "unknown field", `{"version":1,"method":"resolve"}{}` + "\n": "more than one document",
		`{"version":1,"method":"reboot"}` + "\n": "no method", `{"version":1,"method":"execute"}` + "\n": "no order",
		`{"version":1,"method":"resolve"}` + "\n":                                                                    "no process",
		`{"version":1,"method":"execute","order":{"id":"o","host":"h","task":"reboot","params":{}}}` + "\n":          "unknown task",
		`{"version":1,"method":"execute","order":{"id":"o","host":"h","task":"isolateHost","params":{}}}` + "\n":     "required",
		`{"version":1,"method":"ask","ask":"secrets"}` + "\n":                                                        "does not know",
		`{"version":1,"method":"execute","order":{"id":"o","host":"h","task":"deleteFile","params":{"x":1}}}` + "\n": "no such parameter",
		strings.Repeat("a", maxRequest+2) + "\n":                                                                     "more than",
	} {
		if got := raw(t, client.path, line); !strings.Contains(got, want) {
			t.Errorf("%.60q: got %q, want %q", line, got, want)
		}
	}
	if _, err := client.Execute(t.Context(), kill(1)); err != nil {
		t.Errorf("after that: %v", err)
	}
}

func TestAsksAnswerWithTheirResult(t *testing.T) {
	t.Parallel()
	client, _ := serve(t, &fakeAgent{}, func(c *ServerConfig) {
		c.Asks = map[string]Ask{"double": func(_ context.Context, params json.RawMessage) (any, error) {
			var n int
			if err := json.Unmarshal(params, &n); err != nil {
				return nil, err
			}
			return n * 2, nil
		}}
	})
	var got int
	if err := client.Ask(t.Context(), "double", 21, &got); err != nil || got != 42 {
		t.Errorf("got %d, %v", got, err)
	}
	if err := client.Ask(t.Context(), "double", "x", &got); err == nil {
		t.Error("a bad question was answered")
	}
}

func TestOrdersUnderWayAreFinishedWhenTheServerEnds(t *testing.T) {
	t.Parallel()
	agent := &fakeAgent{wait: true, left: make(chan error, 1)}
	client, stop := serve(t, agent)
	go func() { _, _ = client.Execute(t.Context(), kill(1)) }()
	time.Sleep(100 * time.Millisecond)
	stop() // waits for the order, which ends only when it is told to
	select {
	case <-agent.left:
	default:
		t.Error("the server ended before its order")
	}
}

// raw sends text and returns what comes back.
func raw(t *testing.T, path, text string) string {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() {
		_, _ = c.Write([]byte(text))
		_ = c.(*net.UnixConn).CloseWrite()
	}()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	b := make([]byte, 64<<10)
	n, _ := c.Read(b)
	return string(b[:n])
}

func FuzzRequestsNeverBreakTheServer(f *testing.F) {
	f.Add(`{"version":1,"method":"execute","order":{"id":"o","host":"h","task":"isolateHost","params":{"action":1}}}`)
	f.Add(`{"version":1,"method":"follow","orders":[{"id":"o"}]}`)
	f.Add(`{"version":1,"method":"resolve","process":{"pid":-1}}`)
	s, err := NewServer(ServerConfig{Path: "/x", Agent: &fakeAgent{}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, line string) {
		var req request
		if err := readLine(strings.NewReader(line+"\n"), 1<<20, &req); err != nil {
			return
		}
		a := s.do(t.Context(), req, 0)
		if _, err := json.Marshal(a); err != nil {
			t.Errorf("answer %+v: %v", a, err)
		}
	})
}
