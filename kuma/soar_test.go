package kuma

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/bridgetest"
	"github.com/edr-bridge/edr-bridge/kuma/kumatest"
)

const soarTestToken = "soar-0b7e-secret"

func soarConfig(client AlertReader) SOARConfig {
	return SOARConfig{
		Name: "soar", Preset: "kuma-alert", Client: client,
		Token: func(context.Context) ([]byte, error) { return []byte(soarTestToken + "\n"), nil },
	}
}

// serveSOAR mounts the source and returns a pusher for it.
func serveSOAR(t *testing.T, cfg SOARConfig) (*SOAR, kumatest.SOAR) {
	t.Helper()
	s, err := NewSOAR(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(context.Background()) })
	web := httptest.NewServer(s)
	t.Cleanup(func() {
		_ = s.Close(context.Background())
		web.Close()
		wg.Wait()
	})
	return s, kumatest.SOAR{URL: web.URL, Token: soarTestToken, Place: "header:Token"}
}

func TestSOARIsASource(t *testing.T) {
	t.Parallel()
	bridgetest.TestSource(t, func(t *testing.T) bridgetest.SourceUnderTest {
		t.Helper()
		srv := startKuma(t, nil)
		s, pusher := serveSOAR(t, soarConfig(newTestClient(t, srv, nil)))
		sent := 0
		return bridgetest.SourceUnderTest{
			Source: s, Name: "soar", Preset: "kuma-alert",
			Documents: func(n int) [][]byte {
				docs := make([][]byte, 0, n)
				for range n {
					sent++
					docs = append(docs, testAlert(sent, sent, "ws-017"))
				}
				return docs
			},
			Send: func(ctx context.Context, doc []byte) error {
				var head struct{ ID string }
				if err := errors.Join(json.Unmarshal(doc, &head), srv.PutAlert(doc)); err != nil {
					return err
				}
				reply, err := pusher.Push(ctx, head.ID)
				if err == nil && !reply.Taken() {
					err = fmt.Errorf("answered %d %s", reply.Status, reply.Body)
				}
				return err
			},
			Close: s.Close,
		}
	})
}

func TestSOARTakesTheTokenWhereverItComesAndLogsThePlaceOnce(t *testing.T) {
	t.Parallel()
	for place, want := range map[string]string{
		"bearer": "header Authorization", "header:Authorization": "header Authorization", "header:Token": "header Token",
		"header:X-Token": "header X-Token", "query:token": "query token", "form:token": "form token", "query:api_token": "query api_token",
	} {
		srv := startKuma(t, nil)
		putAlert(t, srv, testAlert(1, 1, "h"))
		var logs lockedText
		cfg := soarConfig(newTestClient(t, srv, nil))
		cfg.Logger = slog.New(slog.NewTextHandler(&logs, nil))
		s, pusher := serveSOAR(t, cfg)
		pusher.Place = place
		if !strings.HasPrefix(place, "form") {
			if reply, err := pusher.Probe(t.Context()); err != nil || !reply.Taken() {
				t.Errorf("%s: probe %d %s (%v)", place, reply.Status, reply.Body, err)
			}
		}
		var wg sync.WaitGroup
		wg.Go(func() { settle(t, receive(t, s), nil) })
		reply, err := pusher.Push(t.Context(), testID(1, 1))
		if err != nil || !reply.Taken() {
			t.Errorf("%s: push %d %s (%v)", place, reply.Status, reply.Body, err)
		}
		wg.Wait()
		if text := logs.String(); strings.Count(text, want) != 1 || strings.Contains(text, soarTestToken) {
			t.Errorf("%s: log is %s", place, text)
		}
	}
}

