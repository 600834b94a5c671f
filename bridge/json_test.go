package bridge_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestI1DocumentsThatAreNotOneJSONValueAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ doc, want string }{
		"empty":              {"", "is empty"},
		"spaces only":        {" \n", "is empty"},
		"byte order mark":    {"\xef\xbb\xbf{}", "byte order mark"},
		"UTF-16":             {"\xff\xfe{\x00}\x00", "UTF-16"},
		"UTF-16 without BOM": {"{\x00}\x00", "want a key"},
		"trailing value":     {`{} {}`, "more than one value"},
		"trailing bracket":   {`{}}`, "more than one value"},
		"open object":        {`{"a":1`, "ends too early"},
		"open string":        {`{"a":"x`, "ends inside a string"},
		"open escape":        {`{"a":"x\`, "ends inside a string"},
		"trailing comma":     {`{"a":1,}`, "want a key"},
		"trailing comma []":  {`[1,]`, "[1]: unexpected"},
		"missing colon":      {`{"a" 1}`, "a: unexpected"},
		"missing comma":      {`{"a":1 "b":2}`, "want a comma or }"},
		"comment":            {`{/**/}`, "want a key"},
		"single quotes":      {`{'a':1}`, "want a key"},
		"bare word":          {`nul`, "null?"},
		"NaN":                {`NaN`, "want a value"},
		"leading zero":       {`01`, "more than one value"},
		"plus":               {`+1`, "want a value"},
		"bare dot":           {`1.`, "want a digit"},
		"bare exponent":      {`1e`, "want a digit"},
		"bare minus":         {`-`, "want a digit"},
		"raw newline":        {"\"a\nb\"", "raw control character"},
		"unknown escape":     {`"C:\Users"`, "a backslash is written twice"},
		"short \\u":          {`"\u12"`, "four hex digits"},
		"bad \\u":            {`"\u12g4"`, "four hex digits"},
		"escape in a key":    {`{"\x":1}`, "a backslash is written twice"},
		"long place":         {`{"` + strings.Repeat("k", 300) + `":{"a":x}}`, strings.Repeat("k", 199) + "…: unexpected 'x': want a value (byte 309)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantError(t, bridge.CheckJSON([]byte(c.doc)), c.want)
		})
	}
}

func TestI2RepeatedKeysAreRefusedWithTheirPlace(t *testing.T) {
	t.Parallel()
	many := make([]string, 0, 200)
	for i := range 100 {
		many = append(many, fmt.Sprintf(`"k%d":%d`, i, i))
	}
	for name, c := range map[string]struct{ doc, want string }{
		"twice":                {`{"a":1,"a":2}`, "a: the object has this key twice (also at byte 1) (byte 7)"},
		"other case":           {`{"pid":1,"PID":2}`, "PID: the object has this key twice"},
		"escaped":              {`{"pid":1,"\u0070id":2}`, `["\\u0070id"]: the object has this key twice`},
		"long s":               {`{"sid":1,"ſid":2}`, "twice"},
		"Kelvin":               {`{"key":1,"\u212Aey":2}`, "twice"},
		"deep":                 {`{"process":[{},{"id":{"x":1,"X":1}}]}`, "process[1].id.X: the object has this key twice"},
		"hostile name":         {"{\"\u202e\\u001b\":1,\"\u202e\\u001b\":2}", `["\u202e\\u001b"]`},
		"one in many":          {"{" + strings.Join(many, ",") + `,"K77":0}`, "K77: the object has this key twice"},
		"behind a wide object": {`{"w":{` + strings.Join(many, ",") + `},"b":1,"B":2}`, "B: the object has this key twice"},
		"empty name":           {`{"":1,"":2}`, `[""]`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantError(t, bridge.CheckJSON([]byte(c.doc)), c.want)
		})
	}
	for name, doc := range map[string]string{
		"same key in neighbours": `[{"a":1},{"a":2}]`,
		"same key in the child":  `{"a":{"a":{"a":1}}}`,
		"after a child":          `{"a":{"b":1},"b":2}`,
		"many":                   "{" + strings.Join(many, ",") + "}",
		"dotless i":              `{"i":1,"ı":2}`,
	} {
		if err := bridge.CheckJSON([]byte(doc)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestI4HostileTextIsRefusedInTenMilliseconds(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 1<<20)
	params := func(path string) func() error {
		doc, err := json.Marshal(map[string]string{"path": path})
		if err != nil {
			t.Fatal(err)
		}
		return func() error {
			task, err := bridge.DecodeTask(bridge.KindGetFile, doc)
			if err != nil {
				return err
			}
			return task.Validate()
		}
	}
	check := func(doc string) func() error {
		return func() error { return bridge.CheckJSON([]byte(doc)) }
	}
	var wide strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&wide, `"%x":0,`, i)
	}
	for name, c := range map[string]struct {
		do   func() error
		want string
	}{
		"invalid UTF-8":            {check("{\"a\":\"\xff\"}"), "is not valid UTF-8 (byte 6)"},
		"invalid UTF-8 at the end": {check(`"` + long + "\xc3\x28\""), "is not valid UTF-8"},
		"lone high surrogate":      {check(`{"a":"\ud800"}`), "a: holds half of a surrogate pair"},
		"lone low surrogate":       {check(`{"a":"\udc00"}`), "half of a surrogate pair"},
		"swapped surrogates":       {check(`{"a":"\udc00\ud800"}`), "half of a surrogate pair"},
		"high and text":            {check(`{"a":"\ud800x"}`), "half of a surrogate pair"},
		"escaped NUL":              {check(`{"a":"x\u0000"}`), "a: holds a NUL"},
		"raw NUL":                  {check("{\"a\":\"x\x00\"}"), "control character"},
		"10 001 arrays":            {check(strings.Repeat("[", 10_001)), "is nested deeper than 64 levels"},
		"10 001 objects":           {check(strings.Repeat(`{"a":`, 10_001)), "is nested deeper than 64 levels"},
		"65 levels":                {check(strings.Repeat("[", 65) + strings.Repeat("]", 65)), "is nested deeper than 64 levels"},
		"1e400":                    {check(`{"pid":1e400}`), "pid: holds a number that does not fit"},
		"1e99999999999":            {check(`1e99999999999`), "does not fit"},
		"400 digits":               {check(strings.Repeat("9", 400)), "does not fit"},
		"1 MiB of digits":          {check(strings.Repeat("9", 1<<20)), "does not fit"},
		"1 MiB string":             {params("/" + long), "params: is 1048588 bytes long, allowed are 262144"},
		"200 KiB string":           {params("/" + long[:200<<10]), "params.path: is 204801 bytes long"},
		"1 MiB hash":               {func() error { return bridge.PreventExecution{Hash: long}.Validate() }, "params.hash: is 1048576 characters long"},
		"control character":        {params("/tmp/a\nb"), "params.path: holds the control character U+000A"},
		"C1 control character":     {params("/tmp/a\u009bb"), "params.path: holds the control character U+009B"},
		"right-to-left override":   {params("C:\\a\u202efdp.exe"), "params.path: holds the invisible character U+202E"},
		"isolate":                  {params("/tmp/\u2066a"), "params.path: holds the invisible character U+2066"},
		"line separator":           {params("/tmp/a\u2028b"), "params.path: holds the control character U+2028"},
		"replacement character":    {params("/tmp/a\ufffdb"), "params.path: holds U+FFFD"},
		"wide object, a key twice": {check("{" + wide.String() + `"Ff":1}`), "Ff: the object has this key twice"},
	} {
		t.Run(name, func(t *testing.T) {
			budget := 10 * time.Millisecond * slowdown
			if strings.HasPrefix(name, "wide") {
				budget *= 4 // 800 kB of keys are no limit case of the fault list; linear is what counts
			}
			best := time.Hour
			for range 20 {
				var err error
				best = min(best, cost(t, func() { err = c.do() }))
				wantError(t, err, c.want)
				if best < budget {
					break
				}
			}
			if best > budget {
				t.Errorf("took %v, allowed are %v", best, budget)
			}
		})
	}
	for name, doc := range map[string]string{
		"64 levels":          strings.Repeat("[", 64) + strings.Repeat("]", 64),
		"surrogate pair":     `"\ud83d\ude00"`,
		"1e308":              `[1e308,-1E-400,0.5e+2]`,
		"300 digits":         strings.Repeat("9", 300),
		"escapes":            `"\"\\\/\b\f\n\r\t\u00e9"`,
		"1 MiB of text":      `"` + long + `"`,
		"spaces":             " \t\r\n[ 1 , true , false , null , { } , [ ] ] \n",
		"escaped U+FFFD":     `"\ufffd"`,
		"noncharacter U+FFF": `"\uffff"`,
	} {
		if err := bridge.CheckJSON([]byte(doc)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheckJSONOfManyKeysIsNotQuadratic(t *testing.T) {
	t.Parallel()
	var keys strings.Builder
	for i := range 60_000 {
		fmt.Fprintf(&keys, `"%06x":0,`, i)
	}
	for name, doc := range map[string]string{
		"one object":     "{" + keys.String() + `"z":0}`,
		"narrow objects": "[" + strings.Repeat(`{"a":1,"b":2},`, 60_000) + "0]",
		"escaped text":   `"` + strings.Repeat(`\u00e9`, 120_000) + `"`,
		"escaped key":    `{"` + strings.Repeat(`\u00e9`, 120_000) + `":0}`,
	} {
		// Comparing every key with every other would take seconds; what is measured is 1 to 10 ms.
		budget, best := 200*time.Millisecond*slowdown, time.Hour
		for range 5 {
			var err error
			best = min(best, cost(t, func() { err = bridge.CheckJSON([]byte(doc)) }))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if best < budget {
				break
			}
		}
		if best > budget {
			t.Errorf("%s: took %v, allowed are %v", name, best, budget)
		}
	}
}

func FuzzCheckJSON(f *testing.F) {
	for _, doc := range []string{`{"a":[1,-2.5e3,true,null,"\ud83d\ude00"],"b":{"c":""}}`, `{"a":1,"A":2}`, `"\ud800"`, `1e400`, `[[[]]]`, "\xff"} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		err := bridge.CheckJSON(doc)
		if err != nil {
			for _, r := range err.Error() {
				if r < ' ' || r == 0x202e {
					t.Errorf("the error passes a control character on: %q", err)
				}
			}
			return
		}
		if !json.Valid(doc) {
			t.Fatalf("accepted, but encoding/json does not take %q", doc)
		}
		var v any
		if err := json.Unmarshal(doc, &v); err != nil {
			t.Fatalf("accepted, but encoding/json cannot decode %q: %v", doc, err)
		}
		again, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		// Nothing was lost on the way through encoding/json: it drops repeated keys silently.
		if keys(doc) != keys(again) {
			t.Fatalf("encoding/json changes %q to %q", doc, again)
		}
	})
}

