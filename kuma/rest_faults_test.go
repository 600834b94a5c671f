package kuma

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/kuma/kumatest"
	"github.com/edr-bridge/edr-bridge/servercert"
)

func TestClosingWhoseAnswerIsLostIsRepeatedSafely(t *testing.T) {
	t.Parallel()
	srv := startKuma(t, nil)
	c := newTestClient(t, srv, func(c *Config) { c.Retries = 2 })
	putAlert(t, srv, testAlert(1, 1, "h"))
	srv.Inject(kumatest.Fault{Path: "alerts/close", CutAfter: true, Times: 1})
	if before, err := c.CloseAlert(t.Context(), testID(1, 1), CloseResponded); err != nil || !before {
		t.Errorf("closed before %v (%v), want true", before, err)
	}
}

func TestRefusedClosingsAreTyped(t *testing.T) {
	t.Parallel()
	for _, f := range []struct {
		status           int
		message, details string
	}{
		{400, "id required", ""},
		{403, "access denied", ""},
		{404, "alert not found", ""},
		{406, "tenant disabled", ""},
		{500, "cannot close", "correlator is\n not running"},
	} {
		srv := startKuma(t, nil)
		c := newTestClient(t, srv, nil)
		srv.Inject(kumatest.Fault{Path: "alerts/close", Status: f.status, Message: f.message, Details: f.details})
		_, err := c.CloseAlert(t.Context(), testID(1, 1), CloseResponded)
		api, ok := errors.AsType[*APIError](err)
		if !ok || api.Status != f.status || api.Message != f.message || strings.Contains(api.Details, "\n") || !strings.HasSuffix(api.Path, "alerts/close") {
			t.Errorf("%d %s: %#v", f.status, f.message, err)
		}
		if errors.Is(err, ErrCredentials) != (f.status == 403) {
			t.Errorf("%d: credentials %v", f.status, errors.Is(err, ErrCredentials))
		}
		if restPassing(err) != (f.status == 500) {
			t.Errorf("%d: passing %v", f.status, restPassing(err))
		}
	}
}

func TestRequestsAreRepeatedOnlyWhileTheFailureMayPass(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		fault kumatest.Fault
		want  int // requests
		ok    bool
	}{
		{"503 passes", kumatest.Fault{Status: 503, Times: 2}, 3, true},
		{"429 passes", kumatest.Fault{Status: 429, Times: 1, Header: http.Header{"Retry-After": {"0"}}}, 2, true},
		{"cut before", kumatest.Fault{CutBefore: true, Times: 1}, 2, true},
		{"cut after", kumatest.Fault{CutAfter: true, Times: 1}, 2, true},
		{"503 stays", kumatest.Fault{Status: 503}, 3, false},
		{"400", kumatest.Fault{Status: 400}, 1, false},
		{"302", kumatest.Fault{Status: 302, Header: http.Header{"Location": {"https://127.0.0.1:1/"}}}, 1, false},
		{"not JSON", kumatest.Fault{Body: []byte("<html>login</html>")}, 1, false},
		{"object", kumatest.Fault{Body: []byte(`{"a":1}`)}, 1, false},
		{"cut JSON", kumatest.Fault{Body: []byte(`[{"id":`)}, 1, false},
		{"numbers", kumatest.Fault{Body: []byte(`[1,2]`)}, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			srv := startKuma(t, nil)
			cl := newTestClient(t, srv, func(c *Config) { c.Retries, c.Version, c.Jitter = 2, "v2", func() float64 { return 0 } })
			c.fault.Path = "alerts"
			srv.Inject(c.fault)
			_, err := cl.Alerts(t.Context(), AlertQuery{})
			if (err == nil) != c.ok {
				t.Errorf("error is %v", err)
			}
			if n := len(srv.Requests("alerts")); n != c.want {
				t.Errorf("%d requests, want %d", n, c.want)
			}
		})
	}
}

func TestA12AnswersAreBoundedInSizeAndTime(t *testing.T) {
	t.Parallel()
	srv := startKuma(t, nil)
	srv.Inject(kumatest.Fault{Path: "users/whoami", Body: []byte(`{"id":"` + strings.Repeat("x", restMaxAnswer) + `"}`)})
	if _, err := newTestClient(t, srv, nil).Whoami(t.Context()); !errors.Is(err, errRestTooLong) {
		t.Errorf("long answer: %v", err)
	}
	srv.Heal()
	srv.Inject(kumatest.Fault{Path: "users/whoami", Drip: 20 * time.Millisecond})
	begin := time.Now()
	_, err := newTestClient(t, srv, func(c *Config) { c.Timeout = 300 * time.Millisecond }).Whoami(t.Context())
	if took := time.Since(begin); err == nil || took > 20*time.Second {
		t.Errorf("dripping answer: %v after %s", err, took)
	}
	srv.Heal()
	srv.Inject(kumatest.Fault{Path: "alerts", Body: []byte(strings.Repeat("[", 100_000))})
	if _, err := newTestClient(t, srv, nil).Alerts(t.Context(), AlertQuery{}); err == nil {
		t.Error("deep answer is accepted")
	}
}

