package mapping

import "time"

const (
	maxFuture    = 5 * time.Minute // clock skew between a product and this machine
	earliestYear = 2000            // before it, a clock was not set
)

// alertTime returns the moment a document names, in UTC, or zero when it is not known: no ISO 8601 text, no
// zone where the preset declares none, a wall clock that does not tell one moment (the hour around a change
// of the offset), a year before 2000, more than five minutes after received, or received itself unknown.
// Zero is what makes guards refuse by age.
func alertTime(text string, local *time.Location, received time.Time) time.Time {
	t, ok := parseISO(text, local)
	if !ok {
		return time.Time{}
	}
	return plausible(t, received)
}

// plausible returns t in UTC, or zero for a time no alert of a set clock has.
func plausible(t, received time.Time) time.Time {
	if t.Year() < earliestYear || received.IsZero() || t.After(received.Add(maxFuture)) {
		return time.Time{}
	}
	return t.UTC()
}

// parseISO reads 2006-01-02T15:04:05, with an optional fraction and Z, +07:00 or +0700. Without a zone the
// text is a wall clock of local; a nil local knows none.
func parseISO(s string, local *time.Location) (time.Time, bool) {
	if len(s) < 19 || len(s) > 40 || s[4] != '-' || s[7] != '-' || s[10] != 'T' || s[13] != ':' || s[16] != ':' {
		return time.Time{}, false
	}
	year, ok1 := atoi(s[0:4])
	month, ok2 := atoi(s[5:7])
	day, ok3 := atoi(s[8:10])
	hour, ok4 := atoi(s[11:13])
	minute, ok5 := atoi(s[14:16])
	second, ok6 := atoi(s[17:19])
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 || hour > 23 || minute > 59 || second > 59 {
		return time.Time{}, false
	}
	nano, rest, ok := fraction(s[19:])
	if !ok {
		return time.Time{}, false
	}
	wall := time.Date(year, time.Month(month), day, hour, minute, second, nano, time.UTC)
	if wall.Day() != day || int(wall.Month()) != month {
		return time.Time{}, false
	}
	if rest == "" {
		return inLocation(wall, local)
	}
	offset, ok := zone(rest)
	return wall.Add(-offset), ok
}

// inLocation returns the one moment at which clocks of loc show wall; false when none or two do.
func inLocation(wall time.Time, loc *time.Location) (time.Time, bool) {
	if loc == nil {
		return time.Time{}, false
	}
	_, before := wall.Add(-24 * time.Hour).In(loc).Zone()
	_, after := wall.Add(24 * time.Hour).In(loc).Zone()
	t := wall.Add(-time.Duration(before) * time.Second)
	if before == after {
		return t, shows(t, loc, before)
	}
	u := wall.Add(-time.Duration(after) * time.Second)
	first, second := shows(t, loc, before), shows(u, loc, after)
	switch {
	case first && second:
		return time.Time{}, false
	case first:
		return t, true
	default:
		return u, second
	}
}

func shows(t time.Time, loc *time.Location, offset int) bool {
	_, at := t.In(loc).Zone()
	return at == offset
}

func fraction(s string) (nano int, rest string, ok bool) {
	if s == "" || s[0] != '.' {
		return 0, s, true
	}
	n := 1
	scale := int(time.Second)
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		scale /= 10
		nano += int(s[n]-'0') * scale
		n++
	}
	return nano, s[n:], n > 1
}

func zone(s string) (time.Duration, bool) {
	if s == "Z" {
		return 0, true
	}
	if len(s) == 6 && s[3] == ':' {
		s = s[:3] + s[4:]
	}
	if len(s) != 5 || (s[0] != '+' && s[0] != '-') {
		return 0, false
	}
	hours, ok1 := atoi(s[1:3])
	minutes, ok2 := atoi(s[3:5])
	if !ok1 || !ok2 || hours > 23 || minutes > 59 {
		return 0, false
	}
	d := time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute
	if s[0] == '-' {
		d = -d
	}
	return d, true
}

func atoi(s string) (int, bool) {
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, true
}
