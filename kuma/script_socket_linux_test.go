package kuma

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/kuma/callout"
	"github.com/edr-bridge/edr-bridge/peersocket"
)

func TestTheSocketAnswersHowTheOrderStands(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(filepath.Dir(newSpool(t)), "s")
	var orders []bridge.Order
	var ordersErr error
	s := runScript(t, newScript(t, func(c *ScriptConfig) {
		c.Socket = socket
		c.Orders = func(_ context.Context, source, id string) ([]bridge.Order, error) {
			if source != "kuma" || id != "k00000001" {
				t.Errorf("asked for %s %s", source, id)
			}
			return orders, ordersErr
		}
	}))
	var settle error
	var pipe sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer pipe.Wait()
	defer stop()
	pipe.Go(func() {
		for {
			d, err := s.Receive(ctx)
			if err != nil {
				return
			}
			_ = d.Settle(ctx, settle)
		}
	})
	ask := func() (callout.Result, error) {
		return callout.HandOver(t.Context(), callout.HandOverConfig{Socket: socket, Budget: 5 * time.Second}, newCall(1))
	}
	for _, c := range []struct {
		orders []bridge.Order
		err    error
		settle error
		want   callout.Result
		fail   string
	}{
		{
			orders: []bridge.Order{{ID: "o1", State: bridge.StateQueued}},
			want:   callout.Result{State: "queued", OrderID: "o1"},
		},
		{
			orders: []bridge.Order{{ID: "o2", State: bridge.StateDuplicate, Covers: "o1", Reason: bridge.ReasonDedupe, Detail: "a\nb"}},
			want:   callout.Result{State: "duplicate", OrderID: "o2", CoveredBy: "o1", Reason: "dedupe", Detail: `a\nb`},
		},
		{orders: []bridge.Order{{ID: "o3", State: bridge.StateRefused, Reason: bridge.ReasonProtectedHost}}, want: callout.Result{State: "refused", OrderID: "o3", Reason: "protect.hosts"}},
		{want: callout.Result{State: callout.CallNone, Detail: "no order came of it"}},
		{err: errors.New("disk"), want: callout.Result{State: callout.CallStored, Detail: "how its orders stand cannot be told"}},
		{settle: fmt.Errorf("no level: %w", bridge.ErrBadAlert), fail: "the bridge refuses the call: no level: bad alert"},
		{settle: errors.New("disk full"), fail: "the call could not be kept: the bridge answers 503: disk full, and no spool directory is set"},
	} {
		orders, ordersErr, settle = c.orders, c.err, c.settle
		got, err := ask()
		c.want.ID = "k00000001"
		if got != c.want {
			t.Errorf("got %+v, want %+v", got, c.want)
		}
		if c.fail == "" && err != nil || c.fail != "" && (err == nil || err.Error() != c.fail) {
			t.Errorf("got error %v, want %q", err, c.fail)
		}
	}
}

// TestTheSocketTakesNothingButCalls sends what is no call, and a good call at the end to see that nothing broke.
func TestTheSocketTakesNothingButCalls(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(filepath.Dir(newSpool(t)), "s")
	s := runScript(t, newScript(t, func(c *ScriptConfig) { c.Socket = socket }))
	doc, err := newCall(1).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	length := fmt.Sprintf("Content-Length: %d\r\n", len(doc))
	event := newCall(2)
	event.EventID = scriptEventID
	eventDoc, err := event.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		request string
		want    string
	}{
		"garbage":         {"\x00\xff\x01garbage\r\n\r\n", "400"},
		"not HTTP":        {"{\"id\":1}\n\n", "400"},
		"GET":             {"GET /v1/calls HTTP/1.1\r\nHost: k\r\n\r\n", "405"},
		"control path":    {"POST /v1/resume HTTP/1.1\r\nHost: k\r\nContent-Length: 0\r\n\r\n", "404"},
		"orders":          {"GET /v1/orders HTTP/1.1\r\nHost: k\r\n\r\n", "404"},
		"no length":       {"POST /v1/calls HTTP/1.1\r\nHost: k\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "411"},
		"encoded":         {"POST /v1/calls HTTP/1.1\r\nHost: k\r\nContent-Encoding: gzip\r\n" + length + "\r\n" + string(doc), "415"},
		"too long":        {"POST /v1/calls HTTP/1.1\r\nHost: k\r\nContent-Length: 99999999\r\n\r\n", "413"},
		"negative length": {"POST /v1/calls HTTP/1.1\r\nHost: k\r\nContent-Length: -1\r\n\r\n", "400"},
		"two lengths":     {"POST /v1/calls HTTP/1.1\r\nHost: k\r\n" + length + "Content-Length: 3\r\n\r\n" + string(doc), "400"},
		"empty":           {"POST /v1/calls HTTP/1.1\r\nHost: k\r\nContent-Length: 0\r\n\r\n", "400"},
		"no JSON":         {"POST /v1/calls HTTP/1.1\r\nHost: k\r\nContent-Length: 5\r\n\r\nhello", "400"},
		"cut off":         {"POST /v1/calls HTTP/1.1\r\nHost: k\r\n" + length + "\r\n" + string(doc[:20]), "400"},
		"event to fetch":  {fmt.Sprintf("POST /v1/calls HTTP/1.1\r\nHost: k\r\nContent-Length: %d\r\n\r\n%s", len(eventDoc), eventDoc), "422"},
		"huge header":     {"POST /v1/calls HTTP/1.1\r\nHost: k\r\nX: " + strings.Repeat("a", 64<<10) + "\r\n\r\n", "431"},
	} {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = conn.Write([]byte(c.request))
		_ = conn.(*net.UnixConn).CloseWrite()
		response, _ := io.ReadAll(conn)
		_ = conn.Close()
		// A connection cut off in the middle may also be closed without an answer.
		if status := strings.SplitN(string(response), " ", 3); len(status) < 2 || status[1] != c.want {
			if name != "cut off" && name != "huge header" || len(response) != 0 {
				t.Errorf("%s: got %.80q, want %s", name, response, c.want)
			}
		}
	}
	scriptNothing(t, s, 100*time.Millisecond)
	answer := make(chan error, 1)
	go func() {
		_, err := callout.HandOver(context.Background(), callout.HandOverConfig{Socket: socket, Budget: 5 * time.Second}, newCall(3))
		answer <- err
	}()
	d := scriptNext(t, s)
	if err := errors.Join(d.Settle(t.Context(), nil), <-answer); err != nil || d.Alert.ID != "k00000003" {
		t.Errorf("after all that: %s, %v", d.Alert.ID, err)
	}
}

