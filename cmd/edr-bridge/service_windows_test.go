package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/prevention"
)

// needWine skips outside of wine: the test changes the service manager of the machine, and under wine that is a folder.
func needWine(t *testing.T) {
	t.Helper()
	if windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() != nil {
		t.Skip("changes the service manager of this machine: only under wine, where that is a folder (make wine)")
	}
}

func serviceCLI(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, problems bytes.Buffer
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second) // also while the test is cleaned up
	defer cancel()
	code = execute(ctx, append([]string{"edr-bridge"}, args...), stdio{in: strings.NewReader(""), out: &out, err: &problems})
	return code, out.String(), problems.String()
}

func TestTheServiceIsInstalledSeenAndTakenAway(t *testing.T) {
	needWine(t)
	settings := filepath.Join(t.TempDir(), "my settings.yaml")
	if err := os.WriteFile(settings, []byte("version: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := serviceCLI(t, "service", "status"); code != exitNotFound || !strings.Contains(out, serviceAbsent) {
		t.Fatalf("status before: code %d, %q", code, out)
	}
	if code, _, problems := serviceCLI(t, "service", "start"); code != exitNotFound {
		t.Errorf("start of nothing: code %d, %q", code, problems)
	}
	if code, out, problems := serviceCLI(t, "service", "install", "--manual", "-c", settings); code != exitDone || !strings.Contains(out, serviceStopped) {
		t.Fatalf("install: code %d, %q, %q", code, out, problems)
	}
	t.Cleanup(func() { serviceCLI(t, "service", "uninstall") })
	if code, _, problems := serviceCLI(t, "service", "install", "-c", settings); code != exitFailed || !strings.Contains(problems, "installed already") {
		t.Errorf("second install: code %d, %q", code, problems)
	}
	code, out, problems := serviceCLI(t, "service", "status", "-o", "json")
	if code != exitDone || !strings.Contains(out, `"start":"manual"`) || !strings.Contains(out, `my settings.yaml\"`) {
		t.Errorf("status: code %d, %q, %q", code, out, problems)
	}
	if code, out, problems := serviceCLI(t, "service", "uninstall"); code != exitDone || !strings.Contains(out, serviceAbsent) {
		t.Errorf("uninstall: code %d, %q, %q", code, out, problems)
	}
}

func TestTheServiceIsNotInstalledWithoutSettings(t *testing.T) {
	t.Parallel()
	if code, _, problems := serviceCLI(t, "service", "install", "-c", filepath.Join(t.TempDir(), "none.yaml")); code != exitConfig {
		t.Errorf("code %d, %q", code, problems)
	}
}

func TestTheHostVerbIsForTheServiceManagerOnly(t *testing.T) {
	t.Parallel()
	if code, _, problems := serviceCLI(t, "service", "host"); code != exitUsage {
		t.Errorf("code %d, %q", code, problems)
	}
}

func TestServiceExpireSaysThatThereIsNoPacketFilter(t *testing.T) {
	needWine(t)
	if code, _, problems := serviceCLI(t, "service", "expire"); code != exitFailed || !strings.Contains(problems, "no filtering platform") {
		t.Errorf("code %d, %q", code, problems)
	}
}

func TestCommandLineOfTheServiceIsQuotedAsAWhole(t *testing.T) {
	t.Parallel()
	const want = `"C:\Program Files\x.exe" service host --config "D:\a b\c.yaml"`
	if got := commandOf(`C:\Program Files\x.exe`, []string{"service", "host", "--config", `D:\a b\c.yaml`}); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestServiceEndsWhenItIsToldTo(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		run  func(context.Context, func()) int
		stop bool
		want uint32
		ran  bool
	}{
		{"stopped", func(ctx context.Context, ready func()) int { ready(); <-ctx.Done(); return exitInterrupted }, true, exitDone, true},
		{"stopped, but the end went wrong", func(ctx context.Context, ready func()) int { ready(); <-ctx.Done(); return exitFailed }, true, exitFailed, true},
		{"stopped before it was ready", func(ctx context.Context, ready func()) int { <-ctx.Done(); ready(); return exitInterrupted }, true, exitDone, false},
		{"ended by itself before it was ready", func(context.Context, func()) int { return exitConfig }, false, exitConfig, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			requests, status := make(chan svc.ChangeRequest, 1), make(chan svc.Status)
			h := &serviceHandler{ctx: t.Context(), run: tt.run}
			code := make(chan uint32)
			go func() {
				_, exit := h.Execute(nil, requests, status)
				close(status)
				code <- exit
			}()
			var seen []svc.State
			for st := range status {
				seen = append(seen, st.State)
				if tt.stop && (st.State == svc.Running || !tt.ran && st.State == svc.StartPending) && len(requests) == 0 {
					requests <- svc.ChangeRequest{Cmd: svc.Stop}
				}
			}
			if exit := <-code; exit != tt.want {
				t.Errorf("code %d, want %d", exit, tt.want)
			}
			if seen[0] != svc.StartPending || slices.Contains(seen, svc.Running) != tt.ran || seen[len(seen)-1] != svc.StopPending {
				t.Errorf("states %v", seen)
			}
		})
	}
}

