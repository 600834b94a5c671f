package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func newMeter(t testing.TB, read func(context.Context) (Gauges, error)) *Meter {
	t.Helper()
	if read == nil {
		read = func(context.Context) (Gauges, error) { return Gauges{}, nil }
	}
	m, err := NewMeter(MeterConfig{Sources: []string{"bus", "legacy"}, Gauges: read})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func newPages(t testing.TB, m *Meter, health Health) *Pages {
	t.Helper()
	p, err := NewPages(PagesConfig{Listen: "127.0.0.1:0", Meter: m, Health: func(context.Context) Health { return health }})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// fetchPage asks for a page as a program on this machine does.
func fetchPage(p http.Handler, path string) (status int, body string) {
	r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1:9448"+path, nil)
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// series are the samples of the bridge on the page, without those of histogram buckets.
func series(t testing.TB, m *Meter) map[string]string {
	t.Helper()
	status, body := fetchPage(newPages(t, m, Health{}), "/metrics")
	if status != http.StatusOK {
		t.Fatalf("status %d: %s", status, body)
	}
	out := map[string]string{}
	for line := range strings.Lines(body) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "edrbridge_") || strings.Contains(line, "_bucket{") {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		out[line[:at]] = line[at+1:]
	}
	return out
}

func TestEveryLabelStandsOnThePageBeforeTheFirstEvent(t *testing.T) {
	t.Parallel()
	got := series(t, newMeter(t, nil))
	var want []string
	add := func(name, label string, values ...string) {
		for _, v := range values {
			want = append(want, fmt.Sprintf("%s{%s=%q}", name, label, v))
		}
	}
	add("edrbridge_alerts_total", "source", "bus", "legacy", "other")
	add("edrbridge_lost_alerts_total", "source", "bus", "legacy", "other")
	add("edrbridge_http_requests_total", "source", "bus", "legacy", "other")
	add("edrbridge_http_documents_total", "source", "bus", "legacy", "other")
	add("edrbridge_http_refused_total", "reason", withOther(words(IngressReasons()))...)
	add("edrbridge_orders_total", "state", "refused", "duplicate", "shadow", "held", "queued", "sending", "done", "failed", "expired",
		"cancelled", "unknown", "other")
	for _, r := range append(bridge.Reasons(), "other") {
		add("edrbridge_orders_refused_total", "reason", string(r))
		add("edrbridge_orders_held_total", "reason", string(r))
	}
	add("edrbridge_alarms_total", "state", "expired", "unknown")
	add("edrbridge_queue", "state", "held", "queued", "sending", "accepted", "running")
	for _, ex := range []string{"ksc", "local", "other"} {
		add("edrbridge_execute_seconds_count", "executor", ex)
		add("edrbridge_execute_seconds_sum", "executor", ex)
		for _, class := range []string{"permanent", "retry", "unknown", "unreachable"} {
			want = append(want, fmt.Sprintf("edrbridge_execute_errors_total{class=%q,executor=%q}", class, ex))
		}
	}
	want = append(want, "edrbridge_admit_seconds_count", "edrbridge_admit_seconds_sum", "edrbridge_ksc_task_budget_used",
		"edrbridge_leases", "edrbridge_dead_letters", "edrbridge_hold", "edrbridge_store_errors_total", "edrbridge_anchor_seq",
		"edrbridge_config_last_reload_successful", "edrbridge_clock_jumps_total", "edrbridge_gauge_errors_total")
	slices.Sort(want)
	var names []string
	for name, value := range got {
		names = append(names, name)
		if value != "0" && name != "edrbridge_config_last_reload_successful" {
			t.Errorf("%s is %s before anything happened", name, value)
		}
	}
	slices.Sort(names)
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestMeterCountsWhatHappens(t *testing.T) {
	t.Parallel()
	m := newMeter(t, func(context.Context) (Gauges, error) {
		return Gauges{Counts: Counts{Held: 1, Running: 2, Leases: 3, DeadLetters: 4}, LiveTasks: 5, Hold: true, AnchorSeq: 6}, nil
	})
	m.Alert("bus")
	m.Lost("legacy", 7)
	m.Lost("legacy", -7)
	m.Admitted(bridge.Order{State: bridge.StateRefused, Reason: bridge.ReasonAge}, time.Millisecond)
	m.Admitted(bridge.Order{State: bridge.StateQueued}, 0)
	m.Moved(bridge.Order{State: bridge.StateSending}, bridge.StateQueued)
	m.Moved(bridge.Order{State: bridge.StateHeld, Reason: bridge.ReasonLiveTasks}, bridge.StateSending)
	m.Moved(bridge.Order{State: bridge.StateHeld, Reason: bridge.ReasonLiveTasks}, bridge.StateHeld)
	m.Moved(bridge.Order{State: bridge.StateUnknown, Reason: bridge.ReasonDeadline}, bridge.StateAccepted)
	m.Executed("ksc", time.Second, nil)
	m.Executed("ksc", time.Second, &bridge.ExecError{Class: bridge.Retry})
	m.Executed("local", time.Second, &bridge.ExecError{Class: bridge.Class(9)})
	m.StoreFailed()
	m.ClockJumped()
	m.Reloaded(false)
	got := series(t, m)
	for name, value := range got {
		if value == "0" {
			delete(got, name)
		}
	}
	want := map[string]string{
		`edrbridge_alerts_total{source="bus"}`:                         "1",
		`edrbridge_lost_alerts_total{source="legacy"}`:                 "7",
		`edrbridge_orders_total{state="refused"}`:                      "1",
		`edrbridge_orders_total{state="queued"}`:                       "1",
		`edrbridge_orders_total{state="unknown"}`:                      "1",
		`edrbridge_orders_refused_total{reason="age"}`:                 "1",
		`edrbridge_orders_held_total{reason="ksc.tasks"}`:              "1",
		`edrbridge_alarms_total{state="unknown"}`:                      "1",
		`edrbridge_execute_seconds_count{executor="ksc"}`:              "2",
		`edrbridge_execute_seconds_sum{executor="ksc"}`:                "2",
		`edrbridge_execute_seconds_count{executor="local"}`:            "1",
		`edrbridge_execute_seconds_sum{executor="local"}`:              "1",
		`edrbridge_execute_errors_total{class="retry",executor="ksc"}`: "1",
		`edrbridge_admit_seconds_count`:                                "1",
		`edrbridge_admit_seconds_sum`:                                  "0.001",
		`edrbridge_store_errors_total`:                                 "1",
		`edrbridge_clock_jumps_total`:                                  "1",
		`edrbridge_queue{state="held"}`:                                "1",
		`edrbridge_queue{state="running"}`:                             "2",
		`edrbridge_leases`:                                             "3",
		`edrbridge_dead_letters`:                                       "4",
		`edrbridge_ksc_task_budget_used`:                               "5",
		`edrbridge_hold`:                                               "1",
		`edrbridge_anchor_seq`:                                         "6",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestHostileNamesAddNoLabel(t *testing.T) {
	t.Parallel()
	m := newMeter(t, nil)
	before := series(t, m)
	hostile := []string{"", "x\"}\nedrbridge_hold 1\n#", "\xff", strings.Repeat("a", 1<<20), "BUS", "bus ", "other"}
	for _, h := range hostile {
		m.Alert(h)
		m.Lost(h, 1)
		m.Executed(h, time.Second, errors.New(h))
		m.Admitted(bridge.Order{State: bridge.State(h), Reason: bridge.Reason(h)}, time.Second)
		m.Moved(bridge.Order{State: bridge.StateRefused, Reason: bridge.Reason(h)}, bridge.StateQueued)
		m.Moved(bridge.Order{State: bridge.State(h)}, bridge.StateQueued)
	}
	after := series(t, m)
	if len(after) != len(before) {
		t.Errorf("%d series became %d", len(before), len(after))
	}
	for _, name := range []string{
		`edrbridge_alerts_total{source="other"}`, `edrbridge_lost_alerts_total{source="other"}`,
		`edrbridge_orders_refused_total{reason="other"}`, `edrbridge_execute_errors_total{class="unknown",executor="other"}`,
	} {
		if got := after[name]; got != fmt.Sprint(len(hostile)) {
			t.Errorf("%s is %s, want %d", name, got, len(hostile))
		}
	}
	if _, err := NewMeter(MeterConfig{Sources: []string{"a\xff"}, Gauges: m.none}); err == nil {
		t.Error("a source whose name is no UTF-8 was taken")
	}
}

func (m *Meter) none(context.Context) (Gauges, error) { return Gauges{}, nil }

func TestGaugesThatCannotBeReadAreNotShown(t *testing.T) {
	t.Parallel()
	var fail error
	m := newMeter(t, func(ctx context.Context) (Gauges, error) {
		if until, bounded := ctx.Deadline(); !bounded || time.Until(until) > 2*time.Second {
			return Gauges{}, fmt.Errorf("deadline %v, %v", until, bounded)
		}
		return Gauges{Hold: true}, fail
	})
	if got := series(t, m); got["edrbridge_hold"] != "1" || got["edrbridge_gauge_errors_total"] != "0" {
		t.Errorf("got %v", got)
	}
	fail = errors.New("disk")
	got := series(t, m)
	for _, name := range []string{"edrbridge_hold", "edrbridge_leases", `edrbridge_queue{state="held"}`, "edrbridge_anchor_seq"} {
		if value, stale := got[name]; stale {
			t.Errorf("%s shows %s", name, value)
		}
	}
	if _, there := got[`edrbridge_alerts_total{source="bus"}`]; !there {
		t.Error("the counters are gone too")
	}
	if got := series(t, m)["edrbridge_gauge_errors_total"]; got == "0" {
		t.Error("nobody counted the failure")
	}
}

func TestHealthPages(t *testing.T) {
	t.Parallel()
	good, bad := Part{Name: "store", OK: true}, Part{Name: "store", Detail: "disk full"}
	for name, test := range map[string]struct {
		health       Health
		live, ready  int
		readyContent string
	}{
		"all well": {
			Health{good, []Part{{Name: "source bus", OK: true}}},
			200, 200,
			`{"ok":true,"parts":[{"name":"store","ok":true},{"name":"source bus","ok":true}]}`,
		},
		"a source is away": {
			Health{good, []Part{{Name: "ksc", OK: true}, {Name: "source bus", Detail: "<refused>"}}},
			200, 503,
			`{"ok":false,"parts":[{"name":"store","ok":true},{"name":"ksc","ok":true},{"name":"source bus","ok":false,"detail":"<refused>"}]}`,
		},
		"the store is full": {Health{bad, nil}, 503, 503, `{"ok":false,"parts":[{"name":"store","ok":false,"detail":"disk full"}]}`},
		"nobody knows":      {Health{}, 503, 503, `{"ok":false,"parts":[{"name":"","ok":false}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPages(t, newMeter(t, nil), test.health)
			if status, body := fetchPage(p, "/healthz"); status != test.live {
				t.Errorf("healthz %d %s, want %d", status, body, test.live)
			}
			status, body := fetchPage(p, "/readyz")
			if status != test.ready || strings.TrimSpace(body) != test.readyContent {
				t.Errorf("readyz %d\n%swant %d\n%s", status, body, test.ready, test.readyContent)
			}
		})
	}
}

func TestPagesStayOnThisMachine(t *testing.T) {
	t.Parallel()
	m := newMeter(t, nil)
	for listen, ok := range map[string]bool{
		"127.0.0.1:0": true, "127.1.2.3:9448": true, "[::1]:0": true, "localhost:0": true,
		":9448": false, "0.0.0.0:9448": false, "10.0.0.1:1": false, "[::]:1": false, "localhost.evil.example:1": false,
		"127.0.0.1": false, "": false, "[::ffff:10.0.0.1]:1": false,
	} {
		_, err := NewPages(PagesConfig{Listen: listen, Meter: m, Health: func(context.Context) Health { return Health{} }})
		if (err == nil) != ok {
			t.Errorf("%q: got %v", listen, err)
		}
	}
}

func TestPagesRefuseBrowsersAndOtherNames(t *testing.T) {
	t.Parallel()
	p := newPages(t, newMeter(t, nil), Health{Store: Part{OK: true}})
	for name, test := range map[string]struct {
		method, host, header string
		want                 int
	}{
		"scraper":      {"GET", "127.0.0.1:9448", "", 200},
		"by name":      {"GET", "localhost:9448", "", 200},
		"IPv6":         {"GET", "[::1]:9448", "", 200},
		"IPv6 bare":    {"GET", "[::1]", "", 200},
		"head":         {"HEAD", "127.0.0.1", "", 200},
		"rebound name": {"GET", "evil.example:9448", "", 403},
		"no host":      {"GET", "", "", 403},
		"origin":       {"GET", "127.0.0.1:9448", "Origin", 403},
		"page":         {"GET", "127.0.0.1:9448", "Sec-Fetch-Site", 403},
		"post":         {"POST", "127.0.0.1:9448", "", 405},
	} {
		for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
			r := httptest.NewRequest(test.method, "http://x"+path, nil)
			r.Host = test.host
			if test.header != "" {
				r.Header.Set(test.header, "http://127.0.0.1:9448")
			}
			w := httptest.NewRecorder()
			p.ServeHTTP(w, r)
			if w.Code != test.want || w.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s %s: got %d, want %d", name, path, w.Code, test.want)
			}
		}
	}
}

func TestScrapesUnderLoadSeeWholeNumbers(t *testing.T) {
	t.Parallel()
	m := newMeter(t, nil)
	p := newPages(t, m, Health{Store: Part{Name: "store", OK: true}})
	if err := p.Serve(t.Context()); err == nil {
		t.Error("pages are served without a port")
	}
	addr, err := p.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var all sync.WaitGroup
	all.Go(func() {
		if err := p.Serve(ctx); err != nil {
			t.Error(err)
		}
	})
	const workers, events = 4, 2000
	var load sync.WaitGroup
	for range workers {
		load.Go(func() {
			for range events {
				m.Alert("bus")
				m.Admitted(bridge.Order{State: bridge.StateHeld, Reason: bridge.ReasonLimit}, time.Millisecond)
				m.Executed("local", time.Millisecond, nil)
			}
		})
	}
	client := &http.Client{Transport: &http.Transport{}}
	whole := regexp.MustCompile(`(?m)^edrbridge_alerts_total\{source="bus"\} \d+`)
	for range 3 {
		load.Go(func() {
			for range 10 {
				resp, err := client.Get("http://" + addr.String() + "/metrics")
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusOK || !whole.Match(body) {
					t.Errorf("status %d, %v", resp.StatusCode, err)
				}
			}
		})
	}
	load.Wait()
	client.CloseIdleConnections()
	if got := series(t, m)[`edrbridge_alerts_total{source="bus"}`]; got != fmt.Sprint(workers*events) {
		t.Errorf("%s alerts counted, want %d", got, workers*events)
	}
	stop()
	all.Wait()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
