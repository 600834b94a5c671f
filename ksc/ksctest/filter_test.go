package ksctest

import (
	"strings"
	"testing"
	"time"
)

// sample is a record with one attribute of each type.
type sample map[string]any

func (s sample) value(name string) (any, bool) { v, ok := s[name]; return v, ok }

func sampleSchema() schema {
	return schema{
		"N": {kind: kindInt}, "B": {kind: kindInt}, "L": {kind: kindInt}, "S": {kind: kindString}, "T": {kind: kindTime},
		"TEXT": {kind: kindText}, "NONE": {kind: kindNone}, "SHUT": {kind: kindInt, noFilter: true}, "MISSING": {kind: kindString},
	}
}

func sampleRow() sample {
	return sample{
		"N": -5, "B": true, "L": long(6), "S": `WS-01 [lab] "x"`, "T": time.Date(2026, 11, 20, 17, 6, 56, 0, time.UTC),
		"TEXT": `{"task": "isolateHost", "targetHost": "8910f900-3807"}`, "SHUT": 1,
	}
}

func TestFilterSelectsWhatItSays(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 17, 7, 56, 0, time.UTC)
	for expression, want := range map[string]bool{
		"":                                true,
		" \n\t":                           true,
		"(N=-5)":                          true,
		"N=-5":                            true,
		" ( N \n = \t -5 ) ":              true,
		"(N=5)":                           false,
		"(N<>5)":                          true,
		"(N>-6)":                          true,
		"(N>-5)":                          false,
		"(N>=-5)":                         true,
		"(N<-5)":                          false,
		"(N<=-5)":                         true,
		"(N<+1)":                          true,
		"(L=0x6)":                         true,
		"(L=0X06)":                        true,
		"(B=1)":                           true,
		"(B=0)":                           false,
		"(L & 2 = 2)":                     true,
		"(L&1=1)":                         false,
		"(L|1=7)":                         true,
		"(L&0x4>0)":                       true,
		"(&(N=-5)(B=1))":                  true,
		"&(N=-5)(B=1)":                    true,
		"(&(N=-5)(B=0))":                  false,
		"(|(N=5)(B=1))":                   true,
		"( | (N=5)\n(B=0) )":              false,
		"(!(N=5))":                        true,
		"(!N = -5)":                       false,
		"!N=5":                            true,
		"(&(|(N=1)(N=-5))(!(B=0)))":       true,
		`(S="ws-01 [[]lab] ""X""")`:       true,
		`(S="WS*")`:                       true,
		`(S="*lab*")`:                     true,
		`(S="WS-0?*")`:                    true,
		`(S="WS-0[0-3]*")`:                true,
		`(S="WS-0[^0-3]*")`:               false,
		`(S="WS-0[12]*")`:                 true,
		`(S="WS-0[*]*")`:                  false,
		`(S="WS")`:                        false,
		`(S<>"WS*")`:                      true, // no wildcards but with =
		`(S>"WS")`:                        true,
		`(S<"A")`:                         false,
		`(T=T"2026-11-20 17:06:56")`:      true,
		`(T>T"2026-11-20 17:06:55")`:      true,
		`(T<T"2026-11-20 17:06:56")`:      false,
		`(T < CURTIME)`:                   true,
		`(T > CURTIME(-60))`:              false,
		`(T >= CURTIME(-60))`:             true,
		`(T > CURTIME ( -61 ) )`:          true,
		`(T < CURTIME())`:                 true,
		`(&(T>CURTIME(-61))(T<CURTIME))`:  true,
		`(TEXT="isolatehost")`:            true,
		`(TEXT="isolate*")`:               true,
		`(TEXT="isolate")`:                false,
		`(TEXT="isolateHost AND 3807")`:   true,
		`(TEXT="isolateHost NOT 3807")`:   false,
		`(TEXT="+isolateHost -quarant*")`: true,
		`(TEXT="nothing OR targetHost")`:  true,
		`(TEXT<>"isolateHost")`:           false,
		`(MISSING="")`:                    false,
		`(MISSING<>"a")`:                  false,
		`(!(MISSING="a"))`:                true,
	} {
		f, err := parseFilter(expression, sampleSchema(), now)
		if err != nil {
			t.Errorf("%q: %v", expression, err)
			continue
		}
		if got := f == nil || f.match(sampleRow()); got != want {
			t.Errorf("%q: got %v", expression, got)
		}
	}
}

