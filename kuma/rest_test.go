package kuma

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/kuma/kumatest"
)

func TestNewChecksEverySetting(t *testing.T) {
	t.Parallel()
	token := func(context.Context) ([]byte, error) { return nil, nil }
	for _, c := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"no address", Config{Token: token, SystemRoots: true}, "kuma.address"},
		{"scheme", Config{Address: "https://kuma", Token: token, SystemRoots: true}, "kuma.address"},
		{"path", Config{Address: "kuma/api", Token: token, SystemRoots: true}, "kuma.address"},
		{"user", Config{Address: "a@kuma:7223", Token: token, SystemRoots: true}, "kuma.address"},
		{"port", Config{Address: "kuma:99999", Token: token, SystemRoots: true}, "port"},
		{"no trust", Config{Address: "kuma", Token: token}, "kuma.ca"},
		{"no token", Config{Address: "kuma", SystemRoots: true}, "kuma.token"},
		{"version", Config{Address: "kuma", Token: token, SystemRoots: true, Version: "v2.2"}, "kuma.version"},
		{"timeout", Config{Address: "kuma", Token: token, SystemRoots: true, Timeout: time.Hour}, "kuma.timeout"},
		{"fingerprint", Config{Address: "kuma", Token: token, Fingerprints: []string{"ab:cd"}}, "kuma.fingerprints"},
		{"no certificate", Config{Address: "kuma", Token: token, CA: []byte("hello")}, "kuma.ca"},
	} {
		if _, err := New(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s in it", c.name, err, c.want)
		}
	}
	for address, want := range map[string]string{
		"kuma": "kuma:7223", "kuma:8000": "kuma:8000", "10.0.0.1": "10.0.0.1:7223", "::1": "[::1]:7223", "[::1]:1": "[::1]:1",
	} {
		c, err := New(Config{Address: address, Token: token, SystemRoots: true})
		if err != nil || c.cfg.Address != want {
			t.Errorf("address %q becomes %v (%v), want %q", address, c, err, want)
		}
	}
}

func TestVersionIsTheNewestTheCoreServes(t *testing.T) {
	t.Parallel()
	for _, served := range [][]string{{"v1"}, {"v1", "v2"}, {"v1", "v2", "v2.1"}, {"v3"}} {
		srv := startKuma(t, func(c *kumatest.Config) { c.Versions = served })
		u, err := newTestClient(t, srv, nil).Whoami(t.Context())
		want := served[len(served)-1]
		if err != nil || u.Version != want || u.Login != "edr-bridge" || len(u.Tenants) != 1 {
			t.Errorf("core with %v: %+v (%v), want version %s", served, u, err, want)
		}
	}
}

