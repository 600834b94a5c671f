package ksctest

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	hostA    = "8910f900-3807-4b97-8a97-d49e73ec5ab1"
	hostB    = "4328e16f-bf83-47c3-8d0b-0fdf79f9d673"
	isolateA = `{"targetHost":"` + hostA + `","task":"isolateHost","params":{"action":1},"responseEventIncident":true,"responseEventIncidentArea":"Kuma"}`
)

// clock is a settable clock.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 11, 20, 17, 6, 56, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func testConfig() Config {
	return Config{
		Accounts: []Account{{User: "kscUser", Password: "kscPassword"}, {User: "api-user", Password: "password", Internal: true}},
		Hosts: []Host{
			{ID: hostA, DisplayName: "WS-01", NetBIOS: "WS-01", FQDN: "ws-01.corp.local", DNSName: "ws-01", DNSDomain: "corp.local", IP: "10.0.5.17", GroupID: 3, Status: 0x1d, EDRStatus: 4},
			{ID: hostB, DisplayName: "WS-02 [lab]", NetBIOS: "WS-02", FQDN: "ws-02.corp.local", IP: "10.0.5.18", GroupID: 1, Status: 5},
		},
	}
}

// startServer runs a server until the test ends.
func startServer(t testing.TB, cfg Config) *Server {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// client is a bare HTTP client of the server.
type client struct {
	t       testing.TB
	s       *Server
	http    *http.Client
	session string
}

// reply is what came back.
type reply struct {
	status int
	header http.Header
	text   string
	err    error
}

func newClient(t testing.TB, s *Server) *client {
	t.Helper()
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: rootsOf(t, s), MinVersion: tls.VersionTLS12}, DisableCompression: true,
		MaxIdleConnsPerHost: 64, MaxConnsPerHost: 64,
	}
	t.Cleanup(transport.CloseIdleConnections)
	noRedirect := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client{t: t, s: s, http: &http.Client{Transport: transport, CheckRedirect: noRedirect, Timeout: 10 * time.Second}}
}

// newSession returns a client that is logged in.
func newSession(t testing.TB, s *Server) *client {
	t.Helper()
	c := newClient(t, s)
	r := c.post("Session.StartSession", "{}", "Authorization", basic("kscUser", "kscPassword", "0"))
	c.session = r.str(t, "PxgRetVal")
	return c
}

func basic(user, pass, internal string) string {
	return fmt.Sprintf(`KSCBasic user="%s", pass="%s", domain="", internal="%s"`, b64(user), b64(pass), internal)
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// post sends one request with header pairs.
func (c *client) post(method, body string, header ...string) reply {
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.s.URL()+"/api/v1.0/"+method, strings.NewReader(body))
	if err != nil {
		return reply{err: err}
	}
	if c.session != "" {
		req.Header.Set("X-KSC-Session", c.session)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
		if header[i+1] == "" {
			req.Header.Del(header[i])
		}
	}
	return c.send(req)
}

