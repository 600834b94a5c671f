package bridge_test

import (
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestHoursContainTheMomentsOnTheirClock(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("no time zones here:", err)
	}
	clock := func(h, m int) time.Duration { return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute }
	day := bridge.Hours{From: clock(8, 0), To: clock(18, 0), Zone: berlin}
	week := day
	week.Days = []time.Weekday{time.Monday, time.Tuesday, time.Wednesday, time.Thursday, time.Friday}
	night := bridge.Hours{From: clock(22, 0), To: clock(6, 0), Zone: berlin}
	friday := night
	friday.Days = []time.Weekday{time.Friday}
	late := bridge.Hours{From: clock(22, 0), To: clock(24, 0), Zone: berlin}
	always := bridge.Hours{To: clock(24, 0), Zone: berlin}
	from9 := bridge.Hours{From: clock(9, 0), To: clock(9, 0), Zone: berlin, Days: []time.Weekday{time.Saturday}}
	two := bridge.Hours{From: clock(2, 0), To: clock(3, 0), Zone: berlin}
	for name, tc := range map[string]struct {
		hours bridge.Hours
		at    string // in UTC
		want  bool
	}{
		"begins at its minute":             {day, "2026-11-20T07:00:00Z", true},
		"not before":                       {day, "2026-11-20T06:59:59.999999999Z", false},
		"ends before its minute":           {day, "2026-11-20T17:00:00Z", false},
		"up to its last second":            {day, "2026-11-20T16:59:59.999999999Z", true},
		"in summer an hour earlier":        {day, "2026-07-20T06:00:00Z", true},
		"not at the same hour of UTC":      {day, "2026-07-20T16:30:00Z", false},
		"on a Friday":                      {week, "2026-11-20T12:00:00Z", true},
		"not on a Saturday":                {week, "2026-11-21T12:00:00Z", false},
		"the night before midnight":        {night, "2026-11-20T21:00:00Z", true},
		"the night after midnight":         {night, "2026-11-21T04:59:59Z", true},
		"not in the morning":               {night, "2026-11-21T05:00:00Z", false},
		"not by day":                       {night, "2026-11-20T20:59:59Z", false},
		"the night of Friday":              {friday, "2026-11-20T21:30:00Z", true},
		"which is Saturday by now":         {friday, "2026-11-21T03:00:00Z", true},
		"not the night of Thursday":        {friday, "2026-11-20T03:00:00Z", false},
		"not the night of Saturday":        {friday, "2026-11-21T21:30:00Z", false},
		"up to midnight":                   {late, "2026-11-20T22:59:59Z", true},
		"not at midnight":                  {late, "2026-11-20T23:00:00Z", false},
		"all day, at midnight":             {always, "2026-11-20T23:00:00Z", true},
		"all day, before midnight":         {always, "2026-11-20T22:59:59Z", true},
		"a day from nine to nine":          {from9, "2026-11-21T08:00:00Z", true},
		"until the next morning":           {from9, "2026-11-22T07:59:59Z", true},
		"and no longer":                    {from9, "2026-11-22T08:00:00Z", false},
		"nor before":                       {from9, "2026-11-21T07:59:59Z", false},
		"before the hour that is left out": {two, "2026-03-29T00:59:59Z", false}, // 01:59:59, then it is 03:00
		"after the hour that is left out":  {two, "2026-03-29T01:00:00Z", false},
		"the hour that comes twice, first": {two, "2026-10-25T00:30:00Z", true},
		"the hour that comes twice, again": {two, "2026-10-25T01:30:00Z", true},
		"after the hour that comes twice":  {two, "2026-10-25T02:00:00Z", false},
		"night into summer":                {night, "2026-03-29T03:59:59Z", true},
		"night into summer is over":        {night, "2026-03-29T04:00:00Z", false},
		"night into winter":                {night, "2026-10-25T04:59:59Z", true},
		"night into winter is over":        {night, "2026-10-25T05:00:00Z", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at, err := time.Parse(time.RFC3339Nano, tc.at)
			if err != nil {
				t.Fatal(err)
			}
			for _, zone := range []*time.Location{time.UTC, time.FixedZone("", -11*3600)} {
				if got := tc.hours.Contains(at.In(zone)); got != tc.want {
					t.Errorf("contains %s: %v, want %v", at.In(berlin), got, tc.want)
				}
			}
		})
	}
	// Without a zone the clock of this machine counts.
	local := time.Date(2026, 11, 20, 8, 0, 0, 0, time.Local)
	if h := (bridge.Hours{From: clock(8, 0), To: clock(9, 0)}); !h.Contains(local) || h.Contains(local.Add(time.Hour)) {
		t.Error("hours without a zone are not those of this machine")
	}
}

func TestLimitCoversItsTaskOrAll(t *testing.T) {
	t.Parallel()
	for _, k := range bridge.Kinds() {
		if !(bridge.Limit{All: true}).Covers(k) || (bridge.Limit{}).Covers(k) {
			t.Errorf("%s: a limit of all tasks covers it, one of none does not", k)
		}
		if got := (bridge.Limit{Task: bridge.KindIsolateHost}).Covers(k); got != (k == bridge.KindIsolateHost) {
			t.Errorf("a limit of isolateHost covers %s: %v", k, got)
		}
	}
}
