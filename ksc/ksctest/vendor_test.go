package ksctest

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// vendorConn speaks on one TLS connection, byte for byte as Kaspersky's Python package over requests does.
type vendorConn struct {
	t    *testing.T
	conn *tls.Conn
	in   *bufio.Reader
	addr string
}

func dialVendor(t *testing.T, s *Server) *vendorConn {
	t.Helper()
	dialer := &tls.Dialer{Config: &tls.Config{RootCAs: rootsOf(t, s), MinVersion: tls.VersionTLS12}}
	c, err := dialer.DialContext(t.Context(), "tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &vendorConn{t: t, conn: c.(*tls.Conn), in: bufio.NewReader(c), addr: s.Addr()}
}

// send writes the head and the body in two records, as http.client does.
func (v *vendorConn) send(method, extra, body string) {
	v.t.Helper()
	head := "POST /api/v1.0/" + method + " HTTP/1.1\r\nHost: " + v.addr + "\r\nUser-Agent: python-requests/2.34.2\r\n" +
		"Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\n" + extra +
		fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body))
	for _, part := range []string{head, body} {
		if _, err := io.WriteString(v.conn, part); err != nil {
			v.t.Fatal(err)
		}
	}
}

// receive returns status and body, which must be JSON when the status is 200.
func (v *vendorConn) receive() (int, string) {
	v.t.Helper()
	res, err := http.ReadResponse(v.in, &http.Request{Method: http.MethodPost})
	if err != nil {
		v.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	if res.StatusCode == http.StatusOK && !json.Valid(b) {
		v.t.Fatalf("json.loads would raise on %q", b)
	}
	return res.StatusCode, string(b)
}

func (v *vendorConn) call(method, body string) (int, string) {
	v.t.Helper()
	v.send(method, "Content-Type: application/json\r\n", body)
	return v.receive()
}

func (v *vendorConn) login(user, pass string) (int, string) {
	v.t.Helper()
	v.send("login", `Authorization: KSCBasic user="`+b64(user)+`", pass="`+b64(pass)+`", domain="", internal="0"`+
		"\r\nContent-Type: application/json\r\nX-KSC-VServer: \r\n", "")
	return v.receive()
}

func TestVendorClientFlowOfAddAndUpdate(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.StrictUpdate = true
	s := startServer(t, cfg)
	v := dialVendor(t, s)
	if status, body := v.login("kscUser", "kscPassword"); status != 200 || body != "{}" {
		t.Fatalf("login: %d %q", status, body)
	}
	status, body := v.call("HostGroup.AddIncident", `{"pData": {"KLINCDT_SEVERITY": 2, "KLINCDT_ADDED": {"type": "datetime", "value": "2026-11-20T18:38:05Z"}, "KLINCDT_BODY": "{\"targetHost\": \"8910f900-3807-4b97-8a97-d49e73ec5ab1\", \"task\": \"isolateHost\", \"params\": {\"action\": 1}, \"responseEventIncident\": true, \"responseEventIncidentArea\": \"Kuma\"}", "KLHST_WKS_HOSTNAME": "8910f900-3807-4b97-8a97-d49e73ec5ab1"}}`)
	if status != 200 || body != `{"PxgRetVal":1}` {
		t.Fatalf("AddIncident: %d %q", status, body)
	}
	if status, body = v.call("HostGroup.UpdateIncident", `{"nId": 1, "pData": {"KLINCDT_IS_HANDLED": false, "KLHST_WKS_HOSTNAME": "8910f900-3807-4b97-8a97-d49e73ec5ab1"}}`); status != 200 || body != "{}" {
		t.Fatalf("UpdateIncident: %d %q", status, body)
	}
	status, body = v.call("HostGroup.FindIncidents", `{"strFilter": "KLINCDT_IS_HANDLED=0", "pFieldsToReturn": ["KLINCDT_ID", "KLINCDT_BODY", "GNRL_EXTRA_PARAMS"], "pFieldsToOrder": [{"type": "params", "value": {"Name": "KLINCDT_ID", "Asc": true}}], "lMaxLifeTime": 3600}`)
	r := reply{status: status, text: body}
	if n := r.num(t, "PxgRetVal"); n != 1 {
		t.Fatalf("FindIncidents: %d %q", status, body)
	}
	status, body = v.call("ChunkAccessor.GetItemsChunk", `{"strAccessor": "`+r.str(t, "strAccessor")+`", "nStart": 0, "nCount": 200}`)
	want := `{"PxgRetVal":1,"pChunk":{"KLCSP_ITERATOR_ARRAY":[{"type":"params","value":{"KLINCDT_ID":1,"KLINCDT_BODY":"{\"targetHost\": \"8910f900-3807-4b97-8a97-d49e73ec5ab1\", \"task\": \"isolateHost\", \"params\": {\"action\": 1}, \"responseEventIncident\": true, \"responseEventIncidentArea\": \"Kuma\"}"}}]}}`
	if status != 200 || body != want {
		t.Fatalf("GetItemsChunk: %d\n got %s\nwant %s", status, body, want)
	}
	got := s.Incidents()
	if len(got) != 1 || got[0].Updates != 1 || got[0].Handled || got[0].Host != hostA || s.Connections() != 1 {
		t.Fatalf("stored %+v on %d connections", got, s.Connections())
	}
}

func TestVendorClientFlowEndsWithTheConnection(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig())
	v := dialVendor(t, s)
	v.login("kscUser", "kscPassword")
	_, body := v.call("HostGroup.FindIncidents", `{"strFilter": "", "pFieldsToReturn": [], "lMaxLifeTime": 3600}`)
	accessor := reply{text: body}.str(t, "strAccessor")
	if s.OpenAccessors() != 1 {
		t.Fatalf("%d accessors", s.OpenAccessors())
	}
	_ = v.conn.Close()
	waitFor(t, "the accessor to go with its connection", func() bool { return s.OpenAccessors() == 0 })

	other := dialVendor(t, s)
	if status, text := other.call("Session.Ping", "{}"); status != http.StatusUnauthorized {
		t.Errorf("a new connection is not logged in: got %d %q", status, text)
	}
	other.login("kscUser", "kscPassword")
	if _, text := other.call("ChunkAccessor.GetItemsCount", `{"strAccessor": "`+accessor+`"}`); !strings.Contains(text, "PxgError") {
		t.Errorf("accessor of another connection: got %q", text)
	}
}

func TestVendorClientRunsInPython(t *testing.T) {
	t.Parallel()
	if err := exec.CommandContext(t.Context(), "python3", "-c", "import KlAkOAPI.HostGroup").Run(); err != nil {
		t.Skip("python3 cannot import Kaspersky's package KlAkOAPI:", err)
	}
	cfg := testConfig()
	cfg.BackgroundConnection, cfg.StrictUpdate = true, true
	s := startServer(t, cfg)
	cert := filepath.Join(t.TempDir(), "klserver.cer")
	if err := os.WriteFile(cert, s.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "python3", "-W", "ignore", "testdata/vendor_flow.py", s.URL(), cert, hostA)
	// An inherited CA bundle would overrule the certificate given to the package.
	cmd.Env = append(os.Environ(), "REQUESTS_CA_BUNDLE="+cert, "CURL_CA_BUNDLE=")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "ok\n") {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := s.Connections(); n != 1 {
		t.Errorf("the package works on one connection, got %d", n)
	}
	if tasks := s.Tasks(); len(tasks) != 1 || len(s.Incidents()) != 0 {
		t.Errorf("tasks %+v, incidents %+v", tasks, s.Incidents())
	}
}

// waitFor polls until ok or ten seconds have passed.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}
