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
