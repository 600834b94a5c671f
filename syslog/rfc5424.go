package syslog

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/leodido/go-syslog/v4/rfc5424"
)

// read5424 reads the whole line by RFC 5424; rest is what follows the priority.
func (m *Message) read5424(line, rest []byte) error {
	version, rest, _ := bytes.Cut(rest, []byte{' '})
	if string(version) != "1" {
		return errors.New("version of RFC 5424 is not 1")
	}
	parsed, err := rfc5424.NewMachine().Parse(line)
	if err != nil {
		// Its errors say what was expected at which column, and quote the stamp at most.
		return fmt.Errorf("rfc 5424: %.200w", err)
	}
	p, ok := parsed.(*rfc5424.SyslogMessage)
	if !ok {
		return fmt.Errorf("rfc 5424: parser answers %T", parsed)
	}
	m.Host, m.App, m.ProcID, m.MsgID = text(p.Hostname), text(p.Appname), text(p.ProcID), text(p.MsgID)
	if p.Timestamp != nil {
		stamp, _, _ := bytes.Cut(rest, []byte{' '})
		m.Stamp, m.Time = string(stamp), p.Timestamp.UTC()
	}
	if p.Message != nil {
		m.Text = line[len(line)-len(*p.Message):]
	}
	if p.StructuredData != nil {
		m.Data = *p.StructuredData
		m.dropRepeated(rest)
	}
	return nil
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// dropRepeated takes the parameters out of m.Data that come several times in their element: go-syslog keeps the last value of
// each without a word. rest is a message go-syslog has accepted, from its stamp on.
func (m *Message) dropRepeated(rest []byte) {
	const fieldsBefore = 5 // stamp, host, app, procid, msgid
	for range fieldsBefore {
		_, rest, _ = bytes.Cut(rest, []byte{' '})
	}
	var element string
	var seen map[string]bool
	for len(rest) > 0 {
		switch rest[0] {
		case '[':
			end := bytes.IndexAny(rest, " ]")
			element, seen = string(rest[1:end]), map[string]bool{}
			rest = rest[end:]
		case ']':
			if len(rest) == 1 || rest[1] != '[' {
				return
			}
			rest = rest[1:]
		default: // a space, a name, ="value"
			is := bytes.IndexByte(rest, '=')
			name := string(rest[1:is])
			if seen[name] {
				delete(m.Data[element], name)
			}
			seen[name] = true
			rest = rest[is+2+quoted(rest[is+2:]):]
		}
	}
}

// quoted is how long a value is with the quote that ends it.
func quoted(s []byte) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(s)
}
