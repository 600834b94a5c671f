package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestNewIngressNamesEverySettingThatIsWrong(t *testing.T) {
	t.Parallel()
	hook := func(change func(*IngressSource)) []IngressSource {
		s := IngressSource{Name: "hook", Preset: "generic", Path: "/hook", Kind: IngressWebhook}
		change(&s)
		return []IngressSource{s}
	}
	same := func(*IngressSource) {}
	keys := func(n int) []AuthKey {
		var list []AuthKey
		for i := range n {
			list = append(list, AuthKey{ID: fmt.Sprintf("k%d", i), Secret: fixed(testKey)})
		}
		return list
	}
	near := func(change func(*IngressSource)) IngressConfig {
		return IngressConfig{Listen: "127.0.0.1:0", Sources: hook(change)}
	}
	files := IngressTLS{Cert: "c.pem", Key: "k.pem"}
	for _, c := range []struct {
		name string
		cfg  IngressConfig
		want string // empty = accepted
	}{
		{"loopback", near(same), ""},
		{"loopback of IPv6", IngressConfig{Listen: "[::1]:0", Sources: hook(same)}, ""},
		{"no listen", IngressConfig{Sources: hook(same)}, "http.listen: "},
		{"no sources", IngressConfig{Listen: "127.0.0.1:0"}, "there are no sources"},
		{"off loopback without anything", IngressConfig{Listen: "192.0.2.1:443", Sources: hook(same)}, "http.tls: required"},
		{"off loopback without anything, either", IngressConfig{Listen: "192.0.2.1:443", Sources: hook(same)}, "sources.hook.auth: required"},
		{"every address", IngressConfig{Listen: ":443", TLS: files, Sources: hook(same)}, "sources.hook.auth: required"},
		{"off loopback without TLS", IngressConfig{Listen: "bridge.corp:443", Sources: hook(func(s *IngressSource) {
			s.Auth.HMAC = &HMACAuth{Keys: keys(1)}
		})}, "http.tls: required"},
		{"off loopback with both", IngressConfig{Listen: "0.0.0.0:443", TLS: files, Sources: hook(func(s *IngressSource) {
			s.Auth.HMAC = &HMACAuth{Keys: keys(2)}
		})}, ""},
		{"half a certificate", IngressConfig{Listen: "127.0.0.1:0", TLS: IngressTLS{Cert: "c.pem"}, Sources: hook(same)}, "http.tls: cert and key"},
		{"CA without certificate", IngressConfig{Listen: "127.0.0.1:0", TLS: IngressTLS{ClientCA: "ca.pem"}, Sources: hook(same)}, "http.tls.client_ca"},
		{"MTLS without CA", IngressConfig{Listen: "127.0.0.1:0", TLS: files, Sources: hook(func(s *IngressSource) {
			s.Auth.MTLS = &MTLSAuth{Names: []string{"dns:a"}}
		})}, "sources.hook.auth: mtls needs http.tls.client_ca"},
		{"MTLS for everybody", near(func(s *IngressSource) {
			s.Auth.MTLS = &MTLSAuth{}
		}), "at least one is needed"},
		{"MTLS with a wildcard", near(func(s *IngressSource) {
			s.Auth.MTLS = &MTLSAuth{Names: []string{"dns:*.corp"}}
		}), "without wildcards"},
		{"two ways", near(func(s *IngressSource) {
			s.Auth = Auth{HMAC: &HMACAuth{Keys: keys(1)}, Bearer: &BearerAuth{Tokens: []Secret{fixed(testKey)}}}
		}), "only one way"},
		{"three keys", near(func(s *IngressSource) { s.Auth.HMAC = &HMACAuth{Keys: keys(3)} }), "one or 2"},
		{"no key", near(func(s *IngressSource) { s.Auth.HMAC = &HMACAuth{} }), "one or 2"},
		{"a key without secret", near(func(s *IngressSource) {
			s.Auth.HMAC = &HMACAuth{Keys: []AuthKey{{ID: "a"}}}
		}), "sources.hook.auth: hmac keys: required"},
		{"two keys of one name", near(func(s *IngressSource) {
			s.Auth.HMAC = &HMACAuth{Keys: append(keys(1), keys(1)...)}
		}), "two keys have it"},
		{"a user with a colon", near(func(s *IngressSource) {
			s.Auth.Basic = &BasicAuth{User: "a:b", Passwords: []Secret{fixed("12345678")}}
		}), "without a colon"},
		{"no path", near(func(s *IngressSource) { s.Path = "hook" }), "sources.hook.path"},
		{"an unclean path", near(func(s *IngressSource) { s.Path = "/a/../b" }), "sources.hook.path"},
		{"one path twice", IngressConfig{Listen: "127.0.0.1:0", Sources: append(hook(same), hook(func(s *IngressSource) {
			s.Name, s.Path = "other", "/hook/"
		})...)}, "sources.other.path: /hook is the path of source hook too"},
		{"one name twice", IngressConfig{Listen: "127.0.0.1:0", Sources: append(hook(same), hook(func(s *IngressSource) { s.Path = "/b" })...)}, "two sources"},
		{"no kind", near(func(s *IngressSource) { s.Kind = "" }), "sources.hook.kind"},
		{"a handler of no kind", near(func(s *IngressSource) { s.Handler = http.NotFoundHandler() }), "sources.hook.kind"},
		{"a kind without handler", near(func(s *IngressSource) { s.Kind, s.Preset = IngressHandler, "" }), "sources.hook.kind"},
		{"an unknown encoding", near(func(s *IngressSource) { s.Encodings = []string{"br"} }), "sources.hook.encodings"},
		{"a negative rate", near(func(s *IngressSource) { s.Rate.Requests = -1 }), "sources.hook.rate"},
		{"no peer", near(func(s *IngressSource) { s.Peers = []netip.Prefix{{}} }), "sources.hook.peers"},
		{"negative limit", IngressConfig{Listen: "127.0.0.1:0", Limits: IngressLimits{Idle: -1}, Sources: hook(same)}, "http.limits"},
		{"deeper than presets go", IngressConfig{Listen: "127.0.0.1:0", Limits: IngressLimits{Depth: 65}, Sources: hook(same)}, "http.limits.depth"},
		{"less memory than a body", IngressConfig{Listen: "127.0.0.1:0", Limits: IngressLimits{Memory: 1}, Sources: hook(same)}, "http.limits.memory"},
	} {
		_, err := NewIngress(c.cfg)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q in it", c.name, err, c.want)
		}
	}
}

