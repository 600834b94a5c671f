package callout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// calloutEvent is what the templates of a rule are filled from.
func calloutEvent() map[string]string {
	return map[string]string{
		"ID": "8a3f6d3e-57a8-4f6b-9a9c-3a5f0c2b7d11", "Timestamp": "1732104000123", "Name": "Office starts a shell", "DeviceHostName": "ws-017.corp.example",
		"FilePath": `C:\Users\Public\a b.exe`, "DestinationProcessName": `C:\Windows\System32\cmd.exe`, "FileHash": "44d88612fea8a8f36de82e1278abb02f",
	}
}

// calloutExpand fills a line in after it was split, as a product would that keeps quoted words together. The other order, which is as likely, is
// the tables' of args_table_test.go.
func calloutExpand(t *testing.T, line string, event map[string]string) []string {
	t.Helper()
	words, err := argsSplit(line)
	if err != nil {
		t.Fatal(err)
	}
	for i, word := range words {
		tmpl, err := template.New("").Option("missingkey=zero").Parse(word)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := tmpl.Execute(&b, event); err != nil {
			t.Fatal(err)
		}
		words[i] = b.String()
	}
	return words
}

func calloutTasks() []bridge.Kind {
	return slices.DeleteFunc(bridge.Kinds(), func(k bridge.Kind) bool { return !k.KSC() })
}

func TestPrintedArgumentsAreTaken(t *testing.T) {
	t.Parallel()
	for _, task := range calloutTasks() {
		for _, eventID := range []bool{true, false} {
			line := ScriptArguments(task, eventID)
			line = strings.ReplaceAll(line, "--ioc=/etc/edr-bridge/ioc/indicators.zip", "--ioc-base64=UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA==")
			call, err := ParseCall(ScriptName(task), calloutExpand(t, line, calloutEvent()))
			if err != nil && task == bridge.KindIOCScan && strings.Contains(err.Error(), "ioc") {
				continue // an archive without indicators
			}
			if err != nil {
				t.Errorf("%s %s: %v", ScriptName(task), line, err)
				continue
			}
			if call.Task != task || eventID != (call.EventID != "") || call.Timestamp != 1732104000123 {
				t.Errorf("%s %s: got %+v", ScriptName(task), line, call)
			}
		}
	}
}

func TestPrintedArgumentsWithoutAFieldNameIt(t *testing.T) {
	t.Parallel()
	for _, task := range calloutTasks() {
		for _, field := range ScriptFields(task) {
			event := calloutEvent()
			event[field] = ""
			_, err := ParseCall(ScriptName(task), calloutExpand(t, ScriptArguments(task, false), event))
			if err == nil || !strings.Contains(err.Error(), "add "+field+" to the correlation rule's inherited fields") {
				t.Errorf("%s without %s: got %v", task, field, err)
			}
		}
	}
}

// TestA6HostileValuesStayOneValueOrRefuse puts what an attacker may have written into every field of every printed line.
func TestA6HostileValuesStayOneValueOrRefuse(t *testing.T) {
	t.Parallel()
	for _, hostile := range []string{
		"--action=0", "ws-1 --action=0", `ws-1" "--action=0`, "$(id)", "`id`", "a\nb", "{{.FilePath}}", "a\u202eb", "a\x00b", "'; rm -rf /", "|id", "--help",
	} {
		for _, task := range calloutTasks() {
			for _, field := range ScriptFields(task) {
				event := calloutEvent()
				event[field] = hostile
				call, err := ParseCall(ScriptName(task), calloutExpand(t, ScriptArguments(task, false), event))
				if err != nil {
					continue
				}
				doc, err := json.Marshal(call)
				if err != nil {
					t.Fatal(err)
				}
				whole, _ := json.Marshal(hostile)
				if task == bridge.KindIsolateHost && !strings.Contains(string(doc), `"params":{"action":1}`) || field == "DeviceHostName" && !strings.Contains(string(doc), string(whole)) {
					t.Errorf("%s with %s %q: got %s", task, field, hostile, doc)
				}
			}
		}
	}
}