func TestWrongCertificateStopsBeforeTheTokenIsSent(t *testing.T) {
	t.Parallel()
	srv := startKuma(t, nil)
	c := newTestClient(t, srv, func(c *Config) { c.Retries = 2 })
	if err := srv.ChangeCertificate(); err != nil {
		t.Fatal(err)
	}
	_, err := c.Whoami(t.Context())
	pin, ok := errors.AsType[*servercert.PinError](err)
	if !ok || !strings.EqualFold(strings.ReplaceAll(pin.Certificate.Fingerprint, ":", ""), srv.Fingerprint()) {
		t.Fatalf("%v, want a PinError that names the fingerprint", err)
	}
	if n := len(srv.Requests()); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
	pinned := newTestClient(t, srv, func(c *Config) { c.CA, c.Fingerprints = nil, []string{strings.ToUpper(srv.Fingerprint())} })
	if _, err := pinned.Whoami(t.Context()); err != nil {
		t.Errorf("with its fingerprint: %v", err)
	}
	late := newTestClient(t, srv, func(c *Config) {
		c.CA, c.Fingerprints, c.Now = nil, []string{srv.Fingerprint()}, func() time.Time { return time.Now().AddDate(5, 0, 0) }
	})
	if _, err := late.Whoami(t.Context()); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("five years later: %v", err)
	}
}

func TestWrongCertificateIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	for _, err := range []error{&servercert.PinError{Err: errors.New("unknown")}, fmt.Errorf("read: %w", errRestTooLong)} {
		if again, _ := restAgain(t.Context(), nil, err); again {
			t.Errorf("%v is tried again", err)
		}
	}
	if again, _ := restAgain(t.Context(), nil, errors.New("connection reset")); !again {
		t.Error("a lost connection is not tried again")
	}
}

func TestWrongTokenIsACredentialsErrorAndNeverShown(t *testing.T) {
	t.Parallel()
	srv := startKuma(t, nil)
	var logs strings.Builder
	c := newTestClient(t, srv, func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c.Version = "v2"
	})
	srv.SetToken("other")
	_, err := c.Whoami(t.Context())
	if !errors.Is(err, ErrCredentials) || !strings.Contains(err.Error(), "kuma.token") {
		t.Errorf("%v, want ErrCredentials with a hint", err)
	}
	srv.Inject(kumatest.Fault{Status: 500, Message: "bad header Bearer " + testToken + ", that is " + testToken, Details: `{"token":"` + testToken + `"}`})
	_, err2 := c.Whoami(t.Context())
	texts := fmt.Sprintf("%v %+v %#v %v %+v %#v %s", err, err2, err2, c, c, c, logs.String())
	if strings.Contains(texts, testToken) {
		t.Errorf("the token shows in %s", texts)
	}
	for _, bad := range []string{"", "a b", "a\r\nX-Evil: 1", "\x00"} {
		odd := newTestClient(t, srv, func(c *Config) {
			c.Token = func(context.Context) ([]byte, error) { return []byte(bad), nil }
		})
		srv.ForgetRequests()
		if _, err := odd.Whoami(t.Context()); err == nil || len(srv.Requests()) != 0 {
			t.Errorf("token %q: %v, %d requests", bad, err, len(srv.Requests()))
		}
	}
}

func TestEndedContextEndsACallWithItsCause(t *testing.T) {
	t.Parallel()
	srv := startKuma(t, nil)
	srv.Inject(kumatest.Fault{Delay: 20 * time.Second})
	c := newTestClient(t, srv, func(c *Config) { c.Timeout = 30 * time.Second })
	cause := errors.New("the caller goes home")
	ctx, cancel := context.WithCancelCause(t.Context())
	timer := time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
	defer timer.Stop()
	if _, err := c.Whoami(ctx); !errors.Is(err, cause) {
		t.Errorf("%v, want the cause", err)
	}
}

func FuzzRestAnswers(f *testing.F) {
	f.Add(200, testAlert(1, 1, "h"))
	f.Add(200, []byte(`[{"id":"x","lastSeen":"2026-11-20T20:00:00Z"}]`))
	f.Add(406, []byte(`{"message":"alert already closed","details":["x"]}`))
	f.Add(403, []byte("Bearer "+testToken))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		docs, err := restDocuments("alerts", body)
		if err == nil {
			for _, d := range docs {
				_ = readAlert(d).DeliveryID()
			}
		}
		var u struct{ Name restTexts }
		_ = restDecode("assets", body, &u)
		api := newAPIError("GET", "v2/alerts", status, body, testToken)
		if text := api.Error(); strings.Contains(text, testToken) || strings.ContainsAny(text, "\r\n\x1b") || len(text) > 2<<10 {
			t.Errorf("error text is %q", text)
		}
		if len(api.Message)+len(api.Details) > 2*restMaxExcerpt+16 {
			t.Errorf("error keeps %d bytes", len(api.Message)+len(api.Details))
		}
	})
}
