package scan

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestSignaturesFileErrorsNameTheLine(t *testing.T) {
	t.Parallel()
	md5hex, sha := "44d88612fea8a8f36de82e1278abb02f", strings.Repeat("ab", 32)
	for _, tt := range []struct{ text, want string }{
		{"x", "line 1: has 1 fields"},
		{"# c\n\n" + md5hex + ":68", "line 3: has 2 fields"},
		{md5hex + ":68:Name:73:x", "line 1: has 5 fields"},
		{md5hex + ":68:Name:x", "line 1: field 4"},
		{md5hex + ":-1:Name", "size"},
		{md5hex + ":0:Name", "size 0"},
		{md5hex + ":68:", "name of 0 bytes"},
		{md5hex + ":68:two words", "visible ASCII"},
		{md5hex + ":68:esc\x1b", "visible ASCII"},
		{strings.Repeat("ab", 20) + ":68:Name", "SHA-1"},
		{emptyMD5 + ":*:Name", "empty file"},
		{emptySHA256 + ":*:Name", "empty file"},
		{strings.Repeat("ab", 15) + ":68:Name", "has 3 fields"},
		{"Name:1:*:deadbeef", "target type"},
		{"Name:0:EP+0:deadbeef", "offset"},
		{"Name:0:*:deadbee", "half a byte"},
		{"Name:0:*:deadxxef", "two hex digits"},
		{"Name:0:*:dead??beef", "known bytes in a row"},
		{"Name:0:*:", "known bytes in a row"},
		{"Name:0:*:dead*beefdeadbeef", "half a byte"},
		{"Name:0:*:dead{2}beefdeadbe", "half a byte"},
		{"Name:0:*:deadbeef(aa|bb)0", "two hex digits"},
		{"Name:0:*:" + strings.Repeat("ab", maxPattern+1), "allowed are"},
		{"a\n" + strings.Repeat("b", maxLine+1), "line 1"},
		{"#\n" + strings.Repeat("b", maxLine+1), "line 2: longer than"},
		{sha + ":*:A\n" + sha + ":x:B", "line 2"},
	} {
		if _, err := parseSignatures(strings.NewReader(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.60q: got %v, want %q", tt.text, err, tt.want)
		}
	}
	s, err := parseSignatures(strings.NewReader("# all forms\r\n\n" + md5hex + ":68:A\r\n" + strings.ToUpper(sha) + ":*:B:73\nC:0:*:DEADbeef??\nD:0:12:00112233\n"))
	if err != nil || len(s.md5) != 1 || len(s.sha256) != 1 || len(s.patterns) != 2 || s.patterns[1].offset != 12 {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestVersionOfClamdIsRead(t *testing.T) {
	t.Parallel()
	i, err := parseVersion("ClamAV 1.4.6/27500/Thu Jan  2 10:00:00 2026")
	if err != nil || i.Version != "1.4.6" || i.Signatures != "daily 27500" || i.Date.Year() != 2026 {
		t.Errorf("got %+v, %v", i, err)
	}
	if i, err := parseVersion("ClamAV 1.4.6"); err != nil || i.Signatures != "hand-made" || !i.Date.IsZero() {
		t.Errorf("got %+v, %v", i, err)
	}
	for _, bad := range []string{"", "PONG", "ClamAV ", "ClamAV " + strings.Repeat("9", 300)} {
		if i, err := parseVersion(bad); err == nil {
			t.Errorf("%q: got %+v", bad, i)
		}
	}
}

func TestArchivesThatCannotBeLookedAtWholeAreSkipped(t *testing.T) {
	t.Parallel()
	e := builtinWith(t, markerLine)
	nested := []byte(marker)
	for range maxLevels + 1 {
		nested = zipped(t, "z.zip", nested)
	}
	locked := zipped(t, "x", []byte("text text"))
	locked[6] |= 1
	if i := bytes.Index(locked, []byte("PK\x01\x02")); i > 0 {
		locked[i+8] |= 1
	}
	cut := zipped(t, "x", bytes.Repeat([]byte("abc"), 1000))
	damaged := bytes.Clone(cut)
	damaged[40] ^= 0xff
	crowd := crowded(t, maxEntries+1)
	for _, tt := range []struct {
		name    string
		content []byte
		want    string
	}{
		{"too deep", nested, reasonArchiveDepth},
		{"bomb", zipped(t, "x", make([]byte, 10<<20)), reasonArchiveRatio},
		{"encrypted", locked, reasonArchiveLocked},
		{"cut off", cut[:len(cut)-30], reasonArchiveBroken},
		{"damaged", damaged, reasonArchiveBroken},
		{"too many files", crowd, reasonArchiveCount},
		{"nested too large", zipped(t, "in.zip", append([]byte("PK\x03\x04"), noise(maxNested)...)), reasonArchiveSize},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v, err := e.Scan(t.Context(), tempFile(t, tt.content), FileInfo{Size: int64(len(tt.content))})
			if err != nil || v.State != Skipped || v.Reason != tt.want {
				t.Errorf("got %+v, %v, want skipped: %s", v, err, tt.want)
			}
		})
	}
	// A program that merely ends like an archive is a program.
	fake := append(bytes.Repeat([]byte{1}, 500), "PK\x05\x06 and more"...)
	if v, err := e.Scan(t.Context(), tempFile(t, fake), FileInfo{Size: int64(len(fake))}); err != nil || v.State != Clean {
		t.Errorf("got %+v, %v, want clean", v, err)
	}
	// One that unpacks itself is both.
	self := append(bytes.Repeat([]byte{1}, 500), zipped(t, "x", []byte(marker+" more of it, packed, packed, packed, packed"))...)
	if v, err := e.Scan(t.Context(), tempFile(t, self), FileInfo{Size: int64(len(self))}); err != nil || v.State != Infected {
		t.Errorf("got %+v, %v, want infected", v, err)
	}
}

// noise does not compress.
func noise(n int) []byte {
	out := make([]byte, n)
	x := uint32(1)
	for i := range out {
		x = x*1664525 + 1013904223
		out[i] = byte(x >> 24)
	}
	return out
}

func FuzzSignatures(f *testing.F) {
	f.Add("44d88612fea8a8f36de82e1278abb02f:68:A\n" + markerLine)
	f.Add("A:0:*:00??112233445566??\nB:0:7:aabbccddee")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSignatures(strings.NewReader(text))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "line ") {
				t.Errorf("the error names no line: %v", err)
			}
			return
		}
		e := newBuiltin(s, "x", testTime())
		for _, p := range s.patterns {
			// What a signature describes must be found, wherever it stands.
			at := int(min(max(p.offset, 0), 1<<20))
			if int64(at) < p.offset {
				continue
			}
			content := append(make([]byte, at), p.bytes...)
			name, _, err := e.stream(t.Context(), bytes.NewReader(content))
			if err != nil || name == "" {
				t.Errorf("pattern %x at %d was not found: %v", p.bytes, at, err)
			}
		}
	})
}

