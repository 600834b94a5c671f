package mapping_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/mapping"
)

// TestPresetsReadTheDocumentsOfTheGoldenFiles runs testdata/presets: a line "# preset: name", the delivery, then every fact of its
// alerts. The delivery is everything between the two lines of dashes, without the last line break.
func TestPresetsReadTheDocumentsOfTheGoldenFiles(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/presets/*.golden")
	if err != nil || len(files) == 0 {
		t.Fatalf("golden files: %v, %v", files, err)
	}
	covered := map[string]bool{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(string(data), separator)
		if len(parts) < 2 {
			t.Fatalf("%s: want preset, delivery and output between lines of dashes", file)
		}
		preset := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(parts[0]), "# preset:"))
		covered[preset] = true
		t.Run(strings.TrimSuffix(filepath.Base(file), ".golden"), func(t *testing.T) {
			t.Parallel()
			got := alertsOf(t, preset, strings.TrimSuffix(parts[1], "\n"))
			if *update {
				if err := os.WriteFile(file, []byte(parts[0]+separator+parts[1]+separator+got), 0o600); err != nil {
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
	for _, p := range mapping.Presets() {
		if !p.Strict && !covered[p.Name] {
			t.Errorf("preset %s has no golden file", p.Name)
		}
	}
}

// alertsOf renders every fact of every alert of a delivery; absent facts are left out.
func alertsOf(t *testing.T, preset, doc string) string {
	t.Helper()
	m := newMapping(t, preset, "", "rules: []")
	mapped, err := m.Map(bridge.Alert{Source: "bus", Received: received, Raw: []byte(doc)})
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "  %s: %s\n", name, value)
		}
	}
	for _, one := range mapped {
		a := one.Alert
		if !strings.Contains(doc, string(a.Raw)) || len(a.Raw) == 0 || a.Preset != preset || !a.Received.Equal(received) {
			t.Errorf("alert %s lost its origin", a.ID)
		}
		fmt.Fprintf(&b, "alert %s\n", a.ID)
		if len(a.Raw) != len(doc) {
			line("raw", fmt.Sprintf("%d bytes", len(a.Raw)))
		}
		for _, o := range one.Refused {
			line(string(o.State), string(o.Reason)+": "+o.Detail)
		}
		if len(one.Refused) > 0 {
			continue
		}
		line("time", stamp(a.Time))
		line("level", a.Level)
		line("title", a.Title)
		line("description", a.Description)
		line("details", a.Details)
		line("tenant", a.Tenant)
		line("case", a.Case)
		line("host", a.Host)
		line("user", a.User)
		if a.Process.PID != 0 || a.Process.Start != 0 {
			line("process.pid", fmt.Sprintf("%d %d", a.Process.PID, a.Process.Start))
		}
		line("process.name", a.Process.Name)
		line("process.path", a.Process.Path)
		line("process.md5", a.Process.MD5)
		line("process.sha256", a.Process.SHA256)
		line("process.command_line", a.Process.CommandLine)
		line("process.parent.name", a.Process.ParentName)
		line("process.parent.path", a.Process.ParentPath)
		line("file.path", a.File.Path)
		line("file.md5", a.File.MD5)
		line("file.sha256", a.File.SHA256)
		if ip := a.SourceAddress; ip.IsValid() {
			line("source_ip", ip.String())
		}
		if ip := a.DestinationAddress; ip.IsValid() {
			line("destination_ip", ip.String())
		}
	}
	if len(mapped) == 0 {
		return "no alert\n"
	}
	return b.String()
}