func TestFilterRefusesWhatTheGrammarDoesNotKnow(t *testing.T) {
	t.Parallel()
	for _, expression := range []string{
		"(", ")", "()", "(N)", "(N=)", "(N=5", "N=5)", "(N=5)(N=6)", "(=5)", "((N=5))", "(&)", "(&N=5)", "(|)", "(!)", "!",
		"(N==5)", "(N=5 OR N=6)", "(N=5a)", "(N=1.5)", `(N="5")`, "(N=99999999999999999999)", "(N=0x)", "(N=0xFFFFFFFFFFFFFFFF)",
		"(S=5)", "(S=abc)", `(S="abc)`, `(S="a"b")`, "(S='a')", `(S="[a")`, `(S="[]")`, `(S="[^]")`,
		`(T="2026-11-20 17:06:56")`, `(T=T"2026-11-20")`, `(T=T"2026-11-20T17:06:56")`, `(T=T"2026-02-30 00:00:00")`, "(T=5)", "(T=CURTIME(x))", "(T=CURTIME(1)", "(T=CURTIME(99999999999))",
		"(UNKNOWN=1)", "(n=5)", "(SHUT=1)", `(NONE="a")`, "(S&1=1)", "(N&=1)",
		`(TEXT="")`, `(TEXT="*a")`, `(TEXT>"a")`, `(TEXT="a OR")`, `(TEXT="` + strings.Repeat("a ", maxTextWords+1) + `")`,
		strings.Repeat("(!", maxFilterDepth+1) + "(N=5)" + strings.Repeat(")", maxFilterDepth+1),
		"(&" + strings.Repeat("(N=5)", maxFilterItems+1) + ")",
		"(N=5" + strings.Repeat(" ", maxFilter) + ")",
	} {
		if _, err := parseFilter(expression, sampleSchema(), time.Now()); err == nil {
			t.Errorf("%.60q was taken", expression)
		}
	}
}

func TestFilterLimitsAreReached(t *testing.T) {
	t.Parallel()
	for _, expression := range []string{
		strings.Repeat("(!", maxFilterDepth-1) + "(N=5)" + strings.Repeat(")", maxFilterDepth-1),
		"(&" + strings.Repeat("(N=-5)", maxFilterItems) + ")",
	} {
		if _, err := parseFilter(expression, sampleSchema(), time.Now()); err != nil {
			t.Errorf("%.60q: %v", expression, err)
		}
	}
}

func TestWildcardsDoNotRunAway(t *testing.T) {
	t.Parallel()
	f, err := parseFilter(`(S="`+strings.Repeat("*a", 100)+`b")`, sampleSchema(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if f.match(sample{"S": strings.Repeat("a", 5_000)}) {
		t.Error("matched")
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestBadFilterIsAnApplicationErrorThatNamesThePlace(t *testing.T) {
	t.Parallel()
	c := newSession(t, startServer(t, testConfig()))
	if code := c.refused("HostGroup.FindIncidents", `{"strFilter":"(KLINCDT_ID=)","pFieldsToReturn":[]}`); code != codeBadParameter {
		t.Errorf("code %d", code)
	}
	if r := c.post("HostGroup.FindHosts", `{"wstrFilter":"(KLHST_WKS_DN=\"a\" or)"}`); !strings.Contains(r.text, "position 18: ) expected") {
		t.Errorf("answer %s", r.text)
	}
}

func FuzzFilter(f *testing.F) {
	for _, seed := range []string{
		"", "KLINCDT_IS_HANDLED=1", `(&(KLHST_WKS_HOSTNAME="` + hostA + `")(KLINCDT_ADDED>T"2026-11-20 17:06:55")(KLINCDT_ADDED<T"2026-11-20 17:06:57"))`,
		`(|(!(KLINCDT_ID & 0x2 = 2))(KLINCDT_ADDED>CURTIME(-60)))`, `(KLHST_WKS_HOSTNAME="a[b-c]?*""")`, `(KLINCDT_BODY="+isolate* -x OR y")`,
		"((((", `(KLHST_WKS_HOSTNAME="[^`, "(!KLINCDT_ID = 0)", "\xff(KLINCDT_ID=1)",
	} {
		f.Add(seed)
	}
	incident := &Incident{ID: 1, Severity: 2, Added: time.Date(2026, 11, 20, 17, 6, 56, 0, time.UTC), Body: isolateA, Host: hostA}
	f.Fuzz(func(t *testing.T, expression string) {
		parsed, err := parseFilter(expression, incidentSchema, incident.Added)
		if err != nil {
			if len(err.Error()) > maxFilter+200 {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
			return
		}
		if parsed == nil {
			if strings.Trim(expression, " \n\t\r") != "" {
				t.Errorf("%q became no filter", expression)
			}
			return
		}
		start := time.Now()
		match := parsed.match(incident)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("judging one incident took %v", took)
		}
		store := newIncidentStore(0)
		store.add(&Incident{Severity: 2, Added: incident.Added, Body: isolateA, Host: hostA})
		if got := len(store.search(parsed)) == 1; got != match {
			t.Errorf("%q: the index says %v, the filter %v", expression, got, match)
		}
	})
}
