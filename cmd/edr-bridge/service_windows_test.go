package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"
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
	code = execute(t.Context(), append([]string{"edr-bridge"}, args...), stdio{in: strings.NewReader(""), out: &out, err: &problems})
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
		run  func(context.Context) int
		stop bool
		want uint32
	}{
		{"stopped", func(ctx context.Context) int { <-ctx.Done(); return exitInterrupted }, true, exitDone},
		{"stopped, but the end went wrong", func(ctx context.Context) int { <-ctx.Done(); return exitFailed }, true, exitFailed},
		{"ended by itself", func(context.Context) int { return exitConfig }, false, exitConfig},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			requests, status := make(chan svc.ChangeRequest, 1), make(chan svc.Status, 8)
			if tt.stop {
				requests <- svc.ChangeRequest{Cmd: svc.Stop}
			}
			h := &serviceHandler{ctx: t.Context(), run: tt.run}
			if _, code := h.Execute(nil, requests, status); code != tt.want {
				t.Errorf("code %d, want %d", code, tt.want)
			}
			var seen []svc.State
			for len(status) > 0 {
				seen = append(seen, (<-status).State)
			}
			if len(seen) < 3 || seen[0] != svc.StartPending || seen[1] != svc.Running || seen[len(seen)-1] != svc.StopPending {
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
