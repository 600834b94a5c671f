package kumatest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	cfg.Token = "tok"
	s, err := NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func ask(t *testing.T, s *Server, method, path, body string, header ...string) (int, string) {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.CertificatePEM())
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer tok")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := (&http.Client{Transport: tr, Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

func TestServerAnswersAsTheHelpDocuments(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Clusters: []string{"c1", "c2"}, Correlators: []string{"k1"}})
	if err := s.PutAlert([]byte(`{"id":"a1","tenantID":"t1","lastSeen":"2026-11-20T20:00:00Z","events":[{"ID":"e"}]}`)); err != nil {
		t.Fatal(err)
	}
	if err := s.PutAlert([]byte(`{"id":"a2","tenantID":"t2","status":"new","lastSeen":"2026-11-20T21:00:00Z"}`)); err != nil {
		t.Fatal(err)
	}
	s.DisableTenant("t2")
	event := `{"ID":"e1","Timestamp":1763650000123}`
	if err := s.PutEvent("c2", []byte(event)); err != nil {
		t.Fatal(err)
	}
	period := `"period":{"from":"2025-01-01T00:00:00Z","to":"2026-12-01T00:00:00Z"}`
	search := `{` + period + `,"sql":"SELECT * FROM events WHERE ID = 'e1'","clusterID":"c2","rawTimestamps":true}`
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/api/v1/users/whoami", "", 200, `"tenants"`},
		{"GET", "/api/v2.1/users/whoami", "", 200, `"roles"`},
		{"GET", "/api/v4/users/whoami", "", 404, "404"},
		{"GET", "/api/v2/alerts?withEvents&id=a1", "", 200, `[{"id":"a1","tenantID":"t1","lastSeen":"2026-11-20T20:00:00Z","events":[{"ID":"e"}]}]`},
		{"GET", "/api/v1/alerts/?withEvents=false&id=a1", "", 200, `"events"`},
		{"GET", "/api/v2/alerts?to=2026-11-20T20:30:00Z", "", 200, `[{"id":"a1","lastSeen":"2026-11-20T20:00:00Z","tenantID":"t1"}]`},
		{"GET", "/api/v2/alerts?from=2026-11-20T20:30:00Z", "", 200, `"a2"`},
		{"GET", "/api/v2/alerts?from=yesterday", "", 400, "from"},
		{"GET", "/api/v2/alerts?page=0", "", 400, "page"},
		{"GET", "/api/v2/alerts?status=closed", "", 200, "[]"},
		{"POST", "/api/v2/alerts/close", `{}`, 400, "id required"},
		{"POST", "/api/v2/alerts/close", `{"id":"a1"}`, 400, "reason required"},
		{"POST", "/api/v2/alerts/close", `{"id":"a1","reason":"x"}`, 400, "invalid reason"},
		{"POST", "/api/v2/alerts/close", `{"id":"zz","reason":"responded"}`, 404, "alert not found"},
		{"POST", "/api/v2/alerts/close", `{"id":"a2","reason":"responded"}`, 406, "tenant disabled"},
		{"POST", "/api/v2/alerts/close", `{"id":"a1","reason":"responded"}`, 204, ""},
		{"POST", "/api/v2/alerts/close", `{"id":"a1","reason":"responded"}`, 406, "alert already closed"},
		{"GET", "/api/v2/alerts?status=closed", "", 200, `"closed"`},
		{"POST", "/api/v2/events", `{}`, 400, "period.from required"},
		{"POST", "/api/v2/events", `{"period":{"from":"x"}}`, 400, "cannot parse period.from"},
		{"POST", "/api/v2/events", `{` + period + `,"sql":"DROP TABLE events"}`, 400, "cannot parse sql"},
		{"POST", "/api/v2/events", strings.Replace(search, `"clusterID":"c2",`, "", 1), 400, "clusterID required"},
		{"POST", "/api/v2/events", search, 200, "[" + event + "]"},
		{"POST", "/api/v2/events", strings.Replace(search, "true", "false", 1), 200, "2025-11-20T14:46:40.123Z"},
		{"GET", "/api/v2/events/clusters", "", 200, `"c2"`},
		{"GET", "/api/v2/services?kind=storage", "", 200, `"resourceID":"c1"`},
		{"POST", "/api/v2/activeLists/import?correlatorID=k1&activeListName=l&format=csv&keyField=host", "host,state\nh,x\n", 204, ""},
		{"POST", "/api/v2/activeLists/import?correlatorID=k2&activeListName=l&format=csv&keyField=host", "host\nh\n", 404, "service not found"},
		{"POST", "/api/v2/activeLists/import?correlatorID=k1&format=csv&keyField=host", "host\nh\n", 400, "required"},
		{"POST", "/api/v2/activeLists/import?correlatorID=k1&activeListName=l&format=csv&keyField=ip", "host\nh\n", 400, "key field"},
		{"DELETE", "/api/v2/alerts", "", 404, ""},
	} {
		status, body := ask(t, s, c.method, c.path, c.body)
		if status != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s %s %s: %d %s, want %d with %s", c.method, c.path, c.body, status, body, c.status, c.want)
		}
	}
	if rows := s.ListRows("k1", "l"); len(rows) != 1 || rows[0]["state"] != "x" {
		t.Errorf("rows are %v", rows)
	}
}

