package configs

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // machines without a zone database, Windows among them, read the same file alike

	"github.com/edr-bridge/edr-bridge/bridge"
)

// written is a scalar setting with a form of its own.
type written interface {
	// parse sets the value; an error says what it must be.
	parse(text string) error
	// wants names the form for people.
	wants() string
}

// Share is a part of the known hosts in percent, above 0 to 100; it is written "2%".
type Share float64

const minShare, maxShare = Share(0.01), Share(100)

func (s *Share) parse(text string) error {
	number, ok := strings.CutSuffix(text, "%")
	value, err := strconv.ParseFloat(number, 64)
	// ParseFloat also takes signs, exponents and words.
	if !ok || err != nil || strings.Trim(number, "0123456789.") != "" || Share(value) < minShare || Share(value) > maxShare {
		return fmt.Errorf("must be %s, not %s", s.wants(), quoted(text))
	}
	*s = Share(value)
	return nil
}

func (*Share) wants() string { return `a share of the known hosts from 0.01% to 100%, such as "2%"` }

// MarshalText returns the share as it is written: 2%.
func (s Share) MarshalText() ([]byte, error) {
	return []byte(strconv.FormatFloat(float64(s), 'f', -1, 64) + "%"), nil
}

// Fraction returns the share as a part of 1.
func (s Share) Fraction() float64 { return float64(s) / float64(maxShare) }

// Clock is a time of day, as the time since midnight in whole minutes, 24h at most; it is written "08:00".
type Clock time.Duration

const (
	dayLength     = 24 * time.Hour
	minutesOfHour = 60
)

func (c *Clock) parse(text string) error {
	hour, minute, ok := strings.Cut(text, ":")
	h, errH := strconv.ParseUint(hour, 10, 8)
	m, errM := strconv.ParseUint(minute, 10, 8)
	form := ok && len(hour) == 2 && len(minute) == 2 && errH == nil && errM == nil
	if !form || m >= minutesOfHour || h*minutesOfHour+m > uint64(dayLength/time.Minute) {
		return fmt.Errorf("must be %s, not %s", c.wants(), quoted(text))
	}
	*c = Clock(time.Duration(h*minutesOfHour+m) * time.Minute)
	return nil
}

func (*Clock) wants() string { return `a time of day such as "08:00"` }

// MarshalText returns the time of day as it is written: 08:00.
func (c Clock) MarshalText() ([]byte, error) {
	minutes := time.Duration(c) / time.Minute
	return fmt.Appendf(nil, "%02d:%02d", minutes/minutesOfHour, minutes%minutesOfHour), nil
}

// Day is a day of the week; it is written mon to sun.
type Day time.Weekday

// days returns the days of a week as they are written, in the order of people.
func days() []string { return []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"} }

func (d *Day) parse(text string) error {
	i := slices.Index(days(), text)
	if i < 0 {
		return fmt.Errorf("must be %s, not %s%s", d.wants(), quoted(text), bridge.DidYouMean(text, days()))
	}
	*d = Day((i + 1) % len(days())) // the week of package time begins on Sunday
	return nil
}

func (*Day) wants() string { return "mon, tue, wed, thu, fri, sat or sun" }

// MarshalText returns the day as it is written: mon.
func (d Day) MarshalText() ([]byte, error) {
	n := len(days())
	if d < 0 || int(d) >= n {
		return nil, fmt.Errorf("no day of the week: %d", int(d))
	}
	return []byte(days()[(int(d)+n-1)%n]), nil
}

// Zone is a time zone of the IANA database; it is written Europe/Berlin, UTC, or Local for that of this machine.
type Zone struct{ location *time.Location }

func (z *Zone) parse(text string) error {
	if strings.TrimSpace(text) == "" {
		return errors.New("is empty: give it a value or remove the line")
	}
	location, err := time.LoadLocation(text)
	if err != nil {
		return fmt.Errorf("must be %s, not %s", z.wants(), quoted(text))
	}
	z.location = location
	return nil
}

func (*Zone) wants() string { return "the name of a time zone, such as Europe/Berlin, UTC or Local" }

// Location returns the zone, time.Local for the zero value.
func (z Zone) Location() *time.Location {
	if z.location == nil {
		return time.Local
	}
	return z.location
}

// MarshalText returns the name of the zone.
func (z Zone) MarshalText() ([]byte, error) { return []byte(z.Location().String()), nil }
