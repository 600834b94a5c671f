package mapping

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestGlobAgreesWithTheRegexpOfTheSameMeaning compares on short texts over a small alphabet, where every
// way to split a pattern comes up.
func TestGlobAgreesWithTheRegexpOfTheSameMeaning(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	word := func(alphabet []rune, longest int) string {
		var b strings.Builder
		for range rng.IntN(longest + 1) {
			b.WriteRune(alphabet[rng.IntN(len(alphabet))])
		}
		return b.String()
	}
	fits := 0
	for range 50_000 {
		pattern, text := word([]rune("ab\u044f*?"), 6), word([]rune("ab\u044f"), 8)
		if !strings.ContainsAny(pattern, "*?") {
			continue
		}
		re := regexp.MustCompile("^" + strings.NewReplacer("*", ".*", "?", ".").Replace(pattern) + "$")
		got, want := newGlob(pattern).fits(text), re.MatchString(text)
		if got != want {
			t.Fatalf("pattern %q, text %q: got %v, want %v", pattern, text, got, want)
		}
		if got {
			fits++
		}
	}
	if fits < 1000 {
		t.Errorf("only %d matches: the texts are too unlike the patterns", fits)
	}
}

func TestPatternsStayFastOnTextsBuiltAgainstThem(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("a", 1<<20)
	begin := time.Now()
	for _, pattern := range []string{"*a*a*a*a*a*a*b", "*aaaaaaaaab*", "*a?a?a?b*", strings.Repeat("a*", 500) + "b"} {
		if newGlob(pattern).fits(text) {
			t.Errorf("%q fits", pattern)
		}
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestUnquoteReadsEscapesAsEncodingJSONDoes(t *testing.T) {
	t.Parallel()
	for token, want := range map[string]string{
		`"plain"`: "plain", `"\u0041\n\t\r\b\f\/\\\""`: "A\n\t\r\b\f/\\\"", `"\ud83d\ude00x"`: "\U0001f600x", `"\u53EF\u7591"`: "\u53ef\u7591", `""`: "",
	} {
		got, err := textOf([]byte(token))
		if err != nil || got != want {
			t.Errorf("%s: %q, %v", token, got, err)
		}
	}
	for _, token := range []string{`"\u0000"`, `"\ud83d"`, `"\ud83dx"`, `"\ud83d\u0041"`, `"\ude00"`, `"\x"`, `"\u12"`, `"\u12g4"`, `7`} {
		if got, err := textOf([]byte(token)); err == nil {
			t.Errorf("%s: accepted as %q", token, got)
		}
	}
}