type eventLog struct{ lines []string }

func (l *eventLog) Info(_ uint32, s string) error { l.lines = append(l.lines, "I "+s); return nil }

func (l *eventLog) Warning(_ uint32, s string) error { l.lines = append(l.lines, "W "+s); return nil }

func (l *eventLog) Error(_ uint32, s string) error { l.lines = append(l.lines, "E "+s); return nil }

func TestEveryLineIsOneEventOfItsLevel(t *testing.T) {
	t.Parallel()
	log := &eventLog{}
	w := &eventWriter{log: log}
	for _, part := range []string{
		`{"level":"INFO","msg":"a"}`, "\n\n", `{"level":"WA`, `RN","msg":"b"}` + "\r\n" + `{"level":"ERROR","msg":"c"}` + "\n",
		"error: d\nplain\n", strings.Repeat("x", maxEvent+5), "\nend",
	} {
		if _, err := w.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		`I {"level":"INFO","msg":"a"}`, `W {"level":"WARN","msg":"b"}`, `E {"level":"ERROR","msg":"c"}`, "E error: d", "I plain",
		"I " + strings.Repeat("x", maxEvent), "I xxxxx",
	}
	if strings.Join(log.lines, "|") != strings.Join(want, "|") {
		t.Errorf("got %.300q", log.lines)
	}
}