func TestTheSocketIsTheGroupsAndStopsWithItsSource(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(filepath.Dir(newSpool(t)), "s")
	s := runScript(t, newScript(t, func(c *ScriptConfig) { c.Socket = socket }))
	info, err := os.Lstat(socket)
	if err != nil || info.Mode() != os.ModeSocket|0o660 {
		t.Fatalf("mode %s: %v", info.Mode(), err)
	}
	if _, err := peersocket.Listen(t.Context(), socket, "", nil); !errors.Is(err, peersocket.ErrInUse) {
		t.Errorf("a second bridge: %v", err)
	}
	// A call nobody takes is answered when the source ends.
	answer := make(chan error, 1)
	go func() {
		_, err := callout.HandOver(context.Background(), callout.HandOverConfig{Socket: socket, Budget: 10 * time.Second}, newCall(1))
		answer <- err
	}()
	d := scriptNext(t, s)
	begin := time.Now()
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-answer; err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("closing took %s", took)
	}
	if err := d.Settle(t.Context(), nil); err != nil {
		t.Errorf("settled late: %v", err)
	}
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := peersocket.Listen(t.Context(), socket, "", nil); err == nil {
		t.Error("a file was replaced by the socket")
	}
}

func TestSlowCallersDoNotKeepOthersOut(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(filepath.Dir(newSpool(t)), "s")
	s := runScript(t, newScript(t, func(c *ScriptConfig) { c.Socket = socket }))
	for range scriptMaxConns + 20 {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			break // the queue of the kernel is full
		}
		defer func() { _ = conn.Close() }()
		_, _ = conn.Write([]byte("POST /v1/calls HTTP/1.1\r\n"))
	}
	answer := make(chan error, 1)
	go func() {
		_, err := callout.HandOver(context.Background(), callout.HandOverConfig{Socket: socket, Budget: 10 * time.Second}, newCall(1))
		answer <- err
	}()
	d := scriptNext(t, s)
	if err := errors.Join(d.Settle(t.Context(), nil), <-answer); err != nil {
		t.Error(err)
	}
}

// A client of another program speaks plain HTTP to the socket: the protocol is no secret of ours.
func TestAnyHTTPClientCanCall(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(filepath.Dir(newSpool(t)), "s")
	s := runScript(t, newScript(t, func(c *ScriptConfig) { c.Socket = socket }))
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	doc, err := newCall(1).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	answer := make(chan string, 1)
	go func() {
		r, err := client.Post("http://kuma/v1/calls", "application/json", bytes.NewReader(doc))
		if err != nil {
			answer <- err.Error()
			return
		}
		defer func() { _ = r.Body.Close() }()
		body, _ := io.ReadAll(r.Body)
		answer <- fmt.Sprint(r.StatusCode, " ", string(body))
	}()
	if err := scriptNext(t, s).Settle(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if got, want := <-answer, `200 {"id":"k00000001","state":"stored"}`+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
