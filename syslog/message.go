package syslog

import (
	"bytes"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// MaxMessage is the size of the longest message that is read, in bytes.
const MaxMessage = 64 << 10

// absent is the facility and severity of a message that does not tell them.
const absent = -1

// Message is one syslog message. What its header does not tell is empty, also where it says "-".
type Message struct {
	// Facility is 0 to 23, Severity 0 (emergency) to 7 (debug); both are -1 when the message has no priority.
	Facility, Severity int
	// Time is when the sender says the message was made (UTC); zero when there is no stamp or one without zone or year.
	Time time.Time
	// Stamp is the time as it stands in the header, without a year in RFC 3164: "Nov 20 10:00:00".
	Stamp string
	// Host is the sender's name or address as it writes it, App its program; ProcID is mostly a process id.
	Host, App, ProcID string
	// MsgID is the kind of message, of RFC 5424 only.
	MsgID string
	// Data is the structured data of RFC 5424 by element and parameter, nil when there is none. The format lets a parameter come
	// several times in an element (ip= of origin); it is left out then, because it has no single value.
	Data map[string]map[string]string
	// Text is what is said, without a byte order mark at its beginning. It shares the memory of the line.
	Text []byte
}

// Parse reads one message without its framing; a line break, NUL, or both at its end are not part of it. A message is read by RFC 5424
// when a number and a space follow its priority; that part is read strictly. Everything else is read by RFC 3164 as it is
// written in the field: the stamp may be one of ISO 8601 or hold a year, host and tag may be missing, and after a priority
// anything that is no header is text. Without a priority a line must begin with a stamp or with "CEF:".
// Parse refuses messages longer than MaxMessage, that are not UTF-8, or hold a NUL. Errors do not quote the message's text.
func Parse(line []byte) (Message, error) {
	m := Message{Facility: absent, Severity: absent}
	line = trimEnd(line)
	if err := check(line); err != nil {
		return Message{}, fmt.Errorf("syslog: %w", err)
	}
	rest, err := m.readPriority(line)
	if err != nil {
		return Message{}, fmt.Errorf("syslog: %w", err)
	}
	if m.Severity != absent && hasVersion(rest) {
		err = m.read5424(line, rest)
	} else {
		err = m.read3164(rest)
	}
	if err != nil {
		return Message{}, fmt.Errorf("syslog: %w", err)
	}
	m.Text = bytes.TrimPrefix(m.Text, []byte("\ufeff"))
	return m, nil
}

// trimEnd takes off the trailers senders leave inside an octet-counted frame.
func trimEnd(line []byte) []byte {
	line = bytes.TrimSuffix(line, []byte{0})
	line = bytes.TrimSuffix(line, []byte{'\n'})
	return bytes.TrimSuffix(line, []byte{'\r'})
}

func check(line []byte) error {
	switch {
	case len(line) == 0:
		return errors.New("message is empty")
	case len(line) > MaxMessage:
		return fmt.Errorf("message has %d bytes, at most %d are read", len(line), MaxMessage)
	case bytes.IndexByte(line, 0) >= 0:
		return errors.New("message holds a NUL")
	case !utf8.Valid(line):
		return errors.New("message is not UTF-8")
	default:
		return nil
	}
}

// readPriority reads "<134>" and returns what follows; a line that does not begin with "<" has none.
func (m *Message) readPriority(line []byte) ([]byte, error) {
	if line[0] != '<' {
		return line, nil
	}
	const longest = 3
	pri, digits := 0, 0
	for digits < longest && 1+digits < len(line) && isDigit(line[1+digits]) {
		pri = 10*pri + int(line[1+digits]-'0')
		digits++
	}
	end := 1 + digits
	if digits == 0 || end == len(line) || line[end] != '>' || pri > 191 || digits > 1 && line[1] == '0' {
		return nil, errors.New("priority is not a number from 0 to 191 in angle brackets")
	}
	m.Facility, m.Severity = pri/8, pri%8
	return line[end+1:], nil
}

// hasVersion reports whether rest begins with the version of RFC 5424, one to three digits and a space.
func hasVersion(rest []byte) bool {
	n := 0
	for n < 3 && n < len(rest) && isDigit(rest[n]) {
		n++
	}
	return n > 0 && n < len(rest) && rest[n] == ' ' && rest[0] != '0'
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