func TestRequestsFindTheirSource(t *testing.T) {
	t.Parallel()
	b := openIngress(t, func(cfg *IngressConfig) {
		cfg.Sources = []IngressSource{
			{Name: "all", Path: "/", Kind: IngressKUMA},
			{Name: "siem", Path: "/kuma", Kind: IngressKUMA},
			{Name: "hook", Path: "/kuma/hook", Kind: IngressWebhook},
			{Name: "far", Path: "/far", Kind: IngressWebhook, Peers: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
			{Name: "near", Path: "/near", Kind: IngressWebhook, Peers: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
		}
	})
	got := make(chan string, 1)
	b.settling(t, func(a bridge.Alert) error { got <- a.Source; return nil })
	for path, want := range map[string]string{
		"/": "all", "/x/y": "all", "/kumax": "all", "/kuma": "siem", "/kuma/": "siem", "/kuma/a/b?c=d": "siem", "/kuma/hook": "hook",
		"/kuma/hook/": "hook", "/kuma/hook/x": "siem", "/near": "near", "/%6buma": "siem",
	} {
		if a := b.post(t, path, "{}"); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		} else if source := <-got; source != want {
			t.Errorf("%s went to %s, want %s", path, source, want)
		}
	}
	if a := b.post(t, "/far", "{}"); a.status != http.StatusForbidden {
		t.Errorf("a peer that is not listed: %d", a.status)
	}
}

func TestWhatNoPeerSendsIsRefused(t *testing.T) {
	t.Parallel()
	b := openIngress(t, func(cfg *IngressConfig) { cfg.Hosts = []string{"alerts.corp.example"} })
	b.settling(t, acceptAll)
	for _, c := range []struct {
		name, method, path, host string
		header                   []string
		status                   int
	}{
		{"good", "POST", "/webhook/hook", "", nil, 200},
		{"any content type", "POST", "/webhook/hook", "", []string{"Content-Type", "x"}, 200},
		{"localhost", "POST", "/webhook/hook", "localhost", nil, 200},
		{"a proxy's name", "POST", "/webhook/hook", "Alerts.corp.example:8443", nil, 200},
		{"another name", "POST", "/webhook/hook", "evil.example", nil, 403},
		{"page", "POST", "/webhook/hook", "", []string{"Origin", "http://127.0.0.1"}, 403},
		{"fetch", "POST", "/webhook/hook", "", []string{"Sec-Fetch-Site", "none"}, 403},
		{"unknown path", "POST", "/webhook", "", nil, 404},
		{"unknown path below", "POST", "/webhook/hook/x", "", nil, 404},
		{"GET", "GET", "/webhook/hook", "", nil, 405},
		{"PUT", "PUT", "/kuma", "", nil, 405},
		{"OPTIONS", "OPTIONS", "/kuma", "", nil, 405},
		{"charset", "POST", "/kuma", "", []string{"Content-Type", "application/json; charset=windows-1251"}, 415},
		{"undeclared encoding", "POST", "/webhook/hook", "", []string{"Content-Encoding", "gzip"}, 415},
		{"unknown encoding", "POST", "/kuma", "", []string{"Content-Encoding", "br"}, 415},
	} {
		r := b.request(t, c.method, c.path, "{}", c.header...)
		if c.host != "" {
			r.Host = c.host
		}
		a := b.do(t, r)
		if a.status != c.status {
			t.Errorf("%s: %d, want %d: %s", c.name, a.status, c.status, a.body)
		}
		if c.status == http.StatusMethodNotAllowed && a.header.Get("Allow") != "POST" {
			t.Errorf("%s: Allow is %q", c.name, a.header.Get("Allow"))
		}
	}
	conn := b.raw(t, "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if status, _ := answerOn(t, conn); status != http.StatusNotFound {
		t.Errorf("OPTIONS *: %d", status)
	}
}

func TestTooManyDocumentsAreRefusedWhole(t *testing.T) {
	t.Parallel()
	b := openIngress(t, func(cfg *IngressConfig) { cfg.Limits.Documents = 3 })
	b.settling(t, acceptAll)
	if a := b.post(t, "/kuma", "{}{}{}{}"); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("four documents: %d", a.status)
	}
	if n := b.meter.taken("siem"); n != 0 {
		t.Errorf("%d documents of the refused batch were delivered", n)
	}
	if a := b.post(t, "/kuma", "{}{}{}"); a.status != http.StatusOK {
		t.Errorf("three documents: %d", a.status)
	}
}

