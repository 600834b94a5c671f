package bridge_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const samplePath = `C:\Users\Public\a.exe`

func TestI2WrongParamsAreRefusedWithTheirField(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind         bridge.Kind
		params, want string
	}{
		"unknown task":           {"terminateprocess", `{}`, `unknown task "terminateprocess", did you mean "terminateProcess"?`},
		"duplicate key":          {bridge.KindGetFile, `{"path":"/a","path":"/b"}`, "params.path: the object has this key twice"},
		"case duplicate":         {bridge.KindGetFile, `{"path":"/a","Path":"/b"}`, "params.Path: the object has this key twice"},
		"other case":             {bridge.KindGetFile, `{"PATH":"/a"}`, `params.PATH: no such parameter, did you mean "path"?`},
		"unknown key":            {bridge.KindGetFile, `{"path":"/a","mode":1}`, "params.mode: no such parameter"},
		"hostile key":            {bridge.KindGetFile, `{"\u001b[2J":1}`, `params["\x1b[2J"]: no such parameter`},
		"number for text":        {bridge.KindGetFile, `{"path":1}`, "params.path: is the number \"1\", want a string"},
		"null for text":          {bridge.KindGetFile, `{"path":null}`, "params.path: is null, want a string"},
		"array for text":         {bridge.KindGetFile, `{"path":["/a"]}`, "params.path: is an array, want a string"},
		"object for text":        {bridge.KindGetFile, `{"path":{}}`, "params.path: is an object, want a string"},
		"text for bool":          {bridge.KindTerminateProcess, `{"caseSensitive":"true"}`, "params.caseSensitive: is a string, want true or false without quotes"},
		"number for bool":        {bridge.KindTerminateProcess, `{"caseSensitive":1}`, "params.caseSensitive: is the number \"1\", want true or false"},
		"null for bool":          {bridge.KindTerminateProcess, `{"caseSensitive":null}`, "params.caseSensitive: is null"},
		"fraction for number":    {bridge.KindIsolateHost, `{"action":1.0}`, "params.action: is the number \"1.0\", want a whole number"},
		"exponent for number":    {bridge.KindIsolateHost, `{"action":1e0}`, "params.action: is the number \"1e0\", want a whole number"},
		"bool for number":        {bridge.KindIsolateHost, `{"action":true}`, "params.action: is a boolean, want a whole number"},
		"huge number":            {bridge.KindIsolateHost, `{"action":9223372036854775808}`, "params.action: is the number"},
		"null params":            {bridge.KindGetFile, `null`, "params: is null, want an object"},
		"array params":           {bridge.KindGetFile, `[]`, "params: is an array, want an object"},
		"text params":            {bridge.KindGetFile, `"x"`, "params: is a string, want an object"},
		"trailing data":          {bridge.KindGetFile, `{} {}`, "params: holds more than one value"},
		"empty":                  {bridge.KindGetFile, ``, "params: is empty"},
		"null scan":              {bridge.KindOnDemandScan, `null`, "params: is null, want an array"},
		"scan object of a word":  {bridge.KindOnDemandScan, `[1]`, "params[0]: is the number \"1\", want an object"},
		"scan type as text":      {bridge.KindOnDemandScan, `[{"enabled":true,"type":"22"}]`, "params[0].type: is a string, want a whole number"},
		"scan key in other case": {bridge.KindOnDemandScan, `[{"enabled":true,"type":14,"Path":""}]`, `params[0].Path: no such parameter, did you mean "path"?`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			task, err := bridge.DecodeTask(c.kind, []byte(c.params))
			wantError(t, err, c.want)
			if task != nil {
				t.Errorf("a task came with the error: %+v", task)
			}
		})
	}
}