func FuzzClamdReply(f *testing.F) {
	for _, s := range []string{
		"1: fd[3]: OK", "1: stream: X FOUND", "1: fd[3]: bad ERROR", "INSTREAM size limit exceeded. ERROR", "ClamAV 1.4.6/1/x",
		"1: fd[3]: Heuristics.Limits.Exceeded.MaxFileSize FOUND",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, reply string) {
		v, err := parseReply(reply, 1)
		if err != nil && v.State != Failed {
			t.Errorf("%q: got %+v with the error %v", reply, v, err)
		}
		if v.State == Clean && !strings.HasSuffix(reply, ": OK") {
			t.Errorf("%q counts as clean", reply)
		}
		for _, text := range []string{v.Signature, v.Reason, errText(err)} {
			if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' }) {
				t.Errorf("%q: %q is not fit for a log", reply, text)
			}
		}
		_, _ = parseVersion(reply)
		_, _ = readReply(io.LimitReader(strings.NewReader(reply), 1<<20), make([]byte, 64))
	})
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func FuzzArchive(f *testing.F) {
	f.Add(zipped(f, "a", []byte(marker)))
	f.Add(zipped(f, "b.zip", zipped(f, "a", eicar())))
	f.Add(zipped(f, "x", make([]byte, 3<<20)))
	e := builtinWith(f, markerLine)
	f.Fuzz(func(t *testing.T, content []byte) {
		a := &archive{engine: e, left: 4 << 20, entries: 100, certain: true}
		v, err := a.open(t.Context(), bytes.NewReader(content), int64(len(content)), nil)
		if err != nil || v.State == Failed {
			t.Errorf("got %+v, %v", v, err)
		}
		if a.left < 0 || a.entries < -100 {
			t.Errorf("the budget is overdrawn: %d bytes, %d files", a.left, a.entries)
		}
	})
}

func FuzzMappingsAndWords(f *testing.F) {
	f.Add("7f1c-7f2d r-xp 00000000 08:01 4711   /usr/lib/libc.so.6\nExecStart=-/usr/bin/x \"-c\" $y\n")
	f.Fuzz(func(t *testing.T, text string) {
		for line := range strings.Lines(text) {
			if link, _, _, ok := parseMapping(line); ok && strings.Contains(link, "/") {
				t.Errorf("%q: the link %q leaves its folder", line, link)
			}
		}
		for w := range words(text, "/home/u") {
			if w == "" || len(w) > 4096 {
				t.Errorf("the word %q", w)
			}
		}
	})
}

func TestSieveFindsEveryPattern(t *testing.T) {
	t.Parallel()
	var lines strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&lines, "P%d:0:*:%x\n", i, fmt.Sprintf("%04d pattern %d", i, i*7919))
	}
	e := builtinWith(t, lines.String())
	for i := 0; i < 3000; i += 37 {
		content := append(noise(1000+i), fmt.Sprintf("%04d pattern %d", i, i*7919)...)
		name, _, err := e.stream(t.Context(), bytes.NewReader(content))
		// "0001 pattern 7" begins "0001 pattern 79…" too: a shorter pattern may be found first, but one must be.
		if err != nil || name == "" {
			t.Fatalf("pattern %d was not found: %v", i, err)
		}
	}
	if name, _, _ := e.stream(t.Context(), bytes.NewReader(noise(1<<20))); name != "" {
		t.Errorf("%s found in noise", name)
	}
}