func TestRatesAreAnswered429(t *testing.T) {
	t.Parallel()
	frozen := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	clock := &testClock{}
	b := openIngress(t, func(cfg *IngressConfig) {
		cfg.Now = func() time.Time { return frozen.Add(time.Duration(clock.off.Load())) }
		cfg.Limits.Documents = 4
		cfg.Sources = []IngressSource{
			{Name: "hook", Path: "/hook", Kind: IngressWebhook, Rate: IngressRate{Requests: 0.5}},
			{Name: "siem", Path: "/kuma", Kind: IngressKUMA, Rate: IngressRate{Documents: 1}},
		}
	})
	b.settling(t, acceptAll)
	want := func(path, body string, status int, retry string) {
		t.Helper()
		if a := b.post(t, path, body); a.status != status || a.header.Get("Retry-After") != retry {
			t.Errorf("%s %s: %d, Retry-After %q, want %d, %q", path, body, a.status, a.header.Get("Retry-After"), status, retry)
		}
	}
	want("/hook", "{}", 200, "")
	want("/hook", "{}", 429, "2")
	clock.advance(2 * time.Second)
	want("/hook", "{}", 200, "")
	want("/kuma", "{}{}{}{}", 200, "")
	want("/kuma", "{}{}{}", 429, "3")
	clock.advance(3 * time.Second)
	want("/kuma", "{}{}{}", 200, "")
}

func TestAHandlerGetsWhatPassedTheLimits(t *testing.T) {
	t.Parallel()
	type seen struct{ method, path, query, body, encoding string }
	got := make(chan seen, 1)
	b := openIngress(t, func(cfg *IngressConfig) {
		cfg.Limits.Body = 1 << 16
		cfg.Sources = []IngressSource{{
			Name: "soar", Path: "/api/v2", Kind: IngressHandler, Encodings: []string{"gzip"},
			Auth: Auth{Bearer: &BearerAuth{Tokens: []Secret{fixed(testKey)}}},
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got <- seen{r.Method, r.URL.Path, r.URL.RawQuery, string(body), r.Header.Get("Content-Encoding")}
				if strings.HasSuffix(r.URL.Path, "/fail") {
					http.Error(w, "no", http.StatusBadGateway)
				}
			}),
		}}
	})
	auth := []string{"Authorization", "Bearer " + testKey}
	if a := b.post(t, "/api/v2/incidents?x=1", string(gzipped(t, []byte("a=b"))), append(auth, "Content-Encoding", "gzip")...); a.status != http.StatusOK {
		t.Fatalf("status %d %s", a.status, a.body)
	}
	if s := <-got; s != (seen{"POST", "/api/v2/incidents", "x=1", "a=b", ""}) {
		t.Errorf("the handler saw %+v", s)
	}
	if a := b.do(t, b.request(t, http.MethodGet, "/api/v2", "", auth...)); a.status != http.StatusOK || (<-got).method != "GET" {
		t.Errorf("GET: %d", a.status)
	}
	if a := b.post(t, "/api/v2/fail", "", auth...); a.status != http.StatusBadGateway || b.meter.of(RefusedHandler) != 1 {
		t.Errorf("an error of the handler: %d, counted %d", a.status, b.meter.of(RefusedHandler))
	}
	<-got
	for path, header := range map[string][]string{"/api/v2/large": auth, "/api/v2/anonymous": nil} {
		if a := b.post(t, path, strings.Repeat("x", 1<<17), header...); a.status != http.StatusRequestEntityTooLarge && a.status != http.StatusUnauthorized {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	select {
	case s := <-got:
		t.Errorf("the handler saw %s", s.path)
	default:
	}
}

func TestServeNeedsListenAndHappensOnce(t *testing.T) {
	t.Parallel()
	in, err := NewIngress(IngressConfig{Listen: "127.0.0.1:0", Sources: hookAndKUMA()})
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Serve(t.Context()); err == nil {
		t.Error("it served without a port")
	}
	if _, err := in.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Listen(t.Context()); err == nil {
		t.Error("it listens twice")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := in.Serve(ended); err != nil {
		t.Error(err)
	}
	if err := in.Serve(ended); err == nil {
		t.Error("it serves twice")
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
}
