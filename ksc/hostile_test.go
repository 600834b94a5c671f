package ksc_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/ksc"
)

// TestA12HostileAnswersAreBounded measures the memory of the whole process, so nothing runs beside it.
func TestA12HostileAnswersAreBounded(t *testing.T) {
	endless := func(w http.ResponseWriter, head string, fill byte) {
		_, _ = w.Write([]byte(head))
		block := bytes.Repeat([]byte{fill}, 64<<10)
		for range 1 << 14 { // 1 GB
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}
	for name, c := range map[string]struct {
		handle func(w http.ResponseWriter, r *http.Request)
		want   bridge.Class
	}{
		"1 GB string":   {func(w http.ResponseWriter, _ *http.Request) { endless(w, `{"PxgRetVal":"`, 'a') }, bridge.Unknown},
		"1 GB of blank": {func(w http.ResponseWriter, _ *http.Request) { endless(w, `{"PxgRetVal":17}`, ' ') }, bridge.Unknown},
		"1 GB refusal": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			endless(w, "bad ", 'a')
		}, bridge.Permanent},
		"deep JSON":     {func(w http.ResponseWriter, _ *http.Request) { endless(w, `{"PxgRetVal":`, '[') }, bridge.Unknown},
		"deep PxgError": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"PxgError":`+strings.Repeat("[", 20000)) }, bridge.Unknown},
		"huge header": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Big", strings.Repeat("a", 1<<20))
			fmt.Fprint(w, `{"PxgRetVal":17}`)
		}, bridge.Unknown},
		"huge id":       {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"PxgRetVal":1e400}`) }, bridge.Unknown},
		"negative id":   {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"PxgRetVal":-1}`) }, bridge.Unknown},
		"error as text": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"PxgRetVal":17,"PxgError":"x"}`) }, bridge.Unknown},
		"both":          {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"PxgRetVal":17,"PxgError":{}}`) }, bridge.Permanent},
		"slow drip": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = w.Write([]byte(" "))
				_ = http.NewResponseController(w).Flush()
				time.Sleep(5 * time.Millisecond)
			}
		}, bridge.Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			s := startRaw(t, func(w http.ResponseWriter, r *http.Request, _ string) { c.handle(w, r) })
			client := rawClient(t, s, func(cfg *ksc.Config) { cfg.Timeout = 2 * time.Second })
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			begun := time.Now()
			_, err := newExecutor(t, client).Execute(t.Context(), isolate(t, 0))
			wantClass(t, err, c.want)
			runtime.ReadMemStats(&after)
			if took := time.Since(begun); took > 20*time.Second {
				t.Errorf("took %s", took)
			}
			if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; mb > 128 {
				t.Errorf("allocated %d MB", mb)
			}
			if len(err.Error()) > 5<<10 {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
			if n := s.count(addIncident); n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
		})
	}
}

func TestRequestsCarryWhatTheServerExpectsAndNothingThatMakesThemReplayable(t *testing.T) {
	t.Parallel()
	s := startRaw(t, func(w http.ResponseWriter, _ *http.Request, _ string) { fmt.Fprint(w, `{"PxgRetVal":17}`) })
	c := rawClient(t, s, func(cfg *ksc.Config) {
		cfg.Domain, cfg.DomainBase64, cfg.Internal, cfg.VirtualServer = "CORP", true, true, "Филиал"
	})
	o := isolate(t, 0)
	if _, err := newExecutor(t, c).Execute(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	want := fmt.Sprintf(`KSCBasic user="%s", pass="%s", domain="%s", internal="1"`, b64([]byte(user)), b64([]byte(password)), b64([]byte("CORP")))
	login, add, update := s.requests[0], s.requests[1], s.requests[2]
	if got := login.Header.Get("Authorization"); got != want {
		t.Errorf("authorization header is not the expected one")
	}
	if got := login.Header.Get("X-KSC-VServer"); got != b64([]byte("Филиал")) {
		t.Errorf("virtual server %q", got)
	}
	for _, r := range []*http.Request{add, update} {
		if r.Header.Get("Authorization") != "" || r.Header.Get("X-KSC-VServer") != "" {
			t.Error("credentials were sent within the session")
		}
		if r.Header.Get("X-KSC-Session") == "" || r.Header.Get("Content-Type") != "application/json" || r.Proto != "HTTP/1.1" || r.ContentLength <= 0 {
			t.Errorf("%s: headers %v", r.URL.Path, r.Header)
		}
	}
	for _, r := range s.requests {
		for name := range r.Header {
			if strings.Contains(strings.ToLower(name), "idempotency") || name == "Accept-Encoding" || name == "Cookie" {
				t.Errorf("%s carries %s", r.URL.Path, name)
			}
		}
	}
	// What was posted is what a dry run shows.
	if got := s.bodies[1]; got != string(ksc.Preview(o.Intent)) {
		t.Errorf("posted %s\npreview %s", got, ksc.Preview(o.Intent))
	}
	if got := s.bodies[2]; got != string(ksc.PreviewUpdate(o.Intent, 17)) {
		t.Errorf("posted %s\npreview %s", got, ksc.PreviewUpdate(o.Intent, 17))
	}
}

// TestNoSecretReachesErrorsOrLogs lets a server echo everything it was sent, in every kind of answer.
func TestNoSecretReachesErrorsOrLogs(t *testing.T) {
	t.Parallel()
	var logs safeBuffer
	var texts []string
	b64 := base64.StdEncoding.EncodeToString
	echo := func(r *http.Request) string {
		text := fmt.Sprintf("you sent %v and Authorization: %s; session %s", r.Header, r.Header.Get("Authorization"), r.Header.Get("X-KSC-Session"))
		if r.Header.Get("Authorization") != "" {
			text += fmt.Sprintf(", that is %s (%s)", password, b64([]byte(password)))
		}
		return text
	}
	kinds := []func(w http.ResponseWriter, text string){
		func(w http.ResponseWriter, text string) { http.Error(w, text, http.StatusInternalServerError) },
		func(w http.ResponseWriter, text string) { http.Error(w, text, http.StatusBadRequest) },
		func(w http.ResponseWriter, text string) { fmt.Fprint(w, text) },
		func(w http.ResponseWriter, text string) { fmt.Fprintf(w, `{"PxgRetVal":%q`, text) },
		func(w http.ResponseWriter, text string) { fmt.Fprintf(w, `{"PxgRetVal":%q,"strAccessor":1}`, text) },
		func(w http.ResponseWriter, text string) {
			fmt.Fprintf(w, `{"PxgError":{"code":1,"module":%q,"file":%q,"message":%q,"locdata":{"format":"%%1","args":[%q]}}}`, text, text, text, text)
		},
		func(w http.ResponseWriter, text string) {
			w.Header().Set("X-KSC-ErrorMsg", strings.ReplaceAll(text, "\n", " "))
			http.Error(w, strings.Repeat("x", 4080)+text, http.StatusUnauthorized)
		},
		func(w http.ResponseWriter, text string) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = fmt.Fprintf(conn, "HTTP/1.1 %s\r\n\r\n", strings.ReplaceAll(text, "\n", " "))
				_ = conn.Close()
			}
		},
	}
	log := slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for _, atLogin := range []bool{false, true} {
		for _, kind := range kinds {
			s := startRaw(t, func(w http.ResponseWriter, r *http.Request, _ string) { kind(w, echo(r)) })
			if atLogin {
				inner := s.Config.Handler
				s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if strings.HasSuffix(r.URL.Path, "StartSession") {
						kind(w, echo(r))
						return
					}
					inner.ServeHTTP(w, r)
				})
			}
			cfg := clientConfig(s.address())
			cfg.Insecure, cfg.Logger, cfg.Retries = true, log, -1
			c, err := ksc.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			e := newExecutor(t, c, func(cfg *ksc.ExecutorConfig) { cfg.Logger = log })
			_, err = e.Execute(t.Context(), isolate(t, 0))
			texts = append(texts, chain(err)...)
			_, err = e.Resolve(t.Context(), "ws-01")
			texts = append(texts, chain(err)...)
			_, _, err = e.Reconcile(t.Context(), isolate(t, 0))
			texts = append(texts, chain(err)...)
			for _, r := range e.Check(t.Context()) {
				texts = append(texts, fmt.Sprintf("%+v %#v", r, r))
			}
			texts = append(texts, fmt.Sprintf("%v %+v %#v", c, c, c), fmt.Sprintf("%v %+v %#v", e, e, e))
			log.Info("client", "client", c, "executor", fmt.Sprintf("%+v", e))
			if err := c.Close(context.Background()); err != nil {
				texts = append(texts, chain(err)...)
			}
		}
	}
	out := strings.Join(texts, "\n") + logs.String()
	for what, hidden := range map[string]string{
		"password": password, "base64 of the password": b64([]byte(password)), "session id": "nsPbUpP1oAVZlM1lODEb", "part of the session id": "oAVZlM1lODE",
	} {
		if i := strings.Index(out, hidden); i >= 0 {
			t.Errorf("%s leaks: …%q…", what, out[max(0, i-200):min(len(out), i+60)])
		}
	}
	if !strings.Contains(out, "ksc call") || !strings.Contains(out, "[redacted]") {
		t.Error("the check saw no logs")
	}
}

// chain returns the texts of an error as it is printed, layer by layer as far as %v of each goes.
func chain(err error) []string {
	var texts []string
	for ; err != nil; err = errors.Unwrap(err) {
		if _, inner := err.(interface{ Timeout() bool }); inner {
			break // below our own types are those of net/http
		}
		texts = append(texts, err.Error(), fmt.Sprintf("%+v", err))
		if _, ours := errors.AsType[*ksc.CallError](err); !ours {
			break
		}
	}
	return texts
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