func TestA1SOARRefusesWithoutTheToken(t *testing.T) {
	t.Parallel()
	srv := startKuma(t, nil)
	var logs lockedText
	cfg := soarConfig(newTestClient(t, srv, nil))
	cfg.Logger = slog.New(slog.NewTextHandler(&logs, nil))
	_, pusher := serveSOAR(t, cfg)
	for _, p := range []kumatest.SOAR{
		{Place: ""},
		{Place: "header:Token", Token: ""},
		{Place: "header:Token", Token: soarTestToken + "x"},
		{Place: "bearer", Token: "guess-" + soarTestToken[:4]},
		{Place: "header:X-Else", Token: soarTestToken},
		{Place: "query:password", Token: soarTestToken},
	} {
		p.URL = pusher.URL
		for range 50 {
			for _, call := range []func() (kumatest.Reply, error){
				func() (kumatest.Reply, error) { return p.Probe(t.Context()) },
				func() (kumatest.Reply, error) { return p.Push(t.Context(), testID(1, 1)) },
			} {
				if reply, err := call(); err != nil || reply.Status != http.StatusUnauthorized || reply.Taken() {
					t.Fatalf("%+v: %d %s (%v), want 401", p, reply.Status, reply.Body, err)
				}
			}
		}
	}
	if n := len(srv.Requests()); n != 0 {
		t.Errorf("KUMA was asked %d times", n)
	}
	if text := logs.String(); strings.Count(text, "\n") > soarMaxLogged || strings.Contains(text, soarTestToken) || strings.Contains(text, "guess-") {
		t.Errorf("log is %s", text)
	}
}

func TestSOARAnswers503UntilTheAlertIsDurable(t *testing.T) {
	t.Parallel()
	srv := startKuma(t, nil)
	putAlert(t, srv, testAlert(1, 1, "h"))
	s, pusher := serveSOAR(t, soarConfig(newTestClient(t, srv, nil)))
	push := func(id string) kumatest.Reply {
		t.Helper()
		reply, err := pusher.Push(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	srv.Down()
	if r := push(testID(1, 1)); r.Status != http.StatusServiceUnavailable || s.Connected() {
		t.Errorf("REST out: %d, connected %v", r.Status, s.Connected())
	}
	if err := srv.Up(context.Background()); err != nil {
		t.Fatal(err)
	}
	srv.SetToken("other")
	if r := push(testID(1, 1)); r.Status != http.StatusServiceUnavailable || !errors.Is(s.Err(), ErrCredentials) {
		t.Errorf("REST refuses: %d, %v", r.Status, s.Err())
	}
	srv.SetToken(testToken)
	if r := push(testID(1, 2)); r.Status != http.StatusServiceUnavailable {
		t.Errorf("unknown alert: %d", r.Status)
	}
	for outcome, want := range map[error]int{
		errors.New("the store is full"):                 http.StatusServiceUnavailable,
		fmt.Errorf("no events: %w", bridge.ErrBadAlert): http.StatusOK,
		error(nil): http.StatusOK,
		fmt.Errorf("commit: %w", context.DeadlineExceeded): http.StatusServiceUnavailable,
		fmt.Errorf("stop: %w", bridge.ErrClosed):           http.StatusServiceUnavailable,
	} {
		var wg sync.WaitGroup
		wg.Go(func() {
			d := receive(t, s)
			if d.Alert.Case != testID(1, 1) || string(d.Alert.Raw) != string(testAlert(1, 1, "h")) {
				t.Errorf("delivered %+v", d.Alert)
			}
			settle(t, d, outcome)
		})
		if r := push(testID(1, 1)); r.Status != want || r.Taken() != (want == http.StatusOK) {
			t.Errorf("settled with %v: %d %s, want %d", outcome, r.Status, r.Body, want)
		}
		wg.Wait()
	}
	if !s.Connected() {
		t.Error("not connected after all")
	}
}

func TestSOARDoesNotHoldAPushForEver(t *testing.T) {
	t.Parallel()
	srv := startKuma(t, nil)
	putAlert(t, srv, testAlert(1, 1, "h"))
	cfg := soarConfig(newTestClient(t, srv, nil))
	cfg.Wait, cfg.InFlight = time.Second, 1
	s, pusher := serveSOAR(t, cfg)
	begin := time.Now()
	reply, err := pusher.Push(t.Context(), testID(1, 1)) // nobody receives
	if err != nil || reply.Status != http.StatusServiceUnavailable || time.Since(begin) > 20*time.Second {
		t.Errorf("%d (%v) after %s", reply.Status, err, time.Since(begin))
	}
	silent(t, s, 50*time.Millisecond)
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = pusher.Push(context.Background(), testID(1, 1)) })
	d := receive(t, s)
	if reply, err := pusher.Push(t.Context(), testID(1, 1)); err != nil || reply.Status != http.StatusServiceUnavailable {
		t.Errorf("second push at once: %d (%v)", reply.Status, err)
	}
	settle(t, d, nil)
	wg.Wait()
}

