package syslog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func collect(r io.Reader, limit int) (frames []string, err error) {
	for f, e := range Frames(r, limit) {
		if e != nil {
			return frames, e
		}
		frames = append(frames, string(f))
	}
	return frames, nil
}

func TestFramesSplitsByTheFirstByteOfTheStream(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 9000)
	for _, c := range []struct {
		name, stream string
		want         []string
	}{
		{"nothing", "", nil},
		{"line breaks", "<13>one\n<13>two\n", []string{"<13>one", "<13>two"}},
		{"carriage returns", "a\r\nb\rc\r\n\r\n", []string{"a", "b\rc"}},
		{"NULs", "a\x00b\r\x00c\n\x00", []string{"a", "b\r", "c"}},
		{"empty lines", "\n\n\x00a\n\n\nb\n", []string{"a", "b"}},
		{"CEF without header", "CEF:0|a\nCEF:0|b\n", []string{"CEF:0|a", "CEF:0|b"}},
		{"a digit that begins a later line", "<13>a\n17 x\n", []string{"<13>a", "17 x"}},
		{"a zero is no count", "0 a\n", []string{"0 a"}},
		{"a long line", long + "\n" + long + "y\n", []string{long, long + "y"}},
		{"counted octets", "5 <1>ab8 <13>c\nd 1 x", []string{"<1>ab", "<13>c\nd ", "x"}},
		{"counted octets with trailers inside", "4 ab\r\n3 c\x00\n", []string{"ab\r\n", "c\x00\n"}},
		{"a long counted message", fmt.Sprintf("%d %s3 abc", len(long), long), []string{long, "abc"}},
	} {
		for _, wrap := range []struct {
			name string
			of   func(io.Reader) io.Reader
		}{
			{"at once", func(r io.Reader) io.Reader { return r }},
			{"byte by byte", iotest.OneByteReader},
			{"end with data", iotest.DataErrReader},
		} {
			t.Run(c.name+" "+wrap.name, func(t *testing.T) {
				t.Parallel()
				got, err := collect(wrap.of(strings.NewReader(c.stream)), 0)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("frames are %.300q, want %.300q", got, c.want)
				}
			})
		}
	}
}

func TestFramesEndsWithAnErrorWhereTheFramingBreaks(t *testing.T) {
	t.Parallel()
	broken := errors.New("connection reset")
	for _, c := range []struct {
		name   string
		stream io.Reader
		limit  int
		want   []string
		err    error // nil = none
	}{
		{"a line at the limit", strings.NewReader("a2345\r\n12345\n"), 5, []string{"a2345", "12345"}, nil},
		{"a line over the limit", strings.NewReader("1a\n"), 1, nil, ErrFrame},
		{"a later line over the limit", strings.NewReader("abcd\nabcdef\nabc\n"), 5, []string{"abcd"}, ErrFrame},
		{"a carriage return over the limit", strings.NewReader("abcde\r\x00"), 5, nil, ErrFrame},
		{"a line that never ends", endless('a'), 1000, nil, ErrFrame},
		{"an unfinished line", strings.NewReader("ab\ncd"), 10, []string{"ab"}, ErrFrame},
		{"a message at the limit", strings.NewReader("5 12345"), 5, []string{"12345"}, nil},
		{"a message over the limit", strings.NewReader("2 ab6 123456"), 5, []string{"ab"}, ErrFrame},
		{"a count that never ends", endless('9'), math.MaxInt, nil, ErrFrame},
		{"a count without space", strings.NewReader("12<13>"), 100, nil, ErrFrame},
		{"a line break for a count", strings.NewReader("1 a\n1 b"), 100, []string{"a"}, ErrFrame},
		{"a count of zero", strings.NewReader("1 a0 "), 100, []string{"a"}, ErrFrame},
		{"a zero in front of a count", strings.NewReader("1 a01 b"), 100, []string{"a"}, ErrFrame},
		{"an unfinished count", strings.NewReader("1 a12"), 100, []string{"a"}, ErrFrame},
		{"an unfinished message", strings.NewReader("3 ab"), 100, nil, ErrFrame},
		{"a message without its bytes", strings.NewReader("3 "), 100, nil, ErrFrame},
		{"a failing connection inside a line", io.MultiReader(strings.NewReader("ab\ncd"), iotest.ErrReader(broken)), 100, []string{"ab"}, broken},
		{"a failing connection before all", iotest.ErrReader(broken), 100, nil, broken},
		{"a failing connection between two lines", io.MultiReader(strings.NewReader("ab\n"), iotest.ErrReader(broken)), 100, []string{"ab"}, broken},
		{"a failing connection between two messages", io.MultiReader(strings.NewReader("2 ab"), iotest.ErrReader(broken)), 100, []string{"ab"}, broken},
		{"a failing connection inside a message", io.MultiReader(strings.NewReader("5 ab"), iotest.ErrReader(broken)), 100, nil, broken},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := collect(c.stream, c.limit)
			if inside := strings.Contains(c.name, "inside"); inside != (errors.Is(err, ErrFrame) && errors.Is(err, broken)) {
				t.Errorf("error %v wraps both ErrFrame and its cause: %t, want %t", err, !inside, inside)
			}
			if !errors.Is(err, c.err) {
				t.Errorf("error is %v, want %v", err, c.err)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("frames are %q, want %q", got, c.want)
			}
		})
	}
}