func TestAllProblemsOfParamsAreReportedAtOnce(t *testing.T) {
	t.Parallel()
	_, err := bridge.DecodeTask(bridge.KindDeleteFile, []byte(`{"md5hash":1,"Path":"/a","searchInSubfolders":"no"}`))
	wantLines(t, err,
		`params.md5hash: is the number "1", want a string`,
		`params.searchInSubfolders: is a string, want true or false without quotes`,
		`params.Path: no such parameter, did you mean "path"?`)
	wantLines(t, bridge.DeleteFile{MD5: "x", SHA256: strings.Repeat("g", 64), Path: "a"}.Validate(),
		`params.md5hash: is 1 characters long, want 32 hex digits`,
		`params.sha256hash: holds more than hex digits: "`+strings.Repeat("g", 64)+`"`,
		`params.path: is not absolute: start it with a drive letter (C:\…) or /`)
	wantLines(t, bridge.OnDemandScan{Objects: []bridge.ScanObject{{Type: 19}, {Type: 22}, {Type: 14, Path: "/a"}}}.Validate(),
		`params[0].type: is 19, want 14 to 18 or 22 to 25`,
		`params[1].path: required for type 22`,
		`params[2].path: must be empty for type 14: only type 22 scans a folder`)
}

func TestI5HashesOfWrongLengthOrOfTheEmptyFileAreRefused(t *testing.T) {
	t.Parallel()
	const emptyMD5, emptySHA256 = "d41d8cd98f00b204e9800998ecf8427e", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for name, c := range map[string]struct {
		task bridge.Task
		want string
	}{
		"31 digits":                    {bridge.GetFile{MD5: sampleMD5[1:], Path: samplePath}, "params.md5hash: is 31 characters long, want 32"},
		"33 digits":                    {bridge.GetFile{MD5: sampleMD5 + "0", Path: samplePath}, "params.md5hash: is 33 characters long"},
		"SHA-256 as MD5":               {bridge.DeleteFile{MD5: sampleSHA256, Path: samplePath}, "goes into sha256hash"},
		"MD5 as SHA-256":               {bridge.DeleteFile{SHA256: sampleMD5, Path: samplePath}, "goes into md5hash"},
		"SHA-1":                        {bridge.QuarantineFile{SHA256: strings.Repeat("a", 40), Path: samplePath}, "looks like a SHA-1"},
		"label":                        {bridge.QuarantineFile{MD5: "md5:" + sampleMD5, Path: samplePath}, "leave the name of the digest out"},
		"not hex":                      {bridge.TerminateProcess{MD5: strings.Repeat("z", 32)}, "params.md5hash: holds more than hex digits"},
		"line break":                   {bridge.TerminateProcess{MD5: sampleMD5[1:] + "\n"}, `\n"`},
		"empty file, MD5":              {bridge.TerminateProcess{MD5: emptyMD5}, "params.md5hash: is the digest of the empty file"},
		"empty file, MD5 upper case":   {bridge.TerminateProcess{MD5: strings.ToUpper(emptyMD5)}, "digest of the empty file"},
		"empty file, SHA-256":          {bridge.TerminateProcess{SHA256: emptySHA256}, "params.sha256hash: is the digest of the empty file"},
		"empty file, prevention":       {bridge.PreventExecution{Hash: emptyMD5}, "params.hash: is the digest of the empty file"},
		"empty file, prevention (256)": {bridge.PreventExecution{Hash: emptySHA256}, "params.hash: is the digest of the empty file"},
		"no criterion":                 {bridge.TerminateProcess{CaseSensitive: true}, "params.path: required when neither md5hash nor sha256hash is given"},
		"no hash to prevent":           {bridge.PreventExecution{}, "params.hash: required"},
		"SHA-1 to prevent":             {bridge.PreventExecution{Hash: strings.Repeat("a", 40)}, "params.hash: is 40 characters long, want 32 hex digits: this looks like a SHA-1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantError(t, c.task.Validate(), c.want)
		})
	}
	for _, task := range []bridge.Task{
		bridge.TerminateProcess{MD5: strings.ToUpper(sampleMD5)},
		bridge.TerminateProcess{SHA256: sampleSHA256},
		bridge.PreventExecution{Hash: strings.ToUpper(sampleSHA256)},
		bridge.GetFile{MD5: sampleMD5, SHA256: sampleSHA256, Path: samplePath},
	} {
		if err := task.Validate(); err != nil {
			t.Errorf("%+v: %v", task, err)
		}
	}
}

