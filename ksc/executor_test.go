package ksc_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/ksc"
	"github.com/edr-bridge/edr-bridge/ksc/ksctest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const (
	md5Hash    = "44d88612fea8a8f36de82e1278abb02f"
	sha256Hash = "275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f"
)

// TestAddIncidentBodyIsTheVendorsByteForByte keeps what is posted for each of the nine tasks in testdata/wire.
func TestAddIncidentBodyIsTheVendorsByteForByte(t *testing.T) {
	t.Parallel()
	s := startMock(t)
	e := newExecutor(t, newClient(t, s))
	tasks := map[bridge.Kind]bridge.Task{
		bridge.KindGetFile:          bridge.GetFile{Path: `C:\Users\Public\a.exe`, MD5: md5Hash},
		bridge.KindDeleteFile:       bridge.DeleteFile{Path: `C:\Users\Public\a.exe`, SHA256: sha256Hash, SearchInSubfolders: true},
		bridge.KindQuarantineFile:   bridge.QuarantineFile{Path: `C:\Users\Public\a & b.exe`},
		bridge.KindIOCScan:          bridge.IOCScan{IOC: smallArchive, IsolateHost: true, QuarantineObject: true},
		bridge.KindStartProcess:     bridge.StartProcess{ExecutablePath: `C:\Tools\collect.exe`, Arguments: `/all "quoted"`},
		bridge.KindTerminateProcess: bridge.TerminateProcess{Path: `C:\Users\Public\a.exe`, CaseSensitive: true},
		bridge.KindIsolateHost:      bridge.IsolateHost{Action: bridge.IsolationOn},
		bridge.KindPreventExecution: bridge.PreventExecution{Hash: md5Hash},
		bridge.KindOnDemandScan:     bridge.OnDemandScan{Objects: []bridge.ScanObject{{Enabled: true, Path: `C:\Users`, Recursive: true, Type: bridge.ScanFolder}}},
	}
	for _, kind := range bridge.Kinds() {
		if !kind.KSC() {
			continue
		}
		t.Run(string(kind), func(t *testing.T) {
			in, ok, err := e.Intend(t.Context(), bridge.Order{ID: "o1", Host: "WS-01", Task: tasks[kind]}, true)
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			got := append(ksc.Preview(in), '\n')
			file := filepath.Join("testdata", "wire", string(kind)+".json")
			if *update {
				if err := os.WriteFile(file, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Error(cmp.Diff(string(want), string(got)))
			}
		})
	}
}

// smallArchive is a ZIP archive with one empty OpenIOC file, in base64.
const smallArchive = "UEsDBBQAAAAAAAAAIQCjxPGsBgAAAAYAAAAFAAAAYS5pb2M8aW9jLz5QSwECFAMUAAAAAAAAACEAo8TxrAYAAAAGAAAABQAAAAAAAAAAAAAAgAEAAAAAYS5pb2NQSwUGAAAAAAEAAQAzAAAAKQAAAAAA"

func TestIntendFixesTargetNamesAndSecond(t *testing.T) {
	t.Parallel()
	s := startMock(t)
	e := newExecutor(t, newClient(t, s))
	for _, host := range []string{"ws-01.corp.local", "WS-01", "ws-01", hostA, strings.ToUpper(hostA), "10.0.5.17"} {
		in, ok, err := e.Intend(t.Context(), bridge.Order{ID: "o1", Host: host, Task: bridge.IsolateHost{Action: 1}}, true)
		if err != nil || !ok {
			t.Fatalf("%s: %v, %v", host, ok, err)
		}
		want := isolate(t, 0).Intent
		want.Names = []string{"ws-01.corp.local", "WS-01", "ws-01", "10.0.5.17"}
		if diff := cmp.Diff(want, in); diff != "" {
			t.Errorf("%s: %s", host, diff)
		}
	}
	in, _, err := e.Intend(t.Context(), bridge.Order{ID: "o1", Host: "200.1.2.3", Task: bridge.IsolateHost{Action: 1}}, true)
	if err != nil || in.Target != hostB {
		t.Errorf("address above 127.255.255.255: %v, %v", in.Target, err)
	}
}

func TestIntendRefuses(t *testing.T) {
	t.Parallel()
	s := startMock(t, func(c *ksctest.Config) {
		for i := range 12 {
			c.Hosts = append(c.Hosts, ksctest.Host{ID: fmt.Sprintf("00000000-0000-0000-0000-%012d", i), DisplayName: fmt.Sprintf("TWIN~%d", i), NetBIOS: "TWIN", FQDN: fmt.Sprintf("twin%d.corp.local", i)})
		}
		c.Hosts = append(c.Hosts,
			ksctest.Host{ID: "11111111-0000-0000-0000-000000000001", NetBIOS: "CROSS"},
			ksctest.Host{ID: "11111111-0000-0000-0000-000000000002", DisplayName: "cross", NetBIOS: "OTHER"},
			ksctest.Host{ID: "11111111-0000-0000-0000-000000000003", DisplayName: "host.corp.local", NetBIOS: "X3"},
			ksctest.Host{ID: "11111111-0000-0000-0000-000000000004", FQDN: "host.corp.local", NetBIOS: "X4"})
	})
	e := newExecutor(t, newClient(t, s))
	on := bridge.IsolateHost{Action: 1}
	for name, c := range map[string]struct {
		host string
		task bridge.Task
		want bridge.Reason
		text string
	}{
		"unknown name":              {"nobody", on, bridge.ReasonHostNotFound, "nobody"},
		"unknown id":                {"99999999-3807-4b97-8a97-d49e73ec5ab1", on, bridge.ReasonHostNotFound, "99999999"},
		"unknown address":           {"10.9.9.9", on, bridge.ReasonHostNotFound, "10.9.9.9"},
		"IPv6 address":              {"2001:db8::1", on, bridge.ReasonHostNotFound, "IPv6"},
		"loopback":                  {"127.0.0.1", on, bridge.ReasonInvalid, "127.0.0.1"},
		"no host":                   {"", on, bridge.ReasonNoHost, "host"},
		"wildcard":                  {"WS-*", on, bridge.ReasonInvalid, "filters"},
		"injection":                 {`x")(KLHST_WKS_DN="`, on, bridge.ReasonInvalid, "filters"},
		"control character":         {"ws\n01", on, bridge.ReasonInvalid, "control"},
		"long name":                 {strings.Repeat("a", 300), on, bridge.ReasonInvalid, "longer"},
		"twelve twins":              {"TWIN", on, bridge.ReasonHostAmbiguous, "12 hosts"},
		"name of one, shown as two": {"cross", on, bridge.ReasonHostAmbiguous, "11111111-0000-0000-0000-000000000002"},
		"blockAddress":              {"ws-01", bridge.BlockAddress{Address: "203.0.113.7"}, bridge.ReasonUnsupported, "local"},
		"SHA-256 to prevent":        {"ws-01", bridge.PreventExecution{Hash: sha256Hash}, bridge.ReasonUnsupported, "MD5"},
		"process without criteria":  {"ws-01", bridge.TerminateProcess{}, bridge.ReasonInvalid, "pid"},
		"no task":                   {"ws-01", nil, bridge.ReasonInvalid, "task"},
	} {
		t.Run(name, func(t *testing.T) {
			o := bridge.Order{ID: "o1", Host: c.host, Task: c.task, Subject: bridge.Process{PID: 4242}}
			_, ok, err := e.Intend(t.Context(), o, true)
			if ok {
				t.Fatal("not refused")
			}
			ee := wantClass(t, err, bridge.Permanent)
			if ee.Reason != c.want || ee.OrderID != "o1" || ee.Executor != bridge.ExecutorKSC || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got reason %q: %v", ee.Reason, err)
			}
			if n := strings.Count(err.Error(), "00000000-0000-0000-0000-"); n > 10 {
				t.Errorf("%d candidates are listed", n)
			}
		})
	}
	in, _, err := e.Intend(t.Context(), bridge.Order{Host: "host.corp.local", Task: on}, true)
	if err != nil || in.Target != "11111111-0000-0000-0000-000000000004" {
		t.Errorf("an FQDN is exact whatever others are shown as: %v, %v", in.Target, err)
	}
	if n := s.OpenAccessors(); n != 0 {
		t.Errorf("%d result sets were left behind", n)
	}
}

