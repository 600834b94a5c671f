package mapping_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/mapping"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// received is the moment all test alerts come in; their product's clock is UTC+3.
var (
	received = time.Date(2026, 11, 20, 17, 7, 0, 0, time.UTC)
	zone     = time.FixedZone("UTC+3", 3*60*60)
)

const separator = "----------\n"

// TestRulesAndAlertsGiveTheOrdersOfTheGoldenFiles runs testdata/golden: rules, the alert, then what comes
// out. Comments at the top of the rules choose preset, host and tasks of the source, ceiling and lease.
func TestRulesAndAlertsGiveTheOrdersOfTheGoldenFiles(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/golden/*.golden")
	if err != nil || len(files) == 0 {
		t.Fatalf("golden files: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".golden"), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			parts := strings.Split(string(data), separator)
			if len(parts) < 2 {
				t.Fatalf("%s: want rules, alert and output between lines of dashes", file)
			}
			got := outcome(t, parts[0], strings.TrimSuffix(parts[1], "\n"))
			if *update {
				text := parts[0] + separator + parts[1] + separator + got
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if len(parts) != 3 {
				t.Fatalf("%s: no output: run with -update and read it", file)
			}
			if diff := cmp.Diff(parts[2], got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func outcome(t *testing.T, rules, doc string) string {
	t.Helper()
	cfg := mapping.Config{
		Files:    []mapping.RuleFile{{Name: "rules.yaml", Data: []byte(rules)}},
		Ceiling:  bridge.ModeEnforce,
		Location: zone,
	}
	src := mapping.Source{Preset: "generic"}
	var err error
	for line := range strings.Lines(rules) {
		key, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "# "), ": ")
		if !strings.HasPrefix(line, "#") || !ok {
			break
		}
		switch key {
		case "preset":
			src.Preset = value
		case "host":
			src.Host = value
		case "lease":
			cfg.Lease, err = time.ParseDuration(value)
			if err != nil {
				t.Fatal(err)
			}
		case "ceiling":
			cfg.Ceiling = bridge.Mode(value)
		case "tasks":
			src.Tasks = []bridge.Kind{}
			for k := range strings.FieldsSeq(value) {
				src.Tasks = append(src.Tasks, bridge.Kind(k))
			}
		}
	}
	cfg.Sources = map[string]mapping.Source{"bus": src}
	m, err := mapping.New(cfg)
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	mapped, err := m.Map(bridge.Alert{Source: "bus", ID: "1700000000000-0", Received: received, Raw: []byte(doc)})
	if err != nil {
		if !errors.Is(err, bridge.ErrBadAlert) {
			t.Errorf("%v does not wrap ErrBadAlert", err)
		}
		return "error: " + err.Error() + "\n"
	}
	var b strings.Builder
	for _, one := range mapped {
		writeMapped(t, &b, one)
	}
	return b.String()
}

func writeMapped(t *testing.T, b *strings.Builder, m bridge.Mapped) {
	t.Helper()
	if string(m.Alert.Raw) == "" || m.Alert.Source != "bus" || !m.Alert.Received.Equal(received) {
		t.Errorf("alert lost its origin: %+v", m.Alert)
	}
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(b, "  %s: %s\n", name, value)
		}
	}
	fmt.Fprintf(b, "alert %s\n", m.Alert.ID)
	line("time", stamp(m.Alert.Time))
	line("level", m.Alert.Level)
	line("host", m.Alert.Host)
	if p := m.Alert.Process; p.PID != 0 || p.Path != "" || p.Name != "" {
		line("process", fmt.Sprintf("%d %d %q %q parent %q %q", p.PID, p.Start, p.Name, p.Path, p.ParentName, p.ParentPath))
	}
	if m.Alert.SourceAddress.IsValid() {
		line("source_ip", m.Alert.SourceAddress.String())
	}
	for _, o := range m.Orders {
		params, err := bridge.EncodeParams(o.Task)
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(b, "order %s %s %s\n", o.Task.Kind(), o.ID, params)
		line("rule", fmt.Sprintf("%s (%s) %s", o.Rule, o.At, o.Mode))
		line("host", o.Host)
		if o.Subject.PID != 0 {
			line("subject", fmt.Sprintf("%d %d %s", o.Subject.PID, o.Subject.Start, o.Subject.Path))
		}
		if o.For != 0 {
			line("for", o.For.String())
		}
		if o.Dedupe != "" || o.Window != 0 {
			line("dedupe", o.Dedupe+" "+o.Window.String())
		}
		if o.Strike != "" || o.StrikeCount != 0 || o.StrikeWithin != 0 {
			line("strike", fmt.Sprintf("%s %d in %s", o.Strike, o.StrikeCount, o.StrikeWithin))
		}
		line("alert time", stamp(o.AlertTime))
		if o.State != "" || o.Detail != "" || o.AlertID != m.Alert.ID || o.Source != m.Alert.Source {
			t.Errorf("order has state %q, detail %q, alert %q", o.State, o.Detail, o.AlertID)
		}
	}
	for _, o := range m.Refused {
		fmt.Fprintf(b, "%s %s\n", o.State, o.ID)
		line("rule", fmt.Sprintf("%s (%s) %s", o.Rule, o.At, o.Mode))
		line("host", o.Host)
		line("reason", string(o.Reason))
		line("detail", o.Detail)
	}
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "unknown"
	}
	return t.Format(time.RFC3339Nano)
}

// quoted returns s as a JSON string.
func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}
