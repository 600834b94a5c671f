package api

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// socketPath is a path short enough for a socket.
func socketPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "api") //nolint:usetesting // a folder of the test's name is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "s.sock")
}

func TestSocketIsForOwnerAndGroupWhateverTheUmask(t *testing.T) {
	// Not parallel: the umask belongs to the process.
	for _, mask := range []int{0, 0o022, 0o077, 0o777} {
		path := socketPath(t)
		s := newServer(t, newFakeDesk(t))
		old := syscall.Umask(mask)
		err := s.Listen(t.Context(), path, "")
		syscall.Umask(old)
		if mask == 0o777 {
			if err == nil {
				// root enters a folder of mode 0
				err = s.Close()
			}
			if _, serr := os.Lstat(path); !errors.Is(serr, fs.ErrNotExist) {
				t.Errorf("umask %04o: a socket is left: %v, %v", mask, serr, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode(); got != fs.ModeSocket|0o660 {
			t.Errorf("umask %04o: mode %v, want %v", mask, got, fs.ModeSocket|0o660)
		}
		left, err := os.ReadDir(filepath.Dir(path))
		if err != nil || len(left) != 1 {
			t.Errorf("umask %04o: the folder holds %v, %v", mask, left, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket is left: %v", err)
		}
	}
}

func TestSocketBelongsToTheGroup(t *testing.T) {
	t.Parallel()
	gid, name := someGroup(t)
	path := socketPath(t)
	s := newServer(t, newFakeDesk(t))
	if err := s.Listen(t.Context(), path, name); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Sys().(*syscall.Stat_t).Gid; got != gid {
		t.Errorf("group %d, want %d", got, gid)
	}
	other := newServer(t, newFakeDesk(t))
	if err := other.Listen(t.Context(), path+"2", "no such group"); err == nil || !strings.Contains(err.Error(), "no such group") {
		t.Errorf("got %v", err)
	}
}

// someGroup is a group this process may give files to, another one than its own where there is one.
func someGroup(t testing.TB) (gid uint32, name string) {
	t.Helper()
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		groups = append([]int{1}, groups...)
	}
	for _, g := range append(groups, os.Getgid()) {
		if found, err := user.LookupGroupId(strconv.Itoa(g)); err == nil {
			return uint32(g), found.Name
		}
	}
	t.Skip("no group has a name")
	return 0, ""
}

func TestStaleSocketIsReplacedAndALivingOneIsNot(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(t.Context(), path); !errors.Is(err, ErrNoBridge) {
		t.Errorf("dial a stale socket: got %v", err)
	}
	first, second := newServer(t, newFakeDesk(t)), newServer(t, newFakeDesk(t))
	if err := first.Listen(t.Context(), path, ""); err != nil {
		t.Fatal(err)
	}
	if err := second.Listen(t.Context(), path, ""); !errors.Is(err, ErrInUse) {
		t.Errorf("second server: got %v", err)
	}
	if err := first.Listen(t.Context(), path, ""); err == nil {
		t.Error("a server listens twice")
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the server that was refused took the socket of the other: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
}

func TestSocketOfALaterServerIsNotRemoved(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	first, second := newServer(t, newFakeDesk(t)), newServer(t, newFakeDesk(t))
	if err := first.Listen(t.Context(), path, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := second.Listen(t.Context(), path, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = second.Close() }()
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the later socket is gone: %v", err)
	}
}

func TestWhatIsNoSocketStays(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := newServer(t, newFakeDesk(t)).Listen(t.Context(), path, ""); err == nil {
		t.Error("a file was replaced")
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "mine" {
		t.Errorf("the file holds %q, %v", data, err)
	}
}

func TestTooLongPathIsAnError(t *testing.T) {
	t.Parallel()
	dir := filepath.Dir(socketPath(t))
	path := filepath.Join(dir, strings.Repeat("d", 100-len(dir)))
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := newServer(t, newFakeDesk(t)).Listen(t.Context(), path+"/s", ""); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(path); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestNobodyListensIsNoBridge(t *testing.T) {
	t.Parallel()
	if _, err := Dial(t.Context(), socketPath(t)); !errors.Is(err, ErrNoBridge) {
		t.Errorf("got %v", err)
	}
	client, stop := serveServer(t, newServer(t, newFakeDesk(t)))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Hold(t.Context()); !errors.Is(err, ErrNoBridge) || errors.Is(err, ErrNoAnswer) {
		t.Errorf("after the end: got %v", err)
	}
}

// asUser runs do on a thread whose file access and identity are those of uid. The thread dies with the goroutine.
func asUser(t testing.TB, uid int, do func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	var thread sync.WaitGroup
	thread.Go(func() {
		runtime.LockOSThread()
		id := uintptr(uid)
		_, _, groups := syscall.RawSyscall(syscall.SYS_SETGROUPS, 0, 0, 0)
		_, _, group := syscall.RawSyscall(syscall.SYS_SETRESGID, id, id, id)
		_, _, user := syscall.RawSyscall(syscall.SYS_SETRESUID, id, id, id)
		if groups != 0 || group != 0 || user != 0 {
			t.Error(groups, group, user)
			return
		}
		do()
	})
	thread.Wait()
}

func TestClosedSocketSaysWhoMayUseIt(t *testing.T) {
	t.Parallel()
	client, _ := serveServer(t, newServer(t, newFakeDesk(t)))
	asUser(t, 65534, func() {
		_, err := Dial(t.Context(), client.path)
		if !errors.Is(err, ErrNoAccess) || errors.Is(err, ErrNoBridge) {
			t.Errorf("got %v", err)
			return
		}
		for _, want := range []string{client.path, "0660", "root:"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not name %q", err, want)
			}
		}
	})
}

func TestClosedFolderIsNoAccess(t *testing.T) {
	t.Parallel()
	client, _ := serveServer(t, newServer(t, newFakeDesk(t)))
	if err := os.Chmod(filepath.Dir(client.path), 0o700); err != nil {
		t.Fatal(err)
	}
	asUser(t, 65534, func() {
		if _, err := Dial(t.Context(), client.path); !errors.Is(err, ErrNoAccess) || !strings.Contains(err.Error(), "folder") {
			t.Errorf("got %v", err)
		}
	})
}

func TestKernelSaysWhoAsksNotTheClient(t *testing.T) {
	t.Parallel()
	desk := newFakeDesk(t)
	client, _ := serveServer(t, newServer(t, desk))
	if err := os.Chmod(client.path, 0o666); err != nil {
		t.Fatal(err)
	}
	set := func(given string) string {
		if err := client.SetHold(t.Context(), bridge.Hold{Actor: given}); err != nil {
			t.Error(err)
		}
		h, err := desk.Hold(t.Context())
		if err != nil {
			t.Error(err)
		}
		return h.Actor
	}
	for given, want := range map[string]string{
		"":                                     me(t),
		"socket:mallory":                       me(t),
		"cli:root (INC-311)":                   me(t) + " (INC-311)",
		"cli:root (a (b) c)":                   me(t) + " (a (b) c)",
		"socket:mallory) (x":                   me(t),
		" (only a reason)":                     me(t) + " (only a reason)",
		"x ()":                                 me(t),
		"x (" + strings.Repeat("é", 600) + ")": me(t) + " (" + strings.Repeat("é", 512) + "…)",
	} {
		if got := set(given); got != want {
			t.Errorf("%q: got %q, want %q", given, got, want)
		}
	}
	// The dialling happens on the thread of the caller, so its user is the one the kernel sees.
	for uid, want := range map[int]string{65534: "socket:nobody", 54321: "socket:uid54321"} {
		asUser(t, uid, func() {
			conn, err := net.Dial("unix", client.path)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			if _, err := request(conn, "POST", pathHold, `{"active":false,"actor":"socket:root (drill)"}`, nil); err != nil {
				t.Error(err)
			}
			h, err := desk.Hold(t.Context())
			if err != nil || h.Actor != want+" (drill)" {
				t.Errorf("got %q, %v, want %q", h.Actor, err, want)
			}
		})
	}
}

// request speaks HTTP itself, so that it can say what no client of ours says.
func request(conn net.Conn, method, path, body string, change func(http.Header, *http.Request)) (*http.Response, error) {
	r, err := http.NewRequest(method, "http://"+hostName+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	if change != nil {
		change(r.Header, r)
	}
	if err := r.Write(conn); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	resp.Body = io.NopCloser(bytes.NewReader(data))
	return resp, err
}

func TestRequestsNoClientSendsAreRefused(t *testing.T) {
	t.Parallel()
	client, _ := serveServer(t, newServer(t, newFakeDesk(t)))
	const send = `{"orders":[{"id":"o1","host":"h","task":"isolateHost","params":{"action":1}%s}]}`
	for name, test := range map[string]struct {
		method, path, body string
		change             func(http.Header, *http.Request)
		status             int
		code               string
	}{
		"a good one":        {"POST", pathOrder, `{"id":"o00"}`, nil, 200, ""},
		"a good order":      {"POST", pathSend, fmt.Sprintf(send, ""), nil, 200, ""},
		"with an Origin":    {"GET", pathHold, "", func(h http.Header, _ *http.Request) { h.Set("Origin", "null") }, 403, "forbidden"},
		"an empty Origin":   {"GET", pathHold, "", func(h http.Header, _ *http.Request) { h["Origin"] = []string{""} }, 403, "forbidden"},
		"from a page":       {"GET", pathHold, "", func(h http.Header, _ *http.Request) { h.Set("Sec-Fetch-Site", "same-origin") }, 403, "forbidden"},
		"for another host":  {"GET", pathHold, "", func(_ http.Header, r *http.Request) { r.Host = "evil.example" }, 403, "forbidden"},
		"as a form":         {"POST", pathOrder, `{"id":"o00"}`, func(h http.Header, _ *http.Request) { h.Set("Content-Type", "text/plain") }, 400, "invalid"},
		"an unknown field":  {"POST", pathOrder, `{"id":"o00","force":true}`, nil, 400, "invalid"},
		"a field twice":     {"POST", pathOrder, `{"id":"o00","ID":"o10"}`, nil, 400, "invalid"},
		"two values":        {"POST", pathOrder, `{"id":"o00"}{}`, nil, 400, "invalid"},
		"no body":           {"POST", pathOrder, ``, nil, 400, "invalid"},
		"a query":           {"GET", pathHold + "?x=1", ``, nil, 400, "invalid"},
		"an unknown path":   {"POST", "/v1/orders", `{}`, nil, 400, "invalid"},
		"an unknown method": {"DELETE", pathHold, ``, nil, 400, "invalid"},
		"17 MiB":            {"POST", pathOrder, `{"id":"` + strings.Repeat("a", maxBody) + `"}`, nil, 413, "too_large"},
		"order with state":  {"POST", pathSend, fmt.Sprintf(send, `,"state":"queued"`), nil, 400, "invalid"},
		"order as a rule":   {"POST", pathSend, fmt.Sprintf(send, `,"rule":"x"`), nil, 400, "invalid"},
		"order approved":    {"POST", pathSend, fmt.Sprintf(send, `,"approval":{"by":"x"}`), nil, 400, "invalid"},
		"unknown mode":      {"POST", pathSend, fmt.Sprintf(send, `,"mode":"yes"`), nil, 400, "invalid"},
		"unknown via":       {"POST", pathSend, fmt.Sprintf(send, `,"via":"ssh"`), nil, 400, "invalid"},
		"bad params":        {"POST", pathSend, `{"orders":[{"id":"o1","host":"h","task":"isolateHost","params":{}}]}`, nil, 400, "invalid"},
		"short hash":        {"POST", pathVerify, `{"known":{"seq":1,"hash":"00"}}`, nil, 400, "invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("unix", client.path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			resp, err := request(conn, test.method, test.path, test.body, test.change)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != test.status || !strings.Contains(string(body), `"code":"`+test.code) && test.code != "" {
				t.Errorf("got %d %s, want %d %s", resp.StatusCode, body, test.status, test.code)
			}
			if got := resp.Header.Get("Content-Type"); got != "application/json" || resp.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("headers %v", resp.Header)
			}
		})
	}
}

func TestArchiveFitsIntoARequest(t *testing.T) {
	t.Parallel()
	client := serveDesk(t, newFakeDesk(t))
	ioc := strings.Repeat("QUJD", 2<<20)
	done, err := client.Send(t.Context(), []bridge.Order{{ID: "o1", Host: "h", Task: bridge.IOCScan{IOC: ioc}}})
	if err != nil || len(done) != 1 || done[0].Task != bridge.Task(bridge.IOCScan{IOC: ioc}) {
		t.Errorf("%d orders, %v", len(done), err)
	}
}

func TestSendGoesOnWhenItsClientLeaves(t *testing.T) {
	t.Parallel()
	desk := newFakeDesk(t)
	began, left, result := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	desk.sending = func(ctx context.Context) error {
		close(began)
		<-left
		if _, bounded := ctx.Deadline(); !bounded {
			result <- errors.New("no deadline")
			return nil
		}
		result <- ctx.Err()
		return nil
	}
	client := serveDesk(t, desk)
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := client.Send(ctx, []bridge.Order{{ID: "o77", Host: "h", Task: bridge.IsolateHost{Action: 1}}})
		gone <- err
	}()
	<-began
	leave()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("the client got %v", err)
	}
	// The server notices a closed connection behind our back: ask it something else until it had the time to.
	for range 3 {
		if _, err := client.Status(t.Context()); err != nil {
			t.Error(err)
		}
	}
	close(left)
	if err := <-result; err != nil {
		t.Errorf("the work was told to stop: %v", err)
	}
}

func TestSendsLeaveRoomForTheHold(t *testing.T) {
	t.Parallel()
	desk := newFakeDesk(t)
	began, release := make(chan struct{}, maxSends), make(chan struct{})
	desk.sending = func(context.Context) error { began <- struct{}{}; <-release; return nil }
	client := serveDesk(t, desk)
	var sends sync.WaitGroup
	one := []bridge.Order{{ID: "o77", Host: "h", Task: bridge.IsolateHost{Action: 1}}}
	for range maxSends {
		sends.Go(func() {
			if _, err := client.Send(t.Context(), one); err != nil {
				t.Error(err)
			}
		})
	}
	for range maxSends {
		<-began
	}
	if _, err := client.Send(t.Context(), one); err == nil || !strings.Contains(err.Error(), "busy") {
		t.Errorf("one send too many: got %v", err)
	}
	if err := client.SetHold(t.Context(), bridge.Hold{Active: true}); err != nil {
		t.Errorf("hold: %v", err)
	}
	close(release)
	sends.Wait()
}

func TestShutdownWaitsThenStopsWhatGoesOn(t *testing.T) {
	t.Parallel()
	desk := newFakeDesk(t)
	began := make(chan struct{})
	desk.sending = func(ctx context.Context) error { close(began); <-ctx.Done(); return context.Cause(ctx) }
	s := newServer(t, desk)
	s.drain = 20 * time.Millisecond
	client, stop := serveServer(t, s)
	gone := make(chan error, 1)
	go func() {
		_, err := client.Send(context.WithoutCancel(t.Context()), []bridge.Order{{ID: "o77", Host: "h", Task: bridge.IsolateHost{Action: 1}}})
		gone <- err
	}()
	<-began
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := <-gone; err == nil || !errors.Is(err, errClosing) {
		t.Errorf("the client got %v", err)
	}
	if _, err := os.Lstat(client.path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

func TestShutdownLetsARequestFinish(t *testing.T) {
	t.Parallel()
	desk := newFakeDesk(t)
	began, release := make(chan struct{}), make(chan struct{})
	desk.sending = func(ctx context.Context) error { close(began); <-release; return ctx.Err() }
	client, stop := serveServer(t, newServer(t, desk))
	gone := make(chan error, 1)
	go func() {
		_, err := client.Send(context.WithoutCancel(t.Context()), []bridge.Order{{ID: "o77", Host: "h", Task: bridge.IsolateHost{Action: 1}}})
		gone <- err
	}()
	<-began
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	for {
		if _, err := os.Lstat(client.path); err != nil {
			break
		}
		runtime.Gosched()
	}
	close(release)
	if err := <-gone; err != nil {
		t.Errorf("the client got %v", err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestChangeTakesNoLongerThanItsDeadline(t *testing.T) {
	t.Parallel()
	desk := newFakeDesk(t)
	desk.sending = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	s := newServer(t, desk)
	s.cfg.Timeout = 10 * time.Millisecond
	client, _ := serveServer(t, s)
	_, err := client.Send(t.Context(), []bridge.Order{{ID: "o77", Host: "h", Task: bridge.IsolateHost{Action: 1}}})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestLongQuestionOutlivesTheTimeToReadIt(t *testing.T) {
	t.Parallel()
	desk := newFakeDesk(t)
	desk.verifying = func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return errors.New("the time to read counts for the work")
		case <-time.After(150 * time.Millisecond):
			return nil
		}
	}
	s := newServer(t, desk)
	s.body = 50 * time.Millisecond
	client, _ := serveServer(t, s)
	if _, err := client.VerifyAudit(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func TestQuestionEndsWhenItsClientLeaves(t *testing.T) {
	t.Parallel()
	desk := newFakeDesk(t)
	began, ended := make(chan struct{}), make(chan struct{})
	desk.verifying = func(ctx context.Context) error { close(began); <-ctx.Done(); close(ended); return ctx.Err() }
	client := serveDesk(t, desk)
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := client.VerifyAudit(ctx, nil)
		gone <- err
	}()
	<-began
	leave()
	<-ended
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("the client got %v", err)
	}
}

func TestLostAnswerIsNotTakenForNoBridge(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var server sync.WaitGroup
	server.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 10))
			_ = conn.Close()
		}
	})
	client, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.SetHold(t.Context(), bridge.Hold{}); !errors.Is(err, ErrNoAnswer) || errors.Is(err, ErrNoBridge) {
		t.Errorf("got %v", err)
	}
	_ = listener.Close()
	server.Wait()
}

func TestStatusIsAnswered(t *testing.T) {
	t.Parallel()
	client := serveDesk(t, newFakeDesk(t))
	got, err := client.Status(t.Context())
	if err != nil || got.Version != "1.2.3" || got.PID != os.Getpid() || got.Held != 3 || got.Leases != 1 || got.Mode != bridge.ModeShadow {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestListenerWaitsWhenItsSlotsAreTaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(2)
		for range 2 {
			if !s.take() {
				t.Fatal("two slots are not two")
			}
		}
		third := make(chan bool, 2)
		go func() { third <- s.take() }()
		synctest.Wait()
		if len(third) != 0 {
			t.Error("a third slot was given")
		}
		s.give()
		if !<-third {
			t.Error("the slot given back was not given")
		}
		go func() { third <- s.take() }()
		synctest.Wait()
		s.close()
		if <-third {
			t.Error("a slot was given after the end")
		}
	})
}
