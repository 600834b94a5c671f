package ioc

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// interval is an inclusive range of numbers, nanoseconds included.
type interval struct{ low, high int64 }

// parseInterval reads the content of a term about an ordered field: one value, or two with TO between them, with or
// without square brackets (support.kaspersky.com/kes12/220828). A time or span covers what its last digit leaves open:
// a date is the whole day.
func parseInterval(s shape, content string) (interval, error) {
	low, high, ranged, err := splitRange(content)
	if err != nil {
		return interval{}, err
	}
	from, err := parsePoint(s, low)
	if err != nil || !ranged {
		return from, err
	}
	to, err := parsePoint(s, high)
	if err != nil {
		return interval{}, err
	}
	if from.low > to.high {
		return interval{}, errors.New("the range ends before it begins")
	}
	return interval{from.low, to.high}, nil
}

// splitRange splits "a TO b" and "[a TO b]".
func splitRange(content string) (low, high string, ranged bool, err error) {
	content = strings.TrimSpace(content)
	inner, open := strings.CutPrefix(content, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	parts := strings.Fields(inner)
	switch {
	case open != closed:
		return "", "", false, errors.New("one of the brackets of the range is missing")
	case len(parts) == 3 && strings.EqualFold(parts[1], "TO"):
		return parts[0], parts[2], true, nil
	case len(parts) == 1 && !open:
		return parts[0], "", false, nil
	default:
		return "", "", false, errors.New("it is neither one value nor a range a TO b")
	}
}

func parsePoint(s shape, t string) (interval, error) {
	switch s {
	case moment:
		return parseMoment(t)
	case span:
		return parseSpan(t)
	default:
		n, err := strconv.ParseInt(t, 10, 64)
		if err != nil {
			return interval{}, errors.New("it is no integer")
		}
		return interval{n, n}, nil
	}
}

// parseMoment reads ISO 8601 in the forms 2009-04-28, 2009-04-28T10:00, 2009-04-28T10:00:00 and with a fraction, in UTC unless
// it ends in another offset.
func parseMoment(t string) (interval, error) {
	for _, f := range []struct {
		layout string
		covers time.Duration
	}{
		{"2006-01-02", 24 * time.Hour},
		{"2006-01-02T15:04", time.Minute},
		{"2006-01-02T15:04Z07:00", time.Minute},
		{"2006-01-02T15:04:05", time.Second},
		{"2006-01-02T15:04:05Z07:00", time.Second},
	} {
		at, err := time.Parse(f.layout, t)
		if err != nil {
			continue
		}
		if !inNanoseconds(at) {
			return interval{}, errors.New("the year is out of range")
		}
		covers := f.covers
		if _, fraction, ok := strings.Cut(t, "."); ok {
			digits := len(fraction) - len(strings.TrimLeft(fraction, "0123456789"))
			for ; digits > 0 && covers > 1; digits-- {
				covers /= 10
			}
		}
		return interval{at.UnixNano(), at.UnixNano() + int64(covers) - 1}, nil
	}
	return interval{}, errors.New("it is no ISO 8601 time, such as 2009-04-28T10:00:00Z")
}

// parseSpan reads whole seconds, as Kaspersky has durations, or an ISO 8601 duration without years and months, such as PT5M.
func parseSpan(t string) (interval, error) {
	errNoSpan := errors.New("it is neither seconds nor an ISO 8601 duration of days, hours, minutes and seconds")
	seconds, err := strconv.ParseUint(t, 10, 32)
	if err == nil {
		return spanOf(seconds), nil
	}
	rest, ok := strings.CutPrefix(t, "P")
	if !ok {
		return interval{}, errNoSpan
	}
	days, clock, timed := strings.Cut(rest, "T")
	if timed && clock == "" || days == "" && !timed {
		return interval{}, errNoSpan
	}
	seconds = 0
	for _, part := range []struct {
		text  *string
		unit  string
		worth uint64
	}{{&days, "D", 86400}, {&clock, "H", 3600}, {&clock, "M", 60}, {&clock, "S", 1}} {
		digits, after, found := strings.Cut(*part.text, part.unit)
		if !found {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 32)
		if err != nil {
			return interval{}, errNoSpan
		}
		seconds += n * part.worth
		*part.text = after
	}
	if days != "" || clock != "" || seconds > math.MaxUint32 {
		return interval{}, errNoSpan
	}
	return spanOf(seconds), nil
}

func spanOf(seconds uint64) interval {
	n := int64(seconds) * int64(time.Second) //nolint:gosec // below 2^32 seconds
	return interval{n, n + int64(time.Second) - 1}
}

// addresses is an inclusive range of IP addresses of one family.
type addresses struct{ low, high netip.Addr }

// parseAddresses reads an address, a prefix in CIDR form, or a range a TO b.
func parseAddresses(content string) (addresses, error) {
	low, high, ranged, err := splitRange(content)
	if err != nil {
		return addresses{}, err
	}
	if prefix, err := netip.ParsePrefix(low); err == nil && !ranged {
		prefix = prefix.Masked()
		return addresses{prefix.Addr(), last(prefix)}, nil
	}
	from, err := parseAddress(low)
	if err != nil || !ranged {
		return addresses{from, from}, err
	}
	to, err := parseAddress(high)
	if err != nil {
		return addresses{}, err
	}
	if from.BitLen() != to.BitLen() || to.Less(from) {
		return addresses{}, errors.New("the range ends before it begins")
	}
	return addresses{from, to}, nil
}

func parseAddress(t string) (netip.Addr, error) {
	a, err := netip.ParseAddr(t)
	if err != nil {
		return netip.Addr{}, errors.New("it is no IP address")
	}
	return a.Unmap().WithZone(""), nil
}

// last returns the highest address of the prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func (a addresses) hold(t string) bool {
	addr, err := parseAddress(t)
	return err == nil && addr.BitLen() == a.low.BitLen() && !addr.Less(a.low) && !a.high.Less(addr)
}

// checkDigest wants the hex digits of the shape's digest, and not those of the empty file, which would match everywhere.
func checkDigest(s shape, content string) error {
	var digits int
	var empty string
	switch s {
	case md5sum:
		digits, empty = 32, "d41d8cd98f00b204e9800998ecf8427e"
	case sha1sum:
		digits, empty = 40, "da39a3ee5e6b4b0d3255bfef95601890afd80709"
	default:
		digits, empty = 64, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	}
	switch {
	case len(content) != digits || strings.Trim(content, "0123456789abcdef") != "":
		return fmt.Errorf("it is not %d hex digits", digits)
	case content == empty:
		return errors.New("it is the digest of the empty file, of which every machine has many")
	}
	return nil
}
