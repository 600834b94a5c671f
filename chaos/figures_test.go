package main

import (
	"strings"
	"testing"
)

func TestReportComparesTheFiguresAfterTheWarmUp(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		calm []figures
		want string
	}{
		"too few":            {[]figures{{40, 20}, {41, 20}}, ""},
		"flat":               {[]figures{{20, 10}, {40, 20}, {60, 30}, {41, 20}}, "rss 40.0 → 41.0 MiB (+2.5 %), descriptors 20 → 20 (+0.0 %): flat"},
		"memory grows":       {[]figures{{20, 10}, {40, 20}, {44, 20}}, "(+10.0 %), descriptors 20 → 20 (+0.0 %): not flat"},
		"descriptors shrink": {[]figures{{20, 10}, {40, 20}, {40, 18}}, "descriptors 20 → 18 (-10.0 %): not flat"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			(&watch{calm: test.calm}).report(&out)
			if got := out.String(); !strings.Contains(got, test.want) || (test.want == "") != (got == "") {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestStormIsNoSuccessBeyondItsBounds(t *testing.T) {
	t.Parallel()
	good := stormSum{isolated: budget, held: 1, liveMax: liveHold + liveKeep, hold: holdWithin - 1}
	if err := good.verdict(); err != nil {
		t.Errorf("got %v, want no error at the bounds", err)
	}
	for name, edit := range map[string]func(*stormSum){
		"nothing isolated": func(s *stormSum) { s.isolated = 0 },
		"over the budget":  func(s *stormSum) { s.isolated++ },
		"an alert is lost": func(s *stormSum) { s.lost = 1 },
		"one more than all": func(s *stormSum) {
			s.lost = -1
		},
		"one live task too many": func(s *stormSum) { s.liveMax++ },
		"the hold is slow":       func(s *stormSum) { s.hold = holdWithin },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := good
			edit(&bad)
			if bad.verdict() == nil {
				t.Errorf("got no error for %+v", bad)
			}
		})
	}
}