func TestIntendWithoutWaitingAnswersFromMemoryOnly(t *testing.T) {
	t.Parallel()
	s := startMock(t)
	now := start
	e := newExecutor(t, newClient(t, s), func(cfg *ksc.ExecutorConfig) {
		cfg.Now, cfg.HostCacheTTL = func() time.Time { return now }, time.Minute
	})
	o := bridge.Order{ID: "o1", Host: "WS-01", Task: bridge.IsolateHost{Action: 1}}
	if _, ok, err := e.Intend(t.Context(), o, false); ok || err != nil {
		t.Fatalf("unknown host: %v, %v", ok, err)
	}
	if n := len(s.Requests()); n != 0 {
		t.Fatalf("the network was touched: %v", s.Requests())
	}
	if _, ok, err := e.Intend(t.Context(), o, true); !ok || err != nil {
		t.Fatal(ok, err)
	}
	s.Down()
	o.Host = "ws-01"
	in, ok, err := e.Intend(t.Context(), o, false)
	if !ok || err != nil || in.Target != hostA {
		t.Fatal(in, ok, err)
	}
	now = now.Add(time.Minute)
	if _, ok, err := e.Intend(t.Context(), o, false); ok || err != nil {
		t.Fatalf("after its time: %v, %v", ok, err)
	}
	o.Task = bridge.BlockAddress{}
	if _, _, err := e.Intend(t.Context(), o, false); err == nil {
		t.Error("a refusal needs no network")
	}
}