func TestI8IsolationNeedsTheNumberZeroOrOne(t *testing.T) {
	t.Parallel()
	for params, want := range map[string]string{
		`{}`:                      "params.action: required",
		`{"action":null}`:         "params.action: is null",
		`{"action":"1"}`:          "params.action: is a string, want a whole number without quotes",
		`{"action":"on"}`:         "params.action: is a string",
		`{"action":true}`:         "params.action: is a boolean",
		`{"action":0.5}`:          "params.action: is the number",
		`{"Action":1}`:            "params.action: required",
		`{"action":2}`:            "params.action: is 2, want 1 (isolate) or 0 (release)",
		`{"action":-1}`:           "params.action: is -1",
		`[{"action":1}]`:          "params: is an array",
		`{"action":[1]}`:          "params.action: is an array",
		`{"action":1,"for":"4h"}`: "params.for: no such parameter",
	} {
		task, err := bridge.DecodeTask(bridge.KindIsolateHost, []byte(params))
		if err == nil {
			err = task.Validate()
		}
		wantError(t, err, want)
	}
	for params, action := range map[string]int{`{"action":0}`: bridge.IsolationOff, ` { "action" : 1 } `: bridge.IsolationOn} {
		task, err := bridge.DecodeTask(bridge.KindIsolateHost, []byte(params))
		if err != nil || task != bridge.Task(bridge.IsolateHost{Action: action}) || task.Validate() != nil {
			t.Errorf("%s = %+v, %v", params, task, err)
		}
	}
}

func TestI9ScansThatAreNoArrayOrHaveUnknownTypesAreRefused(t *testing.T) {
	t.Parallel()
	folders := func(n int) string {
		return "[" + strings.TrimSuffix(strings.Repeat(`{"enabled":true,"path":"/a","recursive":true,"type":22},`, n), ",") + "]"
	}
	for name, c := range map[string]struct{ params, want string }{
		"object":            {`{"enabled":true,"path":"/a","recursive":true,"type":22}`, "params: is an object, want an array of scan objects: put [ ] around it"},
		"empty array":       {`[]`, "params: holds 0 scan objects, want 1 to 100"},
		"101 entries":       {folders(101), "params: holds 101 scan objects, allowed are 100"},
		"10 000 entries":    {folders(10_000), "params: is 560001 bytes long, allowed are 262144"},
		"4 000 entries":     {folders(4_000), "params: holds 4000 scan objects, allowed are 100"},
		"type 13":           {`[{"enabled":true,"type":13}]`, "params[0].type: is 13, want 14 to 18 or 22 to 25"},
		"type 19":           {`[{"enabled":true,"type":14},{"enabled":true,"type":19}]`, "params[1].type: is 19, want 14 to 18 or 22 to 25"},
		"type 21":           {`[{"enabled":true,"type":21}]`, "params[0].type: is 21"},
		"type 26":           {`[{"enabled":true,"type":26}]`, "params[0].type: is 26"},
		"type missing":      {`[{"enabled":true,"path":"/a"}]`, "params[0].type: required"},
		"enabled missing":   {`[{"type":14}]`, "params[0].enabled: required"},
		"folder without":    {`[{"enabled":true,"path":"","type":22}]`, "params[0].path: required for type 22"},
		"memory with":       {`[{"enabled":true,"path":"/a","type":14}]`, "params[0].path: must be empty for type 14"},
		"relative folder":   {`[{"enabled":true,"path":"Users","type":22}]`, "params[0].path: is not absolute"},
		"space-separated":   {`[{"enabled":true,"path":"C:\\a D:\\b","type":22}]`, "params[0].path: names an alternate data stream"},
		"nested array":      {`[[]]`, "params[0]: is an array, want an object"},
		"type out of range": {`[{"enabled":true,"type":1e3}]`, "params[0].type: is the number"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			task, err := bridge.DecodeTask(bridge.KindOnDemandScan, []byte(c.params))
			if err == nil {
				err = task.Validate()
			}
			wantError(t, err, c.want)
		})
	}
	for _, scanType := range []int{14, 15, 16, 17, 18, 22, 23, 24, 25} {
		path := ""
		if scanType == 22 {
			path = `C:\\`
		}
		task, err := bridge.DecodeTask(bridge.KindOnDemandScan, fmt.Appendf(nil, `[{"enabled":false,"path":"%s","recursive":false,"type":%d}]`, path, scanType))
		if err != nil || task.Validate() != nil {
			t.Errorf("type %d: %v, %v", scanType, err, task.Validate())
		}
	}
	if task, err := bridge.DecodeTask(bridge.KindOnDemandScan, []byte(folders(100))); err != nil || task.Validate() != nil {
		t.Errorf("100 folders: %v", err)
	}
}

