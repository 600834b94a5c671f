package ksc

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestFilterWritesTheVendorsGrammar(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 20, 20, 6, 55, 999, time.FixedZone("", 3*3600))
	for want, f := range map[string]Filter{
		`(KLHST_WKS_DN="ws 01.корп")`:              Eq("KLHST_WKS_DN", Text("ws 01.корп")),
		`(KLINCDT_ADDED>T"2026-11-20 17:06:55")`:   Gt("KLINCDT_ADDED", Moment(at)),
		`(KLHST_WKS_IP_LONG<-5)`:                   Lt("KLHST_WKS_IP_LONG", Number(-5)),
		`(KLINCDT_IS_HANDLED=0)`:                   Eq("KLINCDT_IS_HANDLED", Flag(false)),
		`(KLINCDT_IS_HANDLED=1)`:                   Eq("KLINCDT_IS_HANDLED", Flag(true)),
		`(KLHST_WKS_DN="*")`:                       Present("KLHST_WKS_DN"),
		`(&(A=1)(|(B=2)(!(C=3))))`:                 And(Eq("A", Number(1)), Or(Eq("B", Number(2)), Not(Eq("C", Number(3))))),
		`(A="O'Neil (lab) & co | <1> = ! \ ; %s")`: Eq("A", Text(`O'Neil (lab) & co | <1> = ! \ ; %s`)),
	} {
		if err := f.Err(); err != nil || f.String() != want {
			t.Errorf("got %s, %v; want %s", f, err, want)
		}
	}
}

func TestFilterRefusesWhatTheGrammarCannotSay(t *testing.T) {
	t.Parallel()
	ok := Eq("A", Number(1))
	for name, f := range map[string]Filter{
		"zero":              {},
		"empty and":         And(),
		"empty or":          Or(),
		"not of zero":       Not(Filter{}),
		"error inside":      And(ok, Or(ok, Eq("A", Text("*")))),
		"quote":             Eq("A", Text(`a"b`)),
		"star":              Eq("A", Text("a*")),
		"question mark":     Eq("A", Text("a?")),
		"bracket":           Eq("A", Text("[a")),
		"closing bracket":   Eq("A", Text("a]")),
		"control":           Eq("A", Text("a\x00")),
		"line":              Eq("A", Text("a\nb")),
		"C1 control":        Eq("A", Text("a\u0085b")),
		"not UTF-8":         Eq("A", Text("a\xff")),
		"empty text":        Eq("A", Text("")),
		"long text":         Eq("A", Text(strings.Repeat("a", 257))),
		"no value":          Eq("A", Value{}),
		"attribute":         Eq("A=1)(B", Number(1)),
		"no attribute":      Gt("", Number(1)),
		"year 10000":        Lt("A", Moment(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC))),
		"present injection": Present(`A="x")(B`),
	} {
		if f.Err() == nil {
			t.Errorf("%s: wrote %s", name, f)
		}
		if strings.HasPrefix(f.String(), "(") {
			t.Errorf("%s: String looks like a filter: %s", name, f)
		}
	}
}

// FuzzFilter checks by an own reader of the grammar that a value never becomes structure.
func FuzzFilter(f *testing.F) {
	for _, s := range []string{"ws-01", `x")(KLHST_WKS_DN="`, "a*", "", "\x00", "a)(b", "корп", `a""b`, "T\"2026-11-20 17:06:55\""} {
		f.Add("KLHST_WKS_DN", s, int64(1))
	}
	f.Fuzz(func(t *testing.T, attr, text string, n int64) {
		filter := And(Eq(attr, Text(text)), Not(Gt("KLINCDT_ADDED", Moment(time.Unix(n, 0)))), Lt("N", Number(n)))
		if filter.Err() != nil {
			return
		}
		got := filter.String()
		rest, ok := strings.CutPrefix(got, "(&("+attr+`="`)
		if !ok {
			t.Fatalf("%q does not begin with its attribute", got)
		}
		value, rest, ok := strings.Cut(rest, `"`)
		want := fmt.Sprintf(`)(!(KLINCDT_ADDED>T"%s"))(N<%d))`, time.Unix(n, 0).UTC().Format("2006-01-02 15:04:05"), n)
		if !ok || value != text || rest != want {
			t.Fatalf("%q: value %q, rest %q", got, value, rest)
		}
		if strings.ContainsAny(value, "*?[]") || len(attr) == 0 || strings.ContainsAny(attr, "=<>()&|!\"* ") {
			t.Fatalf("%q holds wildcards or operators", got)
		}
	})
}
