package callout

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestTheNineNamesAreKnownInAnySpelling(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"onDemandScan.py", "ioCScan.py", "quarantineFile.py", "deleteFile.py", "getFile.py", "isolateHost.py", "preventExecution.py",
		"startProcess.py", "terminateProcess.py",
	} {
		for _, spelled := range []string{name, strings.ToUpper(name), strings.TrimSuffix(name, ".py"), "/opt/x/" + name, `C:\x\` + name} {
			kind, ok := IsScriptName(spelled)
			if !ok || !strings.EqualFold(string(kind)+".py", name) {
				t.Errorf("%s: got %q, %v", spelled, kind, ok)
			}
		}
	}
	for _, name := range []string{"", ".py", "edr-bridge", "blockAddress.py", "isolateHost.sh", "isolateHost.py.py", "isolateHost.py "} {
		if kind, ok := IsScriptName(name); ok {
			t.Errorf("%q is taken for %s", name, kind)
		}
	}
}

// argsGood are lines that are taken, one or two a task.
func argsGood() map[string][]string {
	const md5 = "44d88612fea8a8f36de82e1278abb02f"
	return map[string][]string{
		"getFile.py":          {"--targetHost", "ws-01", "--path", `C:\a\x.exe`, "--md5hash", md5},
		"deleteFile.py":       {"--targetHost", "ws-01", "--path", `C:\a\x.exe`, "--searchInSubfolders", "false"},
		"quarantineFile.py":   {"--targetHost", "ws-01", "--path", "/opt/x", "--hash", md5},
		"terminateProcess.py": {"--targetHost", "ws-01", "--path", `C:\a\x.exe`, "--caseSensitive", "true"},
		"preventExecution.py": {"--targetHost", "ws-01", "--hash", md5, "--path", `C:\a\x.exe`},
		"startProcess.py":     {"--targetHost", "ws-01", "--executablePath", `C:\a\x.exe`, "--arguments", "/all", "--workingFolder", `C:\a`},
		"isolateHost.py":      {"--targetHost", "ws-01", "--action", "1", "--for", "4h", "--reason", "why"},
		"onDemandScan.py":     {"--targetHost", "ws-01", "--path", `C:\a`, "--recursive", "true", "--type", "22"},
	}
}

// argsHostile is what an attacker who chooses a user name, a file name or a command line would try.
func argsHostile() []string {
	return []string{
		"--action=0", "--action", "--action 0", "-action=0", "--searchInSubfolders", "--caseSensitive=false", "--targetHost=dc01", "--x", "-x", "--",
		"a --targetHost dc01", "ws-01 --action 0", `C:\a\x.exe --searchInSubfolders`, "$(id)", "`id`", "${HOME}", "$HOME", "; rm -rf /", "& calc", "&& calc", "| calc",
		"> /etc/passwd", "%0a", "%0d%0aX: y", "a\nb", "a\r\nb", "\n", "a\tb", "\x00", "a\x00b", "\x1b[2J", "\x1b]0;t\x07", "a\u202eexe.txt", "\u2066a\u2069", "\ufeffa", "a\u2028b",
		`"`, `'`, `""`, `''`, `"a"`, `'a'`, `\"`, `a"b`, `a\`, `\\`, `\\srv\share\a.exe`, `\\?\C:\a.exe`, "{{.Name}}", "{{", "}}", `{{printf "%s" .X}}`, "<nil>", "<no value>",
		"0001-01-01T00:00:00Z", "-", "", " ", "a b", " a", "a ", "*", "?", "ws-*", "%", "'; DROP TABLE orders; --", `' OR '1'='1`, "../../etc/passwd", `..\..\x`,
		`C:Usersa`, `C:\a\..\..\x`, `C:\a:b`, "CON", `C:\CON`, "\xff\xfe", "a\xffb", "\xed\xa0\x80", strings.Repeat("A", 70_000), strings.Repeat("é", 40_000),
		`=cmd|'/c calc'!A0`, "+1", "@SUM(A1)", "<script>alert(1)</script>", `{"task":"deleteFile"}`, `","task":"deleteFile","x":"`, "ws-01,dc01", "ws-01|dc01",
	}
}

// TestA6AHostileValueStaysOneValueOrTheCallIsRefused puts each hostile text in the place of each value, in both forms, and looks
// whether anything else of the call changes.
func TestA6AHostileValueStaysOneValueOrTheCallIsRefused(t *testing.T) {
	t.Parallel()
	accepted := 0
	for name, good := range argsGood() {
		for i := 1; i < len(good); i += 2 {
			for _, hostile := range argsHostile() {
				for _, joined := range []bool{false, true} {
					argv := slices.Clone(good)
					argv[i] = hostile
					if joined {
						argv = slices.Concat(good[:i-1], []string{good[i-1] + "=" + hostile}, good[i+1:])
					}
					call, err := ParseCall(name, argv)
					if err != nil {
						wantArgumentErrors(t, err)
						continue
					}
					accepted++
					wantOnlyChange(t, name, good, i, hostile, call)
				}
			}
		}
	}
	if accepted == 0 {
		t.Error("no hostile value at all was taken: the test compares nothing")
	}
}

// argsPlaces says where in the document the value of an option stands; with a list of digests it may be two places.
func argsPlaces(option string) []string {
	switch option {
	case "--targetHost":
		return []string{"host"}
	case "--for", "--reason":
		return []string{option[2:]}
	case "--hash":
		return []string{"params.md5hash", "params.sha256hash", "params.hash"}
	default: // the params of a scan are a list
		return []string{"params." + option[2:], "params"}
	}
}

// wantOnlyChange compares with the call of the good line: nothing differs but where the value belongs.
func wantOnlyChange(t *testing.T, name string, good []string, i int, hostile string, call Call) {
	t.Helper()
	base, err := ParseCall(name, good)
	if err != nil {
		t.Fatalf("%s %q: %v", name, good, err)
	}
	before, after := argsFlat(t, base), argsFlat(t, call)
	for _, place := range argsPlaces(good[i-1]) {
		delete(before, place)
		delete(after, place)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("%s %s %q changes something else:\n%s", name, good[i-1], hostile, diff)
	}
}

// argsFlat is the document of a call by path, one text a leaf.
func argsFlat(t *testing.T, c Call) map[string]string {
	t.Helper()
	doc, err := c.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(string(doc), "\n\r") || bridge.CheckJSON(doc) != nil {
		t.Errorf("the document is not one line of JSON: %.200q", doc)
	}
	var top map[string]json.RawMessage
	if err := json.Unmarshal(doc, &top); err != nil {
		t.Fatal(err)
	}
	flat := map[string]string{}
	for k, v := range top {
		var inner map[string]json.RawMessage
		if k != "params" || json.Unmarshal(v, &inner) != nil {
			flat[k] = string(v)
			continue
		}
		for name, value := range inner {
			flat[k+"."+name] = string(value)
		}
	}
	return flat
}

// wantArgumentErrors checks that every problem has the one type and can be printed.
func wantArgumentErrors(t *testing.T, err error) {
	t.Helper()
	for _, e := range argsJoinedErrors(err) {
		ae, ok := errors.AsType[*ArgumentError](e)
		if !ok {
			t.Errorf("%T: %v", e, e)
			continue
		}
		if len(ae.Error()) > 2000 {
			t.Errorf("an error of %d bytes: %.200q", len(ae.Error()), ae.Error())
		}
		for _, r := range ae.Error() + ae.Option {
			if !unicode.IsPrint(r) {
				t.Errorf("the error holds %U: %q", r, ae.Error())
			}
		}
		for _, r := range ae.Value {
			if r > unicode.MaxASCII && r != '…' {
				t.Errorf("the excerpt holds %U: %q", r, ae.Value)
			}
		}
	}
}

func TestA7AReasonIsOneVisibleLine(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a\nb":                      `a\nb`,
		"\x1b[2J":                   `\x1b[2J`,
		"a\u202eb":                  `a\u202eb`,
		"a\x00b":                    `a\x00b`,
		"a\xffb":                    `a\xffb`,
		"Иванов «x»":                "Иванов «x»",
		"{{.Name}} $(id) --x":       "{{.Name}} $(id) --x",
		strings.Repeat("é", 2000):   strings.Repeat("é", 512),
		"=cmd|' /C calc'!A0 <b> \t": `=cmd|' /C calc'!A0 <b> \t`,
	} {
		call, err := ParseCall("isolateHost.py", []string{"--host", "ws-01", "--action", "1", "--reason", text})
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if call.Reason != want {
			t.Errorf("%q: got %q, want %q", text, call.Reason, want)
		}
		if odd := text != want; odd != (len(call.Warnings) == 1) {
			t.Errorf("%q: warnings %v", text, call.Warnings)
		}
		call.ID, call.At = NewCallID(), time.Now()
		doc, err := call.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeCall(doc); err != nil {
			t.Errorf("%q does not come back: %v", text, err)
		}
	}
}

func TestSecretsOnALineAreNotShown(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t-canary"
	for _, argv := range [][]string{
		{"--kscPassword", secret},
		{"--kscPassword=" + secret},
		{"-kscpassword=" + secret},
		{"--password=" + secret},
		{"--pass", secret},
		{"--token=" + secret, "--host", "x"},
		{"--host", "--kscPassword=" + secret},
		{"--host", "--secret=" + secret},
		{"--host", "ws-01", "--action", "1", "--ksc-password=" + secret},
	} {
		_, err := ParseCall("isolateHost.py", argv)
		if err == nil {
			t.Errorf("%q is taken", argv)
			continue
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %v", argv, err)
		}
	}
}

func TestALineWithTooManyWordsIsRefused(t *testing.T) {
	t.Parallel()
	argv := []string{"--host", "ws-01", "--action", "1", "--reason"}
	_, err := ParseCall("isolateHost", append(argv, slices.Repeat([]string{"a"}, 2000)...))
	if err == nil || !strings.Contains(err.Error(), "2005 words") {
		t.Errorf("got %v", err)
	}
}

func TestIOCScanReadsTheArchiveItIsGiven(t *testing.T) {
	t.Parallel()
	archive := argsArchive(t)
	path := filepath.Join(t.TempDir(), "a.zip")
	if err := os.WriteFile(path, archive, 0o600); err != nil {
		t.Fatal(err)
	}
	byPath, err := ParseCall("ioCScan.py", []string{"--targetHost", "ws-01", "--ioc", path, "--isolateHost", "--quarantineObject", "True"})
	if err != nil {
		t.Fatal(err)
	}
	task, ok := byPath.Params.(bridge.IOCScan)
	if !ok || !task.IsolateHost || !task.QuarantineObject || task.ScanCriticalAreas {
		t.Fatalf("got %+v", byPath.Params)
	}
	byText, err := ParseCall("ioCScan.py", []string{"--targetHost", "ws-01", "--ioc-base64", task.IOC, "--isolateHost", "1", "--quarantineObject"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(byPath.Params, byText.Params); diff != "" {
		t.Error(diff)
	}
	if _, err := ParseCall("ioCScan.py", []string{"--targetHost", "ws-01", "--ioc-base64", task.IOC, "--ioc", path}); err == nil {
		t.Error("both forms at once are taken")
	}
}

func BenchmarkParseCall(b *testing.B) {
	argv := []string{"--targetHost", "ws-01.corp.example", "--path", `C:\\Users\\a\\x.exe`, "--hash", "MD5=44d88612fea8a8f36de82e1278abb02f"}
	for b.Loop() {
		if _, err := ParseCall("terminateProcess.py", argv); err != nil {
			b.Fatal(err)
		}
	}
}