type endless byte

func (e endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}

func TestFramesHandsOutBytesOfTheirOwn(t *testing.T) {
	t.Parallel()
	for _, stream := range []string{"one\ntwo\nthree\n", "3 one3 two5 three"} {
		var kept [][]byte
		for f, err := range Frames(strings.NewReader(stream), 0) {
			if err != nil {
				t.Fatal(err)
			}
			kept = append(kept, f)
		}
		if got := string(bytes.Join(kept, []byte(" "))); got != "one two three" {
			t.Errorf("frames turned into %q", got)
		}
	}
}

func TestFramesStopsWhenNobodyWantsMore(t *testing.T) {
	t.Parallel()
	n := 0
	for range Frames(endlessLines{}, 0) {
		if n++; n == 3 {
			break
		}
	}
	if n != 3 {
		t.Errorf("%d frames, want 3", n)
	}
}

type endlessLines struct{}

func (endlessLines) Read(p []byte) (int, error) { return copy(p, "line\n"), nil }

// A count is only a claim: memory is taken as the bytes come.
func TestA2FramesTakesNoMemoryForAMereClaim(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		_, _ = collect(strings.NewReader("1000000000 x"), 1<<30)
	}
	runtime.ReadMemStats(&after)
	if got := (after.TotalAlloc - before.TotalAlloc) / 100; got > 4*readAhead {
		t.Errorf("a claim of 1 GB took %d bytes, want at most %d", got, 4*readAhead)
	}
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte("<13>one\r\n<13>two\n\x00"), 100)
	f.Add([]byte("5 <1>ab3 c\nd"), 100)
	f.Add([]byte("12"), 1)
	f.Add([]byte("6 abcdef"), 5)
	f.Fuzz(func(t *testing.T, stream []byte, limit int) {
		if limit < 1 || limit > 1<<20 {
			limit = 64
		}
		whole, err := collect(bytes.NewReader(stream), limit)
		slow, slowErr := collect(iotest.OneByteReader(bytes.NewReader(stream)), limit)
		if !slices.Equal(whole, slow) || fmt.Sprint(err) != fmt.Sprint(slowErr) {
			t.Fatalf("frames depend on how the bytes come: %q %v, then %q %v", whole, err, slow, slowErr)
		}
		total := 0
		for _, frame := range whole {
			if frame == "" || len(frame) > limit {
				t.Fatalf("a frame of %d bytes, the limit is %d", len(frame), limit)
			}
			total += len(frame)
		}
		if total > len(stream) {
			t.Fatalf("%d bytes came out of %d", total, len(stream))
		}
		if err != nil && !errors.Is(err, ErrFrame) {
			t.Fatalf("error %v does not wrap ErrFrame", err)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for _, c := range []struct{ name, line string }{
		{"rfc5424", `<134>1 2026-11-20T10:00:00.003Z gw-1.corp.example shield 811 MAL [origin ip="10.0.0.7"] CEF:0|Acme|Shield|7.2|MAL-1|Malware found|8|dhost=ws-017 dst=10.20.1.44 msg=removed`},
		{"rfc3164", `<134>Nov 20 10:00:00 gw-1.corp.example shield[811]: CEF:0|Acme|Shield|7.2|MAL-1|Malware found|8|dhost=ws-017 dst=10.20.1.44 msg=removed`},
	} {
		b.Run(c.name, func(b *testing.B) {
			line := []byte(c.line)
			b.SetBytes(int64(len(line)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(line); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFrames(b *testing.B) {
	line := strings.Repeat("x", 399) + "\n"
	stream := []byte(strings.Repeat(line, 256))
	b.SetBytes(int64(len(stream)))
	for b.Loop() {
		for _, err := range Frames(bytes.NewReader(stream), 0) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}