func TestSOARRefusesWhatIsNoForm(t *testing.T) {
	t.Parallel()
	s, err := NewSOAR(soarConfig(&fakeCore{}))
	if err != nil {
		t.Fatal(err)
	}
	form := "application/x-www-form-urlencoded"
	id := "alert_id=" + testID(1, 1)
	for _, c := range []struct {
		name, method, path, kind, body string
		header                         http.Header
		want                           int
	}{
		{"multipart", "POST", soarPushPath, "multipart/form-data; boundary=x", "--x\r\n\r\n--x--", nil, 415},
		{"json", "POST", soarPushPath, "application/json", `{}`, nil, 415},
		{"no type", "POST", soarPushPath, "", id, nil, 415},
		{"charset", "POST", soarPushPath, form + "; charset=koi8-r", id, nil, 415},
		{"A3 encoded", "POST", soarPushPath, form, id, http.Header{"Content-Encoding": {"gzip"}}, 415},
		{"too large", "POST", soarPushPath, form, id + "&x=" + strings.Repeat("a", soarMaxBody), nil, 413},
		{"fields", "POST", soarPushPath, form, id + strings.Repeat("&", soarMaxFields), nil, 400},
		{"twice", "POST", soarPushPath, form, id + "&" + id, nil, 400},
		{"escape", "POST", soarPushPath, form, id + "&a=%zz", nil, 400},
		{"NUL", "POST", soarPushPath, form, id + "&a=%00", nil, 400},
		{"not UTF-8", "POST", soarPushPath, form, id + "&a=%ff", nil, 400},
		{"semicolon", "POST", soarPushPath, form, id + ";a=b", nil, 400},
		{"no id", "POST", soarPushPath, form, "kuma_url=x", nil, 400},
		{"other id", "POST", soarPushPath, form, "alert_id=" + url.QueryEscape("1' OR '1'='1"), nil, 400},
		{"path in id", "POST", soarPushPath, form, "alert_id=../../x", nil, 400},
		{"method", "PUT", soarPushPath, form, id, nil, 405},
		{"probe by POST", "POST", soarProbePath, form, "", nil, 405},
		{"other path", "GET", "/api/v2/incidents/../x", "", "", nil, 404},
		{"root", "GET", "/", "", "", nil, 404},
	} {
		r := httptest.NewRequest(c.method, "http://localhost"+c.path, strings.NewReader(c.body))
		maps.Copy(r.Header, c.header)
		r.Header.Set("Content-Type", c.kind)
		r.Header.Set("Token", soarTestToken)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != c.want || strings.Contains(w.Body.String(), "true") || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s: %d %s, want %d", c.name, w.Code, w.Body, c.want)
		}
	}
}

func TestNewSOARChecksItsSettings(t *testing.T) {
	t.Parallel()
	good := soarConfig(&fakeCore{})
	for want, change := range map[string]func(*SOARConfig){
		"name":      func(c *SOARConfig) { c.Name = "" },
		"client":    func(c *SOARConfig) { c.Client = nil },
		"token":     func(c *SOARConfig) { c.Token = nil },
		"alert tag": func(c *SOARConfig) { c.AlertTag = "api_token" },
		"wait":      func(c *SOARConfig) { c.Wait = time.Hour },
		"in flight": func(c *SOARConfig) { c.InFlight = -1 },
	} {
		cfg := good
		change(&cfg)
		if _, err := NewSOAR(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func FuzzSOARForm(f *testing.F) {
	f.Add([]byte("alert_id=00000000-0000-0000-0000-000000000000&kuma_url=https%3A%2F%2Fk%2F&company=Main&level=%D0%92"))
	f.Add([]byte("a=b&&=&c"))
	f.Add([]byte("a=%&b=%00;c"))
	f.Fuzz(func(t *testing.T, body []byte) {
		form, err := parseSOARForm(body)
		if err != nil {
			return
		}
		// What is accepted is what the standard library reads, and fits its limits.
		want, err := url.ParseQuery(string(body))
		if err != nil || len(want) != len(form) || len(form) > soarMaxFields {
			t.Fatalf("%q: %d fields, the standard library has %d (%v)", body, len(form), len(want), err)
		}
		for k, v := range form {
			if len(want[k]) != 1 || want[k][0] != v || len(v) > soarMaxValue || strings.ContainsRune(v, 0) {
				t.Errorf("%q: field %q is %q, want %q", body, k, v, want[k])
			}
		}
		if strings.ContainsAny(form.names(), "\r\n\x1b") {
			t.Errorf("names are %q", form.names())
		}
	})
}

// lockedText is a log several goroutines write to.
type lockedText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