// keys counts the keys of a document by its tokens.
func keys(doc []byte) int {
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	n, open := 0, 0
	for {
		token, err := dec.Token()
		if err != nil {
			return n + open
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			open++
		case json.Delim('}'), json.Delim(']'):
		default:
			n++
		}
	}
}

func BenchmarkCheckJSONAlert(b *testing.B) {
	doc := []byte(sampleAlert)
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		if err := bridge.CheckJSON(doc); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkValidJSONAlert is the limit to compare with: validity only, no keys, no UTF-8.
func BenchmarkValidJSONAlert(b *testing.B) {
	doc := []byte(sampleAlert)
	b.SetBytes(int64(len(doc)))
	for b.Loop() {
		if !json.Valid(doc) {
			b.Fatal("not valid")
		}
	}
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", want)
	}
	if !strings.Contains(err.Error(), want) {
		t.Fatalf("error %q, want %q", shorten(err.Error()), want)
	}
}

func shorten(s string) string { return s[:min(len(s), 500)] }

const sampleAlert = `{"level":"HIGH","title":"Office starts a shell","description":"winword.exe started powershell.exe with an encoded command",
"details":"powershell.exe -nop -w hidden -enc SQBFAFgAKABOAGUAdwAtAE8AYgBqAGUAYwB0ACAATgBlAHQALgBXAGUAYgBDAGwAaQBlAG4AdAApAC4ARABvAHcAbgBsAG8AYQBkAFMAdAByAGkAbgBnACgA",
"timestamp":"2026-11-20T20:06:56.123456Z","host":"ws-0417.corp.example","user":"CORP\\j.doe","actionable_pid":7312,
"process":{"pid":7312,"start_ticks":918273645,"name":"powershell.exe","path":"C:\\Windows\\System32\\WindowsPowerShell\\v1.0\\powershell.exe",
"md5":"44d88612fea8a8f36de82e1278abb02f","sha256":"275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f",
"parent":{"pid":6120,"name":"winword.exe","path":"C:\\Program Files\\Microsoft Office\\root\\Office16\\WINWORD.EXE"}},
"network":{"source_ip":"10.20.30.40","destination_ip":"203.0.113.7","destination_port":443,"bytes":[1024,98304]},"tags":["T1059.001","T1566","office"],"score":0.93}`