func TestExecuteMakesTheTwoCallsOfOneRequest(t *testing.T) {
	t.Parallel()
	s := startMock(t, func(c *ksctest.Config) { c.StrictUpdate, c.BackgroundConnection = true, true })
	e := newExecutor(t, newClient(t, s))
	o := isolate(t, 0)
	r, err := e.Execute(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	inc := s.Incidents()[0]
	want := bridge.Receipt{State: bridge.StateAccepted, Ref: strconv.Itoa(inc.ID)}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Error(diff)
	}
	if inc.Body != o.Intent.Body || inc.Host != hostA || !inc.Added.Equal(start) || inc.Severity != 2 || inc.Handled {
		t.Errorf("got %+v", inc)
	}
	if n := s.Requests()["HostGroup.UpdateIncident"]; n != 1 {
		t.Errorf("%d updates", n)
	}
	if tasks := s.Tasks(); len(tasks) != 1 {
		t.Errorf("the server made %d tasks of it", len(tasks))
	}
}

func TestExecuteAcceptsAnIncidentWhoseUpdateFails(t *testing.T) {
	t.Parallel()
	s := startMock(t)
	e := newExecutor(t, newClient(t, s))
	addFault(t, s, ksctest.Fault{Kind: ksctest.FaultServerError, Method: "HostGroup.UpdateIncident"})
	r, err := e.Execute(t.Context(), isolate(t, 0))
	if err != nil || r.State != bridge.StateAccepted || r.Ref == "" || !strings.Contains(r.Detail, "unconfirmed") {
		t.Fatalf("%+v, %v", r, err)
	}
	if n := s.Requests()["HostGroup.UpdateIncident"]; n != 3 {
		t.Errorf("%d updates, want 3", n)
	}
	if n := s.AddedIncidents(); n != 1 {
		t.Errorf("%d incidents", n)
	}
}

