package ksc

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// fakeWire answers without sockets, so that time can be fake.
type fakeWire struct {
	mu    sync.Mutex
	down  bool
	after error // an error after the request left
	calls []string
}

func (f *fakeWire) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := strings.TrimPrefix(r.URL.Path, "/api/v1.0/")
	f.calls = append(f.calls, name)
	if f.down {
		return nil, &connectError{"connect", errors.New("connection refused")}
	}
	if f.after != nil && name != "Session.StartSession" {
		attemptOf(r.Context()).sent = true
		return nil, f.after
	}
	body := `{"PxgRetVal":17}`
	switch name {
	case "Session.StartSession":
		body = `{"PxgRetVal":"nsPbUpP1oAVZlM1lODEbg8A=="}`
	case "Session.Ping":
		body = `{}`
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: -1}, nil
}

func (f *fakeWire) set(down bool, after error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down, f.after, f.calls = down, after, nil
}

func (f *fakeWire) seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.calls...)
}

func fakeClient(t testing.TB) (*Client, *fakeWire) {
	t.Helper()
	cfg := Config{
		Address: "ksc01:13299", User: "u", SystemRoots: true, Retries: -1,
		Password: func(context.Context) ([]byte, error) { return []byte("p"), nil },
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	wire := &fakeWire{}
	cfg.setDefaults()
	cfg.Retries = 0
	c.rest = newREST(cfg, wire)
	return c, wire
}

func addOne(ctx context.Context, c *Client) (bridge.Class, error) {
	_, err := c.AddIncident(ctx, NewIncident{Host: "h", Body: "{}", Added: DateTime{time.Now()}})
	if ce, ok := errors.AsType[*CallError](err); ok {
		return ce.Class, err
	}
	return -1, err
}

func TestF16BreakerStopsAskingAndStartsWithAHarmlessRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, wire := fakeClient(t)
		ctx := t.Context()
		wire.set(true, nil)
		for range breakerTrips {
			if class, err := addOne(ctx, c); class != bridge.Unreachable || !strings.Contains(err.Error(), "connection refused") {
				t.Fatalf("got %v", err)
			}
		}
		wire.set(true, nil)
		class, err := addOne(ctx, c)
		if class != bridge.Unreachable || len(wire.seen()) != 0 {
			t.Fatalf("open breaker: %v, asked %v", err, wire.seen())
		}
		if !strings.Contains(err.Error(), "connection refused") || !strings.Contains(err.Error(), "tried again") {
			t.Errorf("the refusal does not say why: %v", err)
		}

		time.Sleep(breakerPause + time.Millisecond)
		if class, err := addOne(ctx, c); class != bridge.Unreachable || len(wire.seen()) != 1 {
			t.Fatalf("probe of a server still away: %v, asked %v", err, wire.seen())
		}
		if _, err := addOne(ctx, c); err == nil || len(wire.seen()) != 1 {
			t.Fatalf("open again: %v, asked %v", err, wire.seen())
		}

		time.Sleep(breakerPause + time.Millisecond)
		wire.set(false, nil)
		if _, err := addOne(ctx, c); err != nil {
			t.Fatal(err)
		}
		want := "Session.StartSession Session.Ping HostGroup.AddIncident"
		if got := strings.Join(wire.seen(), " "); got != want {
			t.Errorf("after the pause it asked %s, want %s", got, want)
		}
	})
}

func TestF16ProbeThatGetsNoAnswerKeepsTheEffectHome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, wire := fakeClient(t)
		wire.set(true, nil)
		for range breakerTrips {
			_, _ = addOne(t.Context(), c)
		}
		time.Sleep(breakerPause + time.Millisecond)
		wire.set(false, io.ErrUnexpectedEOF)
		class, err := addOne(t.Context(), c)
		if class != bridge.Retry {
			t.Errorf("got %v", err)
		}
		for _, name := range wire.seen() {
			if name == methodAddIncident.name {
				t.Error("the effect itself was the probe")
			}
		}
	})
}

func TestBreakerCountsOnlySilenceOfTheServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, wire := fakeClient(t)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for range 3 * breakerTrips {
			_, _ = addOne(ended, c)
		}
		if _, err := addOne(t.Context(), c); err != nil {
			t.Fatalf("callers that left opened the breaker: %v", err)
		}
		wire.set(false, io.EOF)
		for range breakerTrips {
			if class, err := addOne(t.Context(), c); class != bridge.Unknown {
				t.Fatalf("got %v", err)
			}
		}
		if class, _ := addOne(t.Context(), c); class != bridge.Unreachable || len(wire.seen()) != breakerTrips {
			t.Errorf("lost answers do not open the breaker: %v", wire.seen())
		}
	})
}