func TestScriptNamesAreTheVendors(t *testing.T) {
	t.Parallel()
	var names []string
	for _, task := range calloutTasks() {
		names = append(names, ScriptName(task))
		if got, ok := IsScriptName(ScriptName(task)); !ok || got != task {
			t.Errorf("%s is read as %q, %v", ScriptName(task), got, ok)
		}
	}
	slices.Sort(names)
	want := "deleteFile.py getFile.py ioCScan.py isolateHost.py onDemandScan.py preventExecution.py quarantineFile.py startProcess.py terminateProcess.py"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// run makes a call in this process and reads its line.
func calloutMade(t *testing.T, argv []string, locate func() (Location, error)) (line callout, exit int, words string) {
	t.Helper()
	task, ok := IsScriptName(argv[0])
	if !ok {
		t.Fatalf("%s is no script", argv[0])
	}
	var stdout, stderr bytes.Buffer
	c := calloutRun(task, argv, locate)
	c.write(&stdout, &stderr)
	if n := strings.Count(stdout.String(), "\n"); n != 1 || !strings.HasSuffix(stdout.String(), "\n") {
		t.Errorf("stdout has %d lines: %s", n, stdout.String())
	}
	if err := json.Unmarshal(stdout.Bytes(), &line); err != nil {
		t.Errorf("stdout: %v", err)
	}
	return line, c.exit, stderr.String()
}

func TestEveryEndOfACallHasItsLineAndExitCode(t *testing.T) {
	t.Parallel()
	none := func() (Location, error) { return Location{}, fmt.Errorf("nowhere: %w", fs.ErrNotExist) }
	nobody := func() (Location, error) {
		return Location{Socket: "/nonexistent/kuma.sock", Spool: "/nonexistent/spool"}, nil
	}
	for name, tc := range map[string]struct {
		argv   []string
		locate func() (Location, error)
		state  string
		exit   int
		detail string
	}{
		"a bad line":     {[]string{"isolateHost.py", "--targetHost", "--action=1"}, none, "refused", calloutUsage, "field for --targetHost came empty"},
		"two bad things": {[]string{"isolateHost.py"}, none, "refused", calloutUsage, "; "},
		"help inside":    {[]string{"isolateHost.py", "--targetHost=a", "--action=1", "--help"}, none, "refused", calloutUsage, "no option"},
		"nowhere":        {[]string{"isolateHost.py", "--targetHost=a", "--action=1"}, none, "failed", calloutConfig, "edr-bridge kuma install"},
		"nobody there":   {[]string{"isolateHost.py", "--targetHost=a", "--action=1"}, nobody, "failed", calloutUnreachable, "could not be kept"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			line, exit, words := calloutMade(t, tc.argv, tc.locate)
			if line.State != tc.state || exit != tc.exit || line.Task != "isolateHost" || !strings.Contains(line.Detail, tc.detail) || !strings.Contains(words, line.Detail) {
				t.Errorf("got %+v, exit %d, %q", line, exit, words)
			}
		})
	}
}

func TestCallWithoutABridgeIsSpooledAndEndsWith0(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := MakeSpool(filepath.Join(dir, "spool"), -1); errors.Is(err, errors.ErrUnsupported) {
		t.Skip("no spool on this system")
	} else if err != nil {
		t.Fatal(err)
	}
	line, exit, _ := calloutMade(t, []string{"ISOLATEHOST", "-targethost", "ws-1", "-Action", "on"},
		func() (Location, error) { return Location{Spool: filepath.Join(dir, "spool")}, nil })
	entries, err := os.ReadDir(filepath.Join(dir, "spool"))
	if err != nil || len(entries) != 1 || !strings.Contains(entries[0].Name(), line.Call) {
		t.Errorf("spool holds %v (%v), call %s", entries, err, line.Call)
	}
	if line.State != CallSpooled || exit != calloutDone || line.Host != "ws-1" {
		t.Errorf("got %+v, exit %d", line, exit)
	}
}

func TestOnlyScriptNamesRunScripts(t *testing.T) {
	t.Parallel()
	for _, argv := range [][]string{nil, {""}, {"edr-bridge"}, {"/usr/bin/edr-bridge", "isolateHost.py"}, {"blockAddress.py"}, {"isolateHost.py.vendor-20261120"}} {
		if exit, ok := RunScript(argv, &bytes.Buffer{}, &bytes.Buffer{}); ok {
			t.Errorf("%q ran as a script, exit %d", argv, exit)
		}
	}
	var out bytes.Buffer
	exit, ok := RunScript([]string{"/x/ISOLATEHOST.PY", "--help"}, &out, &bytes.Buffer{})
	if !ok || exit != 0 || !strings.Contains(out.String(), `"--event-id={{.ID}}"`) || !strings.Contains(out.String(), "--action 0|1") {
		t.Errorf("help: %d %v %s", exit, ok, out.String())
	}
}

func TestJournalLinesAreOneLineOfHarmlessText(t *testing.T) {
	t.Parallel()
	c := callout{
		Task: "isolateHost", Host: "ws\n1\x1b[2J", State: "queued", Call: "k1", Reason: "limits", Detail: "a\u202eb\r\nPRIORITY=0\n" + strings.Repeat("ж", 4000), exit: 6,
	}
	entry := string(c.journal())
	for line := range strings.Lines(entry) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !ok || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") != "" || name == "PRIORITY" && value != "4" || len(line) > calloutMaxLine+100 {
			t.Errorf("odd field %.200q", line)
		}
	}
	if strings.ContainsAny(entry, "\x1b\r\u202e") || strings.Count(entry, "PRIORITY") != 2 {
		t.Errorf("entry holds what was in the event: %.300q", entry)
	}
	text := string(c.syslog(time.Date(2026, 11, 20, 20, 6, 56, 0, time.UTC)))
	if strings.ContainsAny(text, "\n\x1b\u202e") || !strings.HasPrefix(text, "<28>Nov 20 20:06:56 edr-bridge: call isolateHost ws") {
		t.Errorf("syslog line: %.300q", text)
	}
}
