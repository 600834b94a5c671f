package ksctest

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// number reads a signed decimal or 0xHEX.
func (p *filterParser) number() (int64, error) {
	p.space()
	start := p.pos
	if c := p.peek(); c == '+' || c == '-' {
		p.pos++
	}
	for p.pos < len(p.text) && isNameByte(p.text[p.pos]) {
		p.pos++
	}
	word := p.text[start:p.pos]
	if hex, ok := strings.CutPrefix(strings.ToLower(word), "0x"); ok {
		if n, err := strconv.ParseInt(hex, 16, 64); err == nil {
			return n, nil
		}
	} else if n, err := strconv.ParseInt(word, 10, 64); err == nil {
		return n, nil
	}
	return 0, &filterError{start, "integer expected"}
}

// quoted reads "…"; a quote inside is doubled.
func (p *filterParser) quoted() (string, error) {
	p.space()
	if !p.take('"') {
		return "", p.fail("quoted string expected")
	}
	var b strings.Builder
	for {
		end := strings.IndexByte(p.text[p.pos:], '"')
		if end < 0 {
			return "", p.fail("string has no end")
		}
		b.WriteString(p.text[p.pos : p.pos+end])
		p.pos += end + 1
		if p.peek() != '"' {
			return b.String(), nil
		}
		b.WriteByte('"')
		p.pos++
	}
}

// time reads T"YYYY-MM-DD hh:mm:ss", CURTIME or CURTIME(±seconds), all UTC.
func (p *filterParser) time() (time.Time, error) {
	p.space()
	start := p.pos
	if rest := p.text[p.pos:]; strings.HasPrefix(rest, "CURTIME") {
		p.pos += len("CURTIME")
		at := p.pos
		if p.space(); p.peek() != '(' {
			p.pos = at
			return p.now, nil
		}
		p.pos++
		if p.take(')') {
			return p.now, nil
		}
		n, err := p.number()
		if err != nil {
			return time.Time{}, err
		}
		if n > math.MaxInt32 || n < math.MinInt32 || !p.take(')') {
			return time.Time{}, &filterError{start, "CURTIME(seconds) expected"}
		}
		return p.now.Add(time.Duration(n) * time.Second), nil
	}
	if strings.HasPrefix(p.text[p.pos:], `T"`) {
		p.pos++
		s, err := p.quoted()
		if err != nil {
			return time.Time{}, err
		}
		if len(s) == len(time.DateTime) && s[10] == ' ' {
			if t, ok := parseWireTime([]byte(s[:10] + "T" + s[11:] + "Z")); ok {
				return t, nil
			}
		}
	}
	return time.Time{}, &filterError{start, `T"YYYY-MM-DD hh:mm:ss" or CURTIME expected`}
}