func TestOnDemandScanIsAnArrayForEncodingJSONToo(t *testing.T) {
	t.Parallel()
	want := bridge.OnDemandScan{Objects: []bridge.ScanObject{{Enabled: true, Path: "/srv/<a>&b", Type: bridge.ScanFolder}}}
	doc, err := json.Marshal(struct{ Task bridge.OnDemandScan }{want})
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Task bridge.OnDemandScan }
	if err := json.Unmarshal(doc, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got.Task); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	wantError(t, json.Unmarshal([]byte(`{"Task":[{"type":14,"type":15,"enabled":true}]}`), &got), "params[0].type: the object has this key twice")
	wantError(t, json.Unmarshal([]byte(`{"Task":[{"Type":14}]}`), &got), "params[0].type: required")
	if doc, err := bridge.EncodeParams(bridge.OnDemandScan{}); err != nil || string(doc) != "[]" {
		t.Errorf("no objects encode as %s, %v", doc, err)
	}
}

func TestStartProcessRefusesControlCharactersAndLongLines(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		task bridge.StartProcess
		want string
	}{
		"no executable":   {bridge.StartProcess{}, "params.executablePath: required"},
		"bare name":       {bridge.StartProcess{ExecutablePath: "cmd.exe"}, "params.executablePath: is not absolute"},
		"NUL":             {bridge.StartProcess{ExecutablePath: samplePath, Arguments: "a\x00b"}, "params.arguments: holds a NUL at byte 1"},
		"new line":        {bridge.StartProcess{ExecutablePath: samplePath, Arguments: "a\nb"}, "params.arguments: holds the control character U+000A"},
		"bidi":            {bridge.StartProcess{ExecutablePath: samplePath, Arguments: "\u202ea"}, "params.arguments: holds the invisible character"},
		"invalid UTF-8":   {bridge.StartProcess{ExecutablePath: samplePath, Arguments: "\xff"}, "params.arguments: is not valid UTF-8"},
		"too long":        {bridge.StartProcess{ExecutablePath: samplePath, Arguments: strings.Repeat("a", 32_767)}, "params.arguments: makes a command line of"},
		"relative folder": {bridge.StartProcess{ExecutablePath: samplePath, WorkingFolder: "Tools"}, "params.workingFolder: is not absolute"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantError(t, c.task.Validate(), c.want)
		})
	}
	longest := bridge.StartProcess{ExecutablePath: "/bin/x", Arguments: strings.Repeat("ж", 32_767-6-3), WorkingFolder: "/"}
	if err := longest.Validate(); err != nil {
		t.Errorf("the longest line: %v", err)
	}
}

