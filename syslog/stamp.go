package syslog

import (
	"bytes"
	"time"
)

// maxStamp is the size of the longest stamp, in bytes.
const maxStamp = 40

// readStamp reads the stamp at the beginning of s: its text, the moment when it has zone and year (UTC, else zero), and its size with
// the zone word; size 0 = there is none. A stamp is followed by a space.
func readStamp(s []byte) (stamp string, at time.Time, size int) {
	if len(s) == 0 {
		return "", time.Time{}, 0
	}
	if isDigit(s[0]) {
		return isoStamp(s)
	}
	return nameStamp(s)
}

// isoStamp reads 2026-11-20T10:00:00 with or without fraction and zone (Z, +03:00, +0300), as rsyslog, syslog-ng and ArcSight
// connectors send it.
func isoStamp(s []byte) (string, time.Time, int) {
	word, _, ok := bytes.Cut(s[:min(len(s), maxStamp)], []byte{' '})
	if !ok {
		return "", time.Time{}, 0
	}
	stamp := string(word)
	// A fraction behind the seconds is read although the layouts have none.
	for _, layout := range []string{"2006-01-02T15:04:05Z07:00", "2006-01-02T15:04:05Z0700"} {
		if at, err := time.Parse(layout, stamp); err == nil {
			return stamp, at.UTC(), len(word)
		}
	}
	if _, err := time.Parse("2006-01-02T15:04:05", stamp); err == nil {
		return stamp, time.Time{}, len(word)
	}
	return "", time.Time{}, 0
}

// nameStamp reads "Nov 20 10:00:00" (RFC 3164) and "Nov 20 2026 10:00:00", both with or without fraction, and the word UTC or GMT
// behind them. Other zone words mean different zones to different people and would be taken for a host: none is read.
func nameStamp(s []byte) (string, time.Time, int) {
	s = s[:min(len(s), maxStamp)]
	for _, form := range []struct {
		words int
		year  bool
	}{{3, false}, {4, true}} {
		end := wordsEnd(s, form.words)
		if end < 0 {
			return "", time.Time{}, 0
		}
		stamp := string(s[:end])
		layout := time.Stamp
		if form.year {
			layout = "Jan _2 2006 15:04:05"
		}
		at, err := time.Parse(layout, stamp)
		if err != nil {
			continue
		}
		if zone := wordsEnd(s[end:], 1); zone == len(" UTC") {
			if word := string(s[end+1 : end+zone]); word == "UTC" || word == "GMT" {
				if !form.year {
					at = time.Time{}
				}
				return string(s[:end+zone]), at, end + zone
			}
		}
		return stamp, time.Time{}, end
	}
	return "", time.Time{}, 0
}

// wordsEnd is where the n-th word of s ends, which a space must follow, or -1. More than one space may stand between words.
func wordsEnd(s []byte, n int) int {
	i := 0
	for range n {
		for i < len(s) && s[i] == ' ' {
			i++
		}
		next := bytes.IndexByte(s[i:], ' ')
		if next <= 0 {
			return -1
		}
		i += next
	}
	return i
}