func TestServerWantsItsToken(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	for given, want := range map[string]int{"Bearer other": 403, "Bearer ": 400, "tok": 400, "": 400} {
		if status, _ := ask(t, s, "GET", "/api/v2/alerts", "", "Authorization", given); status != want {
			t.Errorf("%q: %d, want %d", given, status, want)
		}
	}
}

func TestFaultsHitWhatTheyAreFor(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	if err := s.PutAlert([]byte(`{"id":"a1","lastSeen":"2026-11-20T20:00:00Z"}`)); err != nil {
		t.Fatal(err)
	}
	closing := func() (int, string) {
		return ask(t, s, "POST", "/api/v2/alerts/close", `{"id":"a1","reason":"responded"}`)
	}
	s.Inject(Fault{Path: "alerts/close", CutBefore: true, Times: 1})
	if status, _ := closing(); status != 0 {
		t.Errorf("cut before: %d", status)
	}
	if state, _, _ := s.AlertState("a1"); state != "new" {
		t.Errorf("cut before, and it is %s", state)
	}
	s.Inject(Fault{Path: "alerts/close", CutAfter: true, Times: 1})
	if status, _ := closing(); status != 0 {
		t.Errorf("cut after: %d", status)
	}
	if state, _, _ := s.AlertState("a1"); state != "closed" {
		t.Errorf("cut after, and it is %s", state)
	}
	s.Inject(Fault{Version: "v3", Status: 503, Message: "m"})
	if status, _ := ask(t, s, "GET", "/api/v2/alerts", ""); status != 200 {
		t.Errorf("v2: %d", status)
	}
	if status, body := ask(t, s, "GET", "/api/v3/alerts", ""); status != 503 || !strings.Contains(body, `"message":"m"`) {
		t.Errorf("v3: %d %s", status, body)
	}
	s.Heal()
	before := s.Fingerprint()
	if err := s.ChangeCertificate(); err != nil || s.Fingerprint() == before {
		t.Errorf("certificate did not change (%v)", err)
	}
	if status, _ := ask(t, s, "GET", "/api/v3/alerts", ""); status != 200 {
		t.Errorf("after the change: %d", status)
	}
	if n := len(s.Requests("alerts/close")); n != 2 {
		t.Errorf("%d closings are remembered, want 2", n)
	}
	s.Down()
	if status, _ := ask(t, s, "GET", "/api/v3/alerts", ""); status != 0 {
		t.Errorf("down: %d", status)
	}
	if err := s.Up(context.Background()); err != nil {
		t.Fatal(err)
	}
	if status, _ := ask(t, s, "GET", "/api/v3/alerts", ""); status != 200 {
		t.Errorf("up: %d", status)
	}
}

func TestNewServerChecksItsSettings(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{{}, {Token: "x", Versions: []string{"v9"}}} {
		if _, err := NewServer(cfg); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
}
