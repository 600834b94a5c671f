package ocsf

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func record(task bridge.Kind, to bridge.State) bridge.AuditRecord {
	return bridge.AuditRecord{
		Seq: 7, Time: time.Date(2026, 5, 6, 7, 8, 9, 123_456_789, time.UTC), What: bridge.AuditMove, Order: "o4f0c", From: bridge.StateSending, To: to,
		Rule: "office-spawns-shell", Task: task, Host: "ws1.corp.local", Source: "bus", Attempts: 1, Hash: [32]byte{0xab, 31: 0xcd},
	}
}

func TestEventsLookAsTheSchemaWants(t *testing.T) {
	t.Parallel()
	sha := strings.Repeat("a", 64)
	for name, tc := range map[string]struct {
		rec   bridge.AuditRecord
		order bridge.Order
	}{
		"process-by-pid": {record(bridge.KindTerminateProcess, bridge.StateDone), bridge.Order{
			ID: "o4f0c", Executor: "local", Task: bridge.TerminateProcess{Path: `C:\Users\x\a.exe`, SHA256: sha},
			Subject: bridge.Process{PID: 4711, Name: "a.exe", Started: time.Date(2026, 5, 6, 7, 0, 0, 0, time.UTC)},
		}},
		"process-by-path":  {record(bridge.KindTerminateProcess, bridge.StateDone), bridge.Order{ID: "o4f0c", Task: bridge.TerminateProcess{Path: "/tmp/a"}}},
		"file":             {record(bridge.KindDeleteFile, bridge.StateFailed), bridge.Order{ID: "o4f0c", Task: bridge.DeleteFile{Path: "/tmp/<a>&b", MD5: strings.Repeat("B", 32)}}},
		"isolate":          {record(bridge.KindIsolateHost, bridge.StateAccepted), bridge.Order{ID: "o4f0c", Executor: "ksc", Task: bridge.IsolateHost{Action: bridge.IsolationOn}}},
		"release":          {record(bridge.KindIsolateHost, bridge.StateDone), bridge.Order{ID: "o4f0c", Task: bridge.IsolateHost{Action: bridge.IsolationOff}}},
		"isolate-unknown":  {record(bridge.KindIsolateHost, bridge.StateUnknown), bridge.Order{}},
		"of-another-order": {record(bridge.KindIsolateHost, bridge.StateUnknown), bridge.Order{ID: "o1", Task: bridge.IsolateHost{Action: bridge.IsolationOn}}},
		"block":            {record(bridge.KindBlockAddress, bridge.StateDone), bridge.Order{ID: "o4f0c", Task: bridge.BlockAddress{Address: "192.0.2.1"}}},
		"scan":             {record(bridge.KindIOCScan, bridge.StateExpired), bridge.Order{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, ok := EventOf(tc.rec, tc.order, "1.2.3")
			if !ok {
				t.Fatal("no event")
			}
			valid(t, e)
			var got bytes.Buffer
			enc := json.NewEncoder(&got)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			if err := enc.Encode(e); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(path, got.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", path, diff)
			}
		})
	}
}

// valid checks what the schema requires of every event and of each class.
func valid(t *testing.T, e Remediation) {
	t.Helper()
	if e.CategoryUID != 7 || e.TypeUID != int(e.ClassUID)*100+int(e.ActivityID) || e.CommandUID == "" || e.Metadata.Version == "" || e.Metadata.Product.Name == "" {
		t.Errorf("event lacks what every event has: %+v", e)
	}
	switch e.ClassUID {
	case ClassFile:
		if e.File == nil || e.File.Name == "" {
			t.Error("a file event without a file name")
		}
	case ClassProcess:
		if e.Process == nil || e.Process.PID == 0 {
			t.Error("a process event without a pid")
		}
	case ClassNetwork:
		if e.ConnectionInfo == nil {
			t.Error("a network event without connection_info")
		}
	case ClassRemediation:
	}
	if e.StatusID == StatusOther && e.Status == "" || e.ActivityID == ActivityOther && e.ActivityName == "Other" && e.Unmapped.Task != "" {
		t.Errorf("status %q, activity %q: 99 needs the source's own word", e.Status, e.ActivityName)
	}
}

func TestOnlyOutcomesAreEvents(t *testing.T) {
	t.Parallel()
	outcomes := []bridge.State{
		bridge.StateDone, bridge.StateFailed, bridge.StateAccepted, bridge.StateRefused, bridge.StateUnknown, bridge.StateExpired, bridge.StateCancelled,
	}
	for _, kind := range append(bridge.Kinds(), "") {
		for _, state := range bridge.States() {
			e, ok := Event(record(kind, state), "1")
			if want := slices.Contains(outcomes, state); ok != want {
				t.Errorf("%s %s: event %v, want %v", kind, state, ok, want)
			}
			if ok {
				valid(t, e)
			}
		}
	}
	same := record(bridge.KindIsolateHost, bridge.StateAccepted)
	same.From = same.To
	if _, ok := Event(same, "1"); ok {
		t.Error("a change of fields alone is an event")
	}
	if _, ok := Event(bridge.AuditRecord{What: bridge.NoteStart}, "1"); ok {
		t.Error("a note is an event")
	}
}

func TestStatusTellsWhyAnOrderCameToNothing(t *testing.T) {
	t.Parallel()
	for reason, want := range map[bridge.Reason]Status{
		bridge.ReasonNone: StatusFailure, bridge.ReasonProtectedHost: StatusFailure, bridge.ReasonProcessGone: StatusDoesNotExist,
		bridge.ReasonHostNotFound: StatusDoesNotExist, bridge.ReasonUnsupported: StatusUnsupported, bridge.ReasonPanic: StatusError,
	} {
		r := record(bridge.KindIsolateHost, bridge.StateRefused)
		r.Reason = reason
		if e, _ := Event(r, "1"); e.StatusID != want || e.StatusCode != string(reason) {
			t.Errorf("refused for %q: status %d, code %q, want %d", reason, e.StatusID, e.StatusCode, want)
		}
	}
}

func TestDeviceIsAHostNameOrAnAddress(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]*Device{"": nil, "ws1": {Hostname: "ws1"}, "192.0.2.7": {IP: "192.0.2.7"}, "fe80::1": {IP: "fe80::1"}} {
		r := record(bridge.KindIsolateHost, bridge.StateDone)
		r.Host = host
		e, _ := Event(r, "1")
		if diff := cmp.Diff(want, e.Device); diff != "" {
			t.Errorf("host %q (-want +got):\n%s", host, diff)
		}
	}
}