func TestWaitingForAServiceEndsWithItsDeadline(t *testing.T) {
	needWine(t)
	settings := filepath.Join(t.TempDir(), "s.yaml")
	if err := os.WriteFile(settings, []byte("version: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, problems := serviceCLI(t, "service", "install", "--manual", "-c", settings); code != exitDone {
		t.Fatalf("install: code %d, %q, %q", code, out, problems)
	}
	t.Cleanup(func() { serviceCLI(t, "service", "uninstall") })
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := withService(windows.SERVICE_QUERY_STATUS, "wait", func(s *mgr.Service) error {
		_, err := waitFor(ctx, s, svc.Running)
		return err
	})
	if p, ok := errors.AsType[*problem](err); !ok || p.exit != exitUnknown {
		t.Errorf("waiting for a service nobody started: %v", err)
	}
}

func TestServiceOrNotTheVerbsOfTheAgentAnswer(t *testing.T) {
	dir := t.TempDir()
	settings := filepath.Join(dir, "s.yaml")
	text := "version: 1\nlocal: {enabled: true, state: '" + filepath.Join(dir, "state") + "'}\n"
	if err := os.WriteFile(settings, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"jobs", "rules", "status"} {
		if code, _, problems := serviceCLI(t, "agent", verb, "-c", settings); code != exitDone {
			t.Errorf("agent %s: code %d, %q", verb, code, problems)
		}
	}
	// As the agent of the service has it.
	rules := filepath.Join(dir, "state", "prevention")
	if err := os.MkdirAll(rules, 0o700); err != nil {
		t.Fatal(err)
	}
	held, err := files.LockFile(filepath.Join(rules, "rules.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Release()
	for _, verb := range [][]string{{"remove-rule", "p1"}, {"cancel", "o1"}} {
		code, _, problems := serviceCLI(t, append([]string{"agent", "-c", settings}, verb...)...)
		if code != exitFailed || !strings.Contains(problems, "service stop") {
			t.Errorf("agent %s: code %d, %q", verb[0], code, problems)
		}
	}
}

func TestTheServiceIsNotUninstalledWhileSomethingStands(t *testing.T) {
	needWine(t)
	dir := t.TempDir()
	settings, program := filepath.Join(dir, "s.yaml"), filepath.Join(dir, "denied.exe")
	for _, path := range []string{settings, program} {
		if err := os.WriteFile(path, []byte("version: 1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if code, out, problems := serviceCLI(t, "service", "install", "--manual", "-c", settings); code != exitDone {
		t.Fatalf("install: code %d, %q, %q", code, out, problems)
	}
	t.Cleanup(func() { serviceCLI(t, "service", "uninstall") })
	guard, err := prevention.New(prevention.Config{
		State: filepath.Join(dir, "state"), Mode: prevention.Block,
		Protected: func(context.Context) (prevention.Protected, error) { return nobody{}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := guard.Add(t.Context(), "o1", bridge.PreventExecution{Path: program})
	if err != nil {
		t.Fatal(err)
	}
	if code, _, problems := serviceCLI(t, "service", "uninstall"); code != exitFailed || !strings.Contains(problems, "denied.exe") {
		t.Errorf("while a rule stands: code %d, %q", code, problems)
	}
	if code, out, _ := serviceCLI(t, "service", "status"); code != exitDone {
		t.Errorf("it is not installed any more: code %d, %q", code, out)
	}
	if err := guard.Remove(t.Context(), r.Ref); err != nil {
		t.Fatal(err)
	}
	if code, out, problems := serviceCLI(t, "service", "uninstall"); code != exitDone || !strings.Contains(out, serviceAbsent) {
		t.Errorf("when nothing stands: code %d, %q, %q", code, out, problems)
	}
}

// nobody protects no program.
type nobody struct{}

func (nobody) ByID(files.ID) (bridge.Reason, string) { return bridge.ReasonNone, "" }

func (nobody) ByDigest(string) (bridge.Reason, string) { return bridge.ReasonNone, "" }

func (nobody) ByPath(string) (bridge.Reason, string) { return bridge.ReasonNone, "" }

func TestServiceRefusesAStateOthersHavePutSomethingInto(t *testing.T) {
	needWine(t)
	dir := t.TempDir()
	settings, key := filepath.Join(dir, "s.yaml"), filepath.Join(dir, "state", "quarantine.key")
	text := "version: 1\nsources:\n  bus: {type: redis-stream, address: '127.0.0.1:1', stream: a, preset: python-edr}\n" +
		"local: {enabled: true, dry_run: true, state: '" + filepath.Dir(key) + "'}\n"
	if err := errors.Join(os.WriteFile(settings, []byte(text), 0o600), os.Mkdir(filepath.Dir(key), 0o700), os.WriteFile(key, []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	sd, err := windows.SecurityDescriptorFromString("D:P(A;;FA;;;WD)")
	if err != nil {
		t.Fatal(err)
	}
	list, _, err := sd.DACL()
	if err != nil {
		t.Fatal(err)
	}
	if err := windows.SetNamedSecurityInfo(key, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION, nil, nil, list, nil); err != nil {
		t.Fatal(err)
	}
	if code, _, problems := serviceCLI(t, "run", "-c", settings); code != exitConfig || !strings.Contains(problems, "quarantine.key") {
		t.Errorf("code %d, %q", code, problems)
	}
}
