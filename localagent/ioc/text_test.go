package ioc

import (
	"encoding/json"
	"testing"
)

func TestTextsAreShownAndWrittenWithoutDeceivingAnybody(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct{ shown, written string }{
		"/tmp/a b":        {"/tmp/a b", `"/tmp/a b"`},
		"":                {`""`, `""`},
		"a\"\\":           {`"a\"\\"`, `"a\"\\"`},
		"\x1b[2J":         {`"\x1b[2J"`, `"\u001b[2J"`},
		"\u202egpj.exe":   {`"\u202egpj.exe"`, `"\u202egpj.exe"`},
		"Ж😀":              {"Ж😀", `"\u0416\ud83d\ude00"`},
		"\xff\xed\xa0":    {`"\xff\xed\xa0"`, `"\udcff\udced\udca0"`},
		"<&>\x7f\u0085":   {`"<&>\x7f\u0085"`, `"\u003c\u0026\u003e\u007f\u0085"`},
		"\ufffd":          {"\ufffd", `"\ufffd"`},
		`\udcff`:          {`"\\udcff"`, `"\\udcff"`},
		"😀\xff\\\xfe\n\"": {`"😀\xff\\\xfe\n\""`, `"\ud83d\ude00\udcff\\\udcfe\u000a\""`},
	} {
		if got := Text(text).String(); got != want.shown {
			t.Errorf("%q is shown as %s, want %s", text, got, want.shown)
		}
		b, err := json.Marshal(Text(text))
		if err != nil || string(b) != want.written {
			t.Errorf("%q is written as %s, want %s (%v)", text, b, want.written, err)
		}
		var back Text
		if err := json.Unmarshal(b, &back); err != nil || string(back) != text {
			t.Errorf("%q comes back as %q (%v)", text, back, err)
		}
	}
	var back Text
	for in, want := range map[string]string{`"\n\tplain é"`: "\n\tplain é", `"\uDCFF\/\b"`: "\xff/\b", `"\ud800\udcff"`: "\U000100ff", `"é\udc80"`: "é\x80"} {
		if err := json.Unmarshal([]byte(in), &back); err != nil || string(back) != want {
			t.Errorf("%s is read as %q, want %q (%v)", in, back, want, err)
		}
	}
	if err := json.Unmarshal([]byte(`7`), &back); err == nil {
		t.Error("a number was read as text")
	}
}

func FuzzText(f *testing.F) {
	f.Add("plain", `"\udcff"`)
	f.Add("\xff\\\"\u202e😀", `"\ud83d\udc80\\"`)
	f.Fuzz(func(t *testing.T, text, raw string) {
		b, err := json.Marshal(Text(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range b {
			if c < ' ' || c > '~' {
				t.Fatalf("byte %#x in %q", c, b)
			}
		}
		var back Text
		if err := json.Unmarshal(b, &back); err != nil || string(back) != text {
			t.Fatalf("%q comes back as %q from %s (%v)", text, back, b, err)
		}
		// Whatever JSON somebody else wrote is read or refused.
		_ = json.Unmarshal([]byte(raw), &back)
	})
}
