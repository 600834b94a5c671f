package syslog

import (
	"bytes"
	"errors"
	"net/netip"
)

const (
	maxHost = 255
	// maxTag is longer than the 32 of RFC 3164: devices with longer ones are known.
	maxTag = 64

	cefPrefix = "CEF:"
)

// read3164 reads what follows the priority, or the whole line where there is none. go-syslog is not asked here: it makes a time of
// the year 0 of a stamp, refuses fractions of a second in ISO 8601 stamps and whatever is not printable in a text, and takes the
// first key of a JSON text for a tag.
func (m *Message) read3164(rest []byte) error {
	for len(rest) > 0 && rest[0] == ' ' && m.Severity != absent {
		rest = rest[1:] // some senders put a space after the priority
	}
	if bytes.HasPrefix(rest, []byte(cefPrefix)) {
		m.Text = rest
		return nil
	}
	stamp, at, size := readStamp(rest)
	if size == 0 {
		if m.Severity == absent {
			return errors.New(`message has neither a priority, nor a stamp, nor "CEF:" at its beginning`)
		}
		m.Text = rest // RFC 3164 §4.3.2: what has no header is all text
		return nil
	}
	m.Stamp, m.Time = stamp, at
	m.readHost(bytes.TrimLeft(rest[size:], " "))
	return nil
}

// readHost reads "host tag[id]: text". A first word that is a tag itself means that the host is missing.
func (m *Message) readHost(rest []byte) {
	if m.readTag(rest) {
		return
	}
	word, after, spaced := bytes.Cut(rest, []byte{' '})
	if !spaced || !isHost(word) {
		m.Text = rest
		return
	}
	m.Host = string(word)
	if m.Host == "-" {
		m.Host = ""
	}
	if after = bytes.TrimLeft(after, " "); !m.readTag(after) {
		m.Text = after
	}
}

// readTag reads "tag: text" and "tag[id]: text", and leaves the text of a line that has no tag but begins with "CEF:". Where neither is
// there it reads nothing and answers false.
func (m *Message) readTag(rest []byte) bool {
	if bytes.HasPrefix(rest, []byte(cefPrefix)) {
		m.Text = rest
		return true
	}
	n := 0
	for n < len(rest) && n <= maxTag && isTagByte(rest[n]) {
		n++
	}
	if n == 0 || n > maxTag || n == len(rest) {
		return false
	}
	tag, after, id := rest[:n], rest[n:], []byte(nil)
	if after[0] == '[' {
		end := bytes.IndexByte(after, ']')
		if end < 0 || end > maxTag || bytes.IndexByte(after[:end], ' ') >= 0 {
			return false
		}
		id, after = after[1:end], after[end+1:]
	}
	if len(after) == 0 || after[0] != ':' || len(after) > 1 && after[1] != ' ' {
		return false
	}
	m.App, m.ProcID = string(tag), string(id)
	m.Text = bytes.TrimPrefix(after[1:], []byte{' '})
	return true
}

// isTagByte leaves out what begins a text: quotes, braces and the like.
func isTagByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || isDigit(c) || bytes.IndexByte([]byte("-_./%$@+#()"), c) >= 0
}

// isHost reports whether word may be a host: "-", a name, or an address.
func isHost(word []byte) bool {
	if len(word) == 0 || len(word) > maxHost {
		return false
	}
	if bytes.IndexByte(word, ':') >= 0 {
		_, err := netip.ParseAddr(string(word))
		return err == nil
	}
	for _, c := range word {
		if c < 0x80 && (c <= ' ' || c == 0x7f || bytes.IndexByte([]byte(`"'{}[]()<>=|,;\`), c) >= 0) {
			return false
		}
	}
	return true
}
