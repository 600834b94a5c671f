package ksc

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type allTypes struct {
	When  DateTime          `json:"when"`
	Count Long              `json:"count"`
	Bytes Binary            `json:"bytes"`
	Inner Params[order]     `json:"inner"`
	List  []Params[order]   `json:"list"`
	Deep  Params[[]Binary]  `json:"deep"`
	Plain map[string]string `json:"plain"`
}

func TestTypedValuesAreWrappedAsTheServerWritesThem(t *testing.T) {
	t.Parallel()
	in := allTypes{
		When: DateTime{time.Date(2026, 11, 20, 20, 6, 56, 999_999_999, time.FixedZone("", 3*3600))}, Count: 1 << 60,
		Bytes: Binary("<&>"), Inner: Params[order]{order{"a<b", true}}, List: []Params[order]{{order{"x", false}}},
		Deep: Params[[]Binary]{[]Binary{{1}}}, Plain: map[string]string{"k": "<&>"},
	}
	want := `{"when":{"type":"datetime","value":"2026-11-20T17:06:56Z"},"count":{"type":"long","value":1152921504606846976},` +
		`"bytes":{"type":"binary","value":"PCY+"},"inner":{"type":"params","value":{"Name":"a<b","Asc":true}},` +
		`"list":[{"type":"params","value":{"Name":"x","Asc":false}}],"deep":{"type":"params","value":[{"type":"binary","value":"AQ=="}]},"plain":{"k":"<&>"}}`
	got, err := encode(in)
	if err != nil || string(got) != want {
		t.Fatalf("got %s, %v\nwant %s", got, err, want)
	}
	var back allTypes
	if err := json.Unmarshal(got, &back); err != nil {
		t.Fatal(err)
	}
	in.When.Time = in.When.UTC().Truncate(time.Second)
	if diff := cmp.Diff(in, back); diff != "" {
		t.Error(diff)
	}
}

func TestTypedValuesAreReadWithTheServersHabits(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		into any
		want any
	}{
		"empty datetime":     {`{"type":"datetime","value":""}`, &DateTime{}, &DateTime{}},
		"fraction":           {`{"type":"datetime","value":"2026-11-20T17:06:56.5Z"}`, &DateTime{}, &DateTime{time.Date(2026, 11, 20, 17, 6, 56, 5e8, time.UTC)}},
		"offset":             {`{"type":"datetime","value":"2026-11-20T20:06:56+03:00"}`, &DateTime{}, &DateTime{time.Date(2026, 11, 20, 17, 6, 56, 0, time.UTC)}},
		"long as text":       {`{"type":"long","value":"-5"}`, new(Long), new(Long(-5))},
		"bare long":          {`7`, new(Long), new(Long(7))},
		"bare params":        {`{"Name":"x","Asc":true}`, &Params[order]{}, &Params[order]{order{"x", true}}},
		"params named alike": {`{"type":"other","value":1,"Name":"x"}`, &Params[order]{}, &Params[order]{order{Name: "x"}}},
	} {
		if err := json.Unmarshal([]byte(c.text), c.into); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(c.want, c.into); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for text, into := range map[string]any{
		`null`:                                    &DateTime{},
		`"2026-11-20T17:06:56Z"`:                  &DateTime{},
		`{"type":"date","value":"2026"}`:          &DateTime{},
		`{"type":"datetime","value":5}`:           &DateTime{},
		`{"type":"datetime"}`:                     &DateTime{},
		`{"type":"datetime","value":"yesterday"}`: &DateTime{},
		`{"type":"long","value":1.5}`:             new(Long),
		`"x"`:                                     new(Long),
		`{"type":"binary","value":"*"}`:           new(Binary),
		`[]`:                                      &Params[order]{},
	} {
		if err := json.Unmarshal([]byte(text), into); err == nil {
			t.Errorf("%s was read as %v", text, into)
		}
	}
	if _, err := encode(DateTime{time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}); err == nil {
		t.Error("year 10000 was written")
	}
}