func TestVersionIsAskedForOnceAndAgainAfterAnUpgrade(t *testing.T) {
	t.Parallel()
	srv := startKuma(t, func(c *kumatest.Config) { c.Versions = []string{"v2.1"} })
	c := newTestClient(t, srv, nil)
	for range 3 {
		if _, err := c.Alerts(t.Context(), AlertQuery{}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(srv.Requests("users/whoami")); n != 2 { // v3, v2.1
		t.Errorf("%d probes for three calls, want 2", n)
	}
	srv.SetVersions("v3")
	if _, err := c.Alerts(t.Context(), AlertQuery{}); err != nil {
		t.Fatalf("after the upgrade: %v", err)
	}
	if got := srv.Requests("alerts"); got[len(got)-1].Version != "v3" {
		t.Errorf("after the upgrade %s is used", got[len(got)-1].Version)
	}
	srv.SetVersions()
	if _, err := c.Alerts(t.Context(), AlertQuery{}); !isStatus(err, http.StatusNotFound) {
		t.Errorf("without any version: %v", err)
	}
}

func TestMissingAlertIsNotTakenForAnUpgrade(t *testing.T) {
	t.Parallel()
	srv := startKuma(t, nil)
	c := newTestClient(t, srv, nil)
	_, err := c.CloseAlert(t.Context(), testID(1, 1), CloseResponded)
	if !isStatus(err, http.StatusNotFound) || !strings.Contains(err.Error(), "alert not found") {
		t.Fatalf("%v, want 404 alert not found", err)
	}
	if n := len(srv.Requests("alerts/close")); n != 1 {
		t.Errorf("closing was sent %d times, want once", n)
	}
}

func TestAlertsSendsFlagsBareAndReadsWhatComes(t *testing.T) {
	t.Parallel()
	srv := startKuma(t, nil)
	c := newTestClient(t, srv, nil)
	for i := range 3 {
		putAlert(t, srv, testAlert(i, i, "ws-017"))
	}
	from := testStart().Add(time.Second)
	got, err := c.Alerts(t.Context(), AlertQuery{Statuses: []string{"new"}, From: from, WithEvents: true, Tenants: []string{testID(9, 1)}})
	if err != nil || len(got) != 2 {
		t.Fatalf("%d alerts (%v), want 2", len(got), err)
	}
	a := got[0] // the newest is first
	if a.ID != testID(1, 2) || a.Priority.Level() != "HIGH" || !a.LastSeen.Equal(testStart().Add(2*time.Second)) || a.Status != "new" {
		t.Errorf("alert is %+v", a)
	}
	if want := string(testAlert(2, 2, "ws-017")); string(a.Document) != want {
		t.Errorf("document is %s\nwant %s", a.Document, want)
	}
	requests := srv.Requests("alerts")
	if q := requests[0].RawQuery; !strings.HasSuffix(q, "&withEvents") || !strings.Contains(q, "from=2026-11-20T20%3A00%3A01.000Z") {
		t.Errorf("query is %s", q)
	}
	bare, err := c.Alerts(t.Context(), AlertQuery{})
	if err != nil || len(bare) != 3 || strings.Contains(string(bare[0].Document), "events") {
		t.Errorf("without the flag: %d alerts, %v", len(bare), err)
	}
}

func TestAlertsComeInPagesOf250(t *testing.T) {
	t.Parallel()
	srv := startKuma(t, nil)
	c := newTestClient(t, srv, nil)
	for i := range AlertPage + 3 {
		putAlert(t, srv, testAlert(i, i, "h"))
	}
	for page, want := range map[int]int{0: AlertPage, 1: AlertPage, 2: 3, 3: 0} {
		got, err := c.Alerts(t.Context(), AlertQuery{Page: page})
		if err != nil || len(got) != want {
			t.Errorf("page %d has %d alerts (%v), want %d", page, len(got), err, want)
		}
	}
}

func TestArgumentsThatCouldBeMoreThanTheyAreAreNotSent(t *testing.T) {
	t.Parallel()
	srv := startKuma(t, nil)
	c := newTestClient(t, srv, nil)
	ctx := t.Context()
	events := func(id string) error { _, err := c.Events(ctx, EventQuery{IDs: []string{id}}); return err }
	closing := func(id, why string) error { _, err := c.CloseAlert(ctx, id, CloseReason(why)); return err }
	list := func(change func(*ListImport)) error {
		in := ListImport{Correlator: testID(5, 1), List: "isolated", KeyField: "host", Fields: []string{"host", "state"}, Rows: [][]string{{"a", "b"}}}
		change(&in)
		return c.ImportActiveList(ctx, in)
	}
	for name, err := range map[string]error{
		"sql":                 events("x' OR 1=1 --"),
		"sql in uuid length":  events("00000000-0000-0000-0000-00000000000'"),
		"uuid and more":       events(testID(1, 1) + "' OR '1'='1"),
		"uuid in braces":      events("{" + testID(1, 1) + "}"),
		"uuid and a digit":    events(testID(1, 1) + "0"),
		"empty id":            events(""),
		"no ids":              func() error { _, err := c.Events(ctx, EventQuery{}); return err }(),
		"close: id":           closing("../../x", "responded"),
		"close: reason":       closing(testID(1, 1), "false positive"),
		"alerts: status":      func() error { _, err := c.Alerts(ctx, AlertQuery{Statuses: []string{"New&x=y"}}); return err }(),
		"alerts: id":          func() error { _, err := c.Alerts(ctx, AlertQuery{IDs: []string{"a"}}); return err }(),
		"assets: nothing":     func() error { _, err := c.Assets(ctx, AssetQuery{}); return err }(),
		"assets: control":     func() error { _, err := c.Assets(ctx, AssetQuery{FQDN: "a\nb"}); return err }(),
		"list: correlator":    list(func(l *ListImport) { l.Correlator = "x" }),
		"list: key":           list(func(l *ListImport) { l.KeyField = "ip" }),
		"list: formula":       list(func(l *ListImport) { l.Rows[0][0] = "=cmd|' /C calc'!A0" }),
		"list: two lines":     list(func(l *ListImport) { l.Rows[0][1] = "a\nb,c" }),
		"list: key twice":     list(func(l *ListImport) { l.Rows = append(l.Rows, l.Rows[0]) }),
		"list: short row":     list(func(l *ListImport) { l.Rows[0] = l.Rows[0][:1] }),
		"list: bidi override": list(func(l *ListImport) { l.Rows[0][0] = "a\u202eb" }),
	} {
		if _, ok := errors.AsType[*argumentError](err); !ok {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
	if n := len(srv.Requests()); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestEventIsFoundByItsIDInWhicheverCluster(t *testing.T) {
	t.Parallel()
	clusters := []string{testID(7, 1), testID(7, 2), testID(7, 3)}
	for _, n := range []int{1, 3} {
		srv := startKuma(t, func(c *kumatest.Config) { c.Clusters = clusters[:n] })
		c := newTestClient(t, srv, nil)
		doc := fmt.Appendf(nil, `{"ID":%q,"Type":3,"Timestamp":%d,"Name":"a <b>"}`, testID(2, 1), testStart().UnixMilli())
		if err := srv.PutEvent(clusters[n-1], doc); err != nil {
			t.Fatal(err)
		}
		got, err := c.FindEvent(t.Context(), testID(2, 1), testStart())
		if err != nil || string(got) != string(doc) {
			t.Errorf("%d clusters: %s (%v), want the event", n, got, err)
		}
		if _, err = c.FindEvent(t.Context(), testID(2, 2), testStart()); !errors.Is(err, ErrEventNotFound) {
			t.Errorf("%d clusters, other id: %v", n, err)
		}
		if _, err = c.FindEvent(t.Context(), testID(2, 1), testStart().Add(time.Hour)); !errors.Is(err, ErrEventNotFound) {
			t.Errorf("%d clusters, other time: %v", n, err)
		}
		body := string(srv.Requests("events")[0].Body)
		if !strings.Contains(body, `SELECT * FROM events WHERE ID = '`+testID(2, 1)+`' LIMIT 1`) || !strings.Contains(body, `"from":"2026-11-20T19:55:00.000Z"`) {
			t.Errorf("search is %s", body)
		}
	}
}

func TestAssetsAreComparedAsAWhole(t *testing.T) {
	t.Parallel()
	srv := startKuma(t, nil)
	c := newTestClient(t, srv, nil)
	for i, doc := range []string{
		`{"id":%q,"name":"a","fqdn":"ws-017.corp.example","ipAddresses":["10.20.1.4"]}`,
		`{"id":%q,"name":"b","fqdn":["ws-0170corp.example"],"ipAddresses":["10.20.1.44"]}`,
		`{"id":%q,"name":"c","fqdn":"","ipAddresses":null}`,
	} {
		if err := srv.PutAsset(fmt.Appendf(nil, doc, testID(4, i))); err != nil {
			t.Fatal(err)
		}
	}
	for _, q := range []AssetQuery{
		{FQDN: "WS-017.corp.example"}, {IP: netip.MustParseAddr("10.20.1.4")}, {IP: netip.MustParseAddr("::ffff:10.20.1.4")}, {ID: testID(4, 0)},
	} {
		got, err := c.Assets(t.Context(), q)
		if err != nil || len(got) != 1 || got[0].Name != "a" || !slices.Equal(got[0].FQDNs, []string{"ws-017.corp.example"}) {
			t.Errorf("%+v: %+v (%v), want a alone", q, got, err)
		}
	}
}

func TestClosingTwiceIsSuccessSaidSo(t *testing.T) {
	t.Parallel()
	srv := startKuma(t, nil)
	c := newTestClient(t, srv, nil)
	putAlert(t, srv, testAlert(1, 1, "h"))
	for i, want := range []bool{false, true} {
		before, err := c.CloseAlert(t.Context(), testID(1, 1), "Incorrect Data")
		if err != nil || before != want {
			t.Errorf("closing %d: closed before %v (%v), want %v", i, before, err, want)
		}
	}
	if status, reason, _ := srv.AlertState(testID(1, 1)); status != "closed" || reason != "incorrect data" {
		t.Errorf("alert is %s: %s", status, reason)
	}
}

func TestActiveListRecordsAreReplacedByTheirKey(t *testing.T) {
	t.Parallel()
	srv := startKuma(t, nil)
	c := newTestClient(t, srv, nil)
	in := ListImport{
		Correlator: testID(5, 1), List: "isolated hosts", KeyField: "host", Fields: []string{"host", "state"},
		Rows: [][]string{{"ws-017", "isolated"}, {`quote " comma ,`, "isolated"}},
	}
	for range 2 {
		if err := c.ImportActiveList(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	in.Rows = [][]string{{"ws-017", "released"}}
	if err := c.ImportActiveList(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	rows := srv.ListRows(testID(5, 1), "isolated hosts")
	if len(rows) != 2 || rows[0]["state"] != "released" || rows[1]["host"] != `quote " comma ,` {
		t.Errorf("list is %v", rows)
	}
}

func TestAnswerOddInOneAlertKeepsTheOthers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		doc  string
		want Alert
	}{
		{`{"id":7,"lastSeen":"2026-11-20T20:00:00Z"}`, Alert{LastSeen: testStart()}},
		{`{"id":"a","lastSeen":1795204800000,"priority":"high"}`, Alert{ID: "a", LastSeen: testStart()}},
		{`{"id":"a","lastSeen":"yesterday","priority":17}`, Alert{ID: "a"}},
		{`{"ID":"a","LastSeen":"2026-11-20T23:00:00+03:00","Status":"New","Priority":4}`, Alert{ID: "a", LastSeen: testStart(), Status: "new", Priority: 4}},
	} {
		got := readAlert([]byte(c.doc))
		got.Document = nil
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s is read as %+v, want %+v", c.doc, got, c.want)
		}
	}
}

func isStatus(err error, status int) bool {
	api, ok := errors.AsType[*APIError](err)
	return ok && api.Status == status
}