func (c *client) send(req *http.Request) reply {
	res, err := c.http.Do(req)
	if err != nil {
		return reply{err: err}
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return reply{status: res.StatusCode, header: res.Header, text: string(b), err: err}
}

// call posts and expects a result without an error.
func (c *client) call(method, body string) reply {
	c.t.Helper()
	r := c.post(method, body)
	if r.err != nil || r.status != http.StatusOK || strings.Contains(r.text, "PxgError") {
		c.t.Fatalf("%s %s: got %d %q, %v", method, body, r.status, r.text, r.err)
	}
	return r
}

// refused posts and expects an application error; it returns its code.
func (c *client) refused(method, body string) int {
	c.t.Helper()
	r := c.post(method, body)
	var v struct {
		PxgError map[string]json.RawMessage `json:"PxgError"`
	}
	if r.err != nil || r.status != http.StatusOK || json.Unmarshal([]byte(r.text), &v) != nil || v.PxgError == nil {
		c.t.Fatalf("%s %s: got %d %q, %v; want a PxgError", method, body, r.status, r.text, r.err)
	}
	for _, key := range []string{"code", "subcode", "module", "file", "line", "message"} {
		if v.PxgError[key] == nil {
			c.t.Errorf("%s: PxgError lacks %s: %s", method, key, r.text)
		}
	}
	var code int
	if err := json.Unmarshal(v.PxgError["code"], &code); err != nil {
		c.t.Error(err)
	}
	return code
}

// field decodes one top-level key of the answer.
func (r reply) field(t testing.TB, name string, into any) {
	t.Helper()
	var v map[string]json.RawMessage
	d := json.NewDecoder(bytes.NewReader([]byte(r.text)))
	if err := d.Decode(&v); err != nil {
		t.Fatalf("answer %q (status %d, %v): %v", r.text, r.status, r.err, err)
	}
	if err := json.Unmarshal(v[name], into); err != nil {
		t.Fatalf("%s of %q: %v", name, r.text, err)
	}
}

func (r reply) str(t testing.TB, name string) (s string) {
	t.Helper()
	r.field(t, name, &s)
	return s
}

func (r reply) num(t testing.TB, name string) (n int) {
	t.Helper()
	r.field(t, name, &n)
	return n
}

// addBody renders the arguments of AddIncident.
func addBody(host, added, body string) string {
	quoted, _ := json.Marshal(body)
	return `{"pData":{"KLINCDT_SEVERITY":2,"KLINCDT_ADDED":{"type":"datetime","value":"` + added +
		`"},"KLINCDT_BODY":` + string(quoted) + `,"KLHST_WKS_HOSTNAME":"` + host + `"}}`
}

// add stores an incident and returns its id.
func (c *client) add(host, added, body string) int {
	c.t.Helper()
	return c.call("HostGroup.AddIncident", addBody(host, added, body)).num(c.t, "PxgRetVal")
}

// find returns the ids that FindIncidents gives for a filter.
func (c *client) find(filter string) []int {
	c.t.Helper()
	quoted, _ := json.Marshal(filter)
	r := c.call("HostGroup.FindIncidents", `{"strFilter":`+string(quoted)+`,"pFieldsToReturn":["KLINCDT_ID"],"pFieldsToOrder":[{"type":"params","value":{"Name":"KLINCDT_ID","Asc":true}}],"lMaxLifeTime":100}`)
	return ids(c.t, c.chunk(r.str(c.t, "strAccessor")), "KLINCDT_ID")
}

// chunk reads a whole result set and releases it.
func (c *client) chunk(accessor string) []map[string]json.RawMessage {
	c.t.Helper()
	r := c.call("ChunkAccessor.GetItemsChunk", `{"strAccessor":"`+accessor+`","nStart":0,"nCount":1000}`)
	c.call("ChunkAccessor.Release", `{"strAccessor":"`+accessor+`"}`)
	return itemsOf(c.t, r, "pChunk", "KLCSP_ITERATOR_ARRAY")
}

// itemsOf unwraps the elements of an array inside an out-parameter.
func itemsOf(t testing.TB, r reply, out, array string) []map[string]json.RawMessage {
	t.Helper()
	var chunk map[string][]struct {
		Type  string                     `json:"type"`
		Value map[string]json.RawMessage `json:"value"`
	}
	r.field(t, out, &chunk)
	list := make([]map[string]json.RawMessage, 0, len(chunk[array]))
	for _, item := range chunk[array] {
		if item.Type != "params" {
			t.Fatalf("array element is not wrapped: %s", r.text)
		}
		list = append(list, item.Value)
	}
	return list
}

func ids(t testing.TB, items []map[string]json.RawMessage, name string) []int {
	t.Helper()
	list := []int{}
	for _, item := range items {
		var n int
		if err := json.Unmarshal(item[name], &n); err != nil {
			t.Fatal(err)
		}
		list = append(list, n)
	}
	return list
}

// rootsOf trusts the certificate of the server and nothing else.
func rootsOf(t testing.TB, s *Server) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(s.CertPEM()) {
		t.Fatal("certificate is no PEM")
	}
	return pool
}