func TestExecuteUpdatesEvenWhenItsTimeEndsInBetween(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	raw := startRaw(t, func(w http.ResponseWriter, _ *http.Request, method string) {
		if method == addIncident {
			defer cancel()
		}
		fmt.Fprint(w, `{"PxgRetVal":17}`)
	})
	e := newExecutor(t, rawClient(t, raw))
	r, err := e.Execute(ctx, isolate(t, 0))
	if err != nil {
		wantClass(t, err, bridge.Unknown) // the answer lost the race against the cancellation
		return
	}
	if r.Ref != "17" || r.Detail != "" || raw.count("HostGroup.UpdateIncident") != 1 {
		t.Errorf("%+v after %d updates", r, raw.count("HostGroup.UpdateIncident"))
	}
}

func TestExecuteRefusesAnOrderWithoutIntent(t *testing.T) {
	t.Parallel()
	s := startMock(t)
	o := isolate(t, 0)
	o.Intent = bridge.Intent{}
	_, err := newExecutor(t, newClient(t, s)).Execute(t.Context(), o)
	wantClass(t, err, bridge.Permanent)
	if len(s.Requests()) != 0 {
		t.Error("something was sent")
	}
}

func TestExecuteOfACancelledCallerSendsNothing(t *testing.T) {
	t.Parallel()
	s := startMock(t)
	c := newClient(t, s)
	if err := c.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := newExecutor(t, c).Execute(ctx, isolate(t, 0))
	wantClass(t, err, bridge.Retry)
	if n := s.Requests()[addIncident]; n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestReconcileAdoptsOnlyTheEqualIncident(t *testing.T) {
	t.Parallel()
	o := isolate(t, 0)
	spaced := strings.NewReplacer(`":`, `": `, `,"`, `, "`).Replace(o.Intent.Body)
	add := func(t *testing.T, c *ksc.Client, second int, body, host string) int64 {
		t.Helper()
		id, err := c.AddIncident(t.Context(), ksc.NewIncident{Severity: 2, Added: ksc.DateTime{Time: start.Add(time.Duration(second) * time.Second)}, Body: body, Host: host})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	for name, c := range map[string]struct {
		second     int
		body, host string
		found      bool
	}{
		"same":           {0, o.Intent.Body, hostA, true},
		"spaced body":    {0, spaced, hostA, true},
		"other host":     {0, o.Intent.Body, hostB, false},
		"a second later": {1, o.Intent.Body, hostA, false},
		"a second ago":   {-1, o.Intent.Body, hostA, false},
		"other task":     {0, strings.Replace(o.Intent.Body, `"action":1`, `"action":0`, 1), hostA, false},
		"by a person":    {0, "printer is on fire", hostA, false},
		"further key":    {0, strings.Replace(o.Intent.Body, `{"t`, `{"x":1,"t`, 1), hostA, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startMock(t)
			client := newClient(t, s)
			id := add(t, client, c.second, c.body, c.host)
			r, found, err := newExecutor(t, client).Reconcile(t.Context(), o)
			if err != nil || found != c.found {
				t.Fatalf("found %v, %v", found, err)
			}
			if found && (r.Ref != strconv.FormatInt(id, 10) || r.State != bridge.StateAccepted || s.Requests()["HostGroup.UpdateIncident"] != 1) {
				t.Errorf("%+v", r)
			}
		})
	}
	t.Run("clipped body", func(t *testing.T) {
		t.Parallel()
		s := startMock(t)
		client := newClient(t, s)
		add(t, client, 0, o.Intent.Body[:60], hostA)
		_, _, err := newExecutor(t, client).Reconcile(t.Context(), o)
		wantClass(t, err, bridge.Unknown)
	})
	t.Run("several", func(t *testing.T) {
		t.Parallel()
		s := startMock(t)
		client := newClient(t, s)
		first := add(t, client, 0, o.Intent.Body, hostA)
		for range 120 { // more than a page
			add(t, client, 0, o.Intent.Body, hostA)
		}
		r, found, err := newExecutor(t, client).Reconcile(t.Context(), o)
		if err != nil || !found || r.Ref != strconv.FormatInt(first, 10) || !strings.Contains(r.Detail, "duplicates") {
			t.Fatalf("%+v, %v, %v", r, found, err)
		}
	})
}

func TestSearchIsRepeatedWhenTheSessionTookTheResultSetAlong(t *testing.T) {
	t.Parallel()
	s := startMock(t)
	e := newExecutor(t, newClient(t, s))
	addFault(t, s, ksctest.Fault{Kind: ksctest.FaultExpire, Method: "ChunkAccessor.GetItemsChunk", Count: 1})
	m, err := e.Resolve(t.Context(), "ws-01")
	if err != nil || len(m) != 1 {
		t.Fatalf("%v, %v", m, err)
	}
}

func TestResultSetIsReleasedWhenTheCallerIsGone(t *testing.T) {
	t.Parallel()
	s := startMock(t)
	c := newClient(t, s)
	if err := c.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	addFault(t, s, ksctest.Fault{Kind: ksctest.FaultSlow, Method: "ChunkAccessor.GetItemsCount", Delay: 10 * time.Second})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := newExecutor(t, c).Resolve(ctx, "ws-01"); err == nil {
		t.Fatal("no error")
	}
	if n := s.OpenAccessors(); n != 0 {
		t.Errorf("%d result sets were left behind", n)
	}
}

func TestCheckTellsWhatKeepsOrdersFromBeingCarriedOut(t *testing.T) {
	t.Parallel()
	levels := func(rs []ksc.CheckResult) map[string]string {
		m := map[string]string{}
		for _, r := range rs {
			m[r.Name] = r.Level.String()
			if r.Detail == "" || r.Level != ksc.CheckPassed && r.Fix == "" {
				m[r.Name] += " without words"
			}
		}
		return m
	}
	now := func(cfg *ksc.ExecutorConfig) { cfg.Now = time.Now }
	for name, c := range map[string]struct {
		mock   func(*ksctest.Config)
		client func(*ksc.Config)
		want   map[string]string
	}{
		"all well":      {func(c *ksctest.Config) { c.BackgroundConnection = true }, func(*ksc.Config) {}, map[string]string{"login": "ok", "certificate": "ok", "console": "ok", "hosts": "ok"}},
		"no console":    {func(*ksctest.Config) {}, func(*ksc.Config) {}, map[string]string{"login": "ok", "certificate": "ok", "console": "warn", "hosts": "ok"}},
		"no hosts":      {func(c *ksctest.Config) { c.Hosts = nil }, func(*ksc.Config) {}, map[string]string{"login": "ok", "certificate": "ok", "console": "warn", "hosts": "warn"}},
		"ends soon":     {func(c *ksctest.Config) { c.CertNotAfter = time.Now().Add(48 * time.Hour) }, func(*ksc.Config) {}, map[string]string{"login": "ok", "certificate": "warn", "console": "warn", "hosts": "ok"}},
		"insecure":      {func(*ksctest.Config) {}, func(c *ksc.Config) { c.CA, c.Insecure = nil, true }, map[string]string{"login": "ok", "certificate": "warn", "console": "warn", "hosts": "ok"}},
		"wrong account": {func(*ksctest.Config) {}, func(c *ksc.Config) { c.User = "nobody" }, map[string]string{"login": "fail", "certificate": "ok"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newExecutor(t, newClient(t, startMock(t, c.mock), c.client), now)
			if diff := cmp.Diff(c.want, levels(e.Check(t.Context()))); diff != "" {
				t.Error(diff)
			}
		})
	}
}
