package store

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// benchAdmission is an alert of about 600 bytes with one order that carries its intent.
func benchAdmission(tb testing.TB, n int64) bridge.Admission {
	tb.Helper()
	id := fmt.Sprintf("a%d", n)
	task := bridge.TerminateProcess{Path: `C:\Users\Public\invoice.exe`, SHA256: strings.Repeat("a", 64)}
	host := fmt.Sprintf("ws%03d.corp.local", n%500)
	orderID, err := bridge.NewOrderID("bus", id, "office-spawns-shell", task, host)
	if err != nil {
		tb.Fatal(err)
	}
	now := time.Now()
	return bridge.Admission{
		Alerts: []bridge.Alert{{
			ID: id, Source: "bus", Preset: "python-edr", Received: now, Level: "HIGH", Title: "office spawns shell", Host: host,
			Raw: []byte(`{"id":"` + id + `","pad":"` + strings.Repeat("x", 580) + `"}`),
		}},
		Orders: []bridge.Order{{
			ID: orderID, AlertID: id, Source: "bus", Rule: "office-spawns-shell", At: "rules.d/office.yaml:3", Host: host, Task: task,
			Mode: bridge.ModeEnforce, Via: bridge.ViaAuto, Created: now, NotAfter: now.Add(15 * time.Minute),
			State: bridge.StateSending, Executor: "ksc",
			Intent: bridge.Intent{
				Target: host, Second: now,
				Body: `{"task":"terminateProcess","params":{"md5hash":"","sha256hash":"` + strings.Repeat("a", 64) +
					`","path":"C:\\Users\\Public\\invoice.exe","caseSensitive":false},"n":"` + id + `"}`,
			},
		}},
	}
}

// coldChild is what a short-lived process does with an existing store.
func coldChild(dir string) {
	ctx := context.Background()
	tb := childTB{}
	a := benchAdmission(tb, time.Now().UnixNano())
	times := []time.Time{time.Now()}
	s, err := Open(ctx, Config{Dir: dir, Owner: OwnerSend})
	times = append(times, time.Now())
	if err != nil {
		tb.Fatal(err)
	}
	out, err := s.Admit(ctx, a)
	times = append(times, time.Now())
	if err != nil {
		tb.Fatal(err)
	}
	o := out[0].Order
	o.State = bridge.StateAccepted
	if _, err := s.Move(ctx, o, bridge.StateSending); err != nil {
		tb.Fatal(err)
	}
	times = append(times, time.Now())
	if err := s.Close(); err != nil {
		tb.Fatal(err)
	}
	times = append(times, time.Now())
	for i := range times[1:] {
		fmt.Fprintln(os.Stdout, times[i+1].Sub(times[i]).Microseconds())
	}
}

// BenchmarkColdProcess times a fresh process on an existing store, with and without another process that has it open.
func BenchmarkColdProcess(b *testing.B) {
	for name, shared := range map[string]bool{"alone": false, "beside-a-running-bridge": true} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			s, err := Open(b.Context(), Config{Dir: dir})
			if err != nil {
				b.Fatal(err)
			}
			for i := range int64(2000) {
				if _, err := s.Admit(b.Context(), benchAdmission(b, i)); err != nil {
					b.Fatal(err)
				}
			}
			if !shared {
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			} else {
				defer s.Close()
			}
			self, err := os.Executable()
			if err != nil {
				b.Fatal(err)
			}
			var sums [4]float64
			for b.Loop() {
				out, err := exec.CommandContext(b.Context(), self, childCold, dir).Output()
				if err != nil {
					b.Fatal(err)
				}
				for i, line := range strings.Fields(string(out)) {
					us, err := strconv.ParseFloat(line, 64)
					if err != nil {
						b.Fatal(err)
					}
					sums[i] += us
				}
			}
			for i, what := range []string{"µs-open", "µs-admit", "µs-move", "µs-close"} {
				b.ReportMetric(sums[i]/float64(b.N), what)
			}
		})
	}
}