func TestBlockAddressTakesOnePeerOrASmallNetwork(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"203.0.113.7": "203.0.113.7/32", "203.0.113.0/24": "203.0.113.0/24", "::ffff:203.0.113.7": "203.0.113.7/32",
		"::ffff:203.0.113.0/120": "203.0.113.0/24", "2001:db8::1": "2001:db8::1/128", "2001:DB8::/64": "2001:db8::/64",
		"169.254.10.1": "169.254.10.1/32",
	} {
		task := bridge.BlockAddress{Address: address}
		got, err := task.Prefix()
		if err != nil || got != netip.MustParsePrefix(want) || task.Validate() != nil {
			t.Errorf("Prefix(%s) = %v, %v, want %s", address, got, err, want)
		}
	}
	for address, want := range map[string]string{
		"": "params.address: required", "example.org": "is not an IPv4 or IPv6 address", ".": "is not an", "203.0.113": "is not an",
		"203.0.113.07": "is not an", "0x7f000001": "is not an", "203.0.113.7:80": "is not an", " 203.0.113.7": "is not an",
		"203.0.113.7/33": "is not a prefix", "203.0.113.7/024": "is not a prefix", "203.0.113.7/24": "write 203.0.113.0/24",
		"203.0.112.0/23": "is too wide: want /24", "0.0.0.0/0": "is too wide", "2001:db8::/63": "is too wide: want /64", "::/0": "is too wide",
		"::ffff:0.0.0.0/95": "is wider than IPv4", "::ffff:203.0.112.0/119": "is too wide",
		"127.0.0.1": "touches 127.0.0.0/8", "::ffff:127.0.0.1": "touches 127.0.0.0/8", "127.1.2.0/24": "touches 127.0.0.0/8", "::1": "touches ::/127",
		"0.0.0.0": "touches 0.0.0.0/8", "::": "touches ::/127", "::/64": "touches ::/127", "224.0.0.1": "touches 224.0.0.0/4",
		"ff02::1": "touches ff00::/8", "255.255.255.255": "touches 255.255.255.255/32", "fe80::1%eth0": "has a zone", "fe80::%1/64": "has a zone",
		strings.Repeat("1", 300): "too long for an address", "\x1b[2J": `"\x1b[2J" is not`,
	} {
		wantError(t, bridge.BlockAddress{Address: address}.Validate(), want)
	}
}

func FuzzDecodeTask(f *testing.F) {
	for i, task := range wireTasks() {
		params, err := bridge.EncodeParams(task)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), params)
	}
	f.Add(uint8(0), []byte(`{"Path":null,"md5hash":1}`))
	f.Add(uint8(8), []byte(`[{"type":22,"enabled":true},{}]`))
	f.Fuzz(func(t *testing.T, index uint8, params []byte) {
		kind := bridge.Kinds()[int(index)%len(bridge.Kinds())]
		task, err := bridge.DecodeTask(kind, params)
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "params") || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x202e }) {
					t.Fatalf("bad error line %q", line)
				}
			}
			return
		}
		if !json.Valid(params) || task.Kind() != kind {
			t.Fatalf("%s decodes %q to %T", kind, params, task)
		}
		wire, err := bridge.EncodeParams(task)
		if err != nil {
			t.Fatal(err)
		}
		back, err := bridge.DecodeTask(kind, wire)
		if err != nil {
			t.Fatalf("decodes %q, but not its own form %q: %v", params, wire, err)
		}
		if diff := cmp.Diff(task, back); diff != "" {
			t.Fatalf("decode after encode differs (-want +got):\n%s", diff)
		}
		if err := task.Validate(); err != nil && !strings.HasPrefix(err.Error(), "params") {
			t.Fatalf("bad error %q", err)
		}
	})
}

func wantLines(t *testing.T, err error, lines ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if diff := cmp.Diff(lines, strings.Split(err.Error(), "\n")); diff != "" {
		t.Errorf("problems differ (-want +got):\n%s", diff)
	}
}
