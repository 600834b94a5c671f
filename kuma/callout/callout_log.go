package callout

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	calloutJournal    = "/run/systemd/journal/socket"
	calloutSyslog     = "/dev/log"
	calloutIdentifier = "edr-bridge"
	calloutInfo       = 6 // severities of RFC 5424
	calloutWarning    = 4
	calloutDaemon     = 3 // facility of RFC 5424
	calloutMaxLine    = 2 << 10
)

// calloutSockets are where the line of a call goes: to the first that takes it.
func calloutSockets() []string { return []string{calloutJournal, calloutSyslog} }

// calloutLog leaves one line about the call in the journal, or in syslog where there is no journal. It never waits, and nobody
// learns when it fails.
func calloutLog(sockets []string, c callout) {
	for i, path := range sockets {
		datagram := c.journal()
		if i > 0 {
			datagram = c.syslog(time.Now())
		}
		if calloutSend(path, datagram) {
			return
		}
	}
}

// message is the call in one line, without characters a terminal would obey. Its parts hold none but for what an event brought.
func (c callout) message() string {
	host := c.Host
	if host == "" {
		host = "-"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "call %s %s: %s exit=%d", c.Task, host, c.State, c.exit)
	for _, part := range [][2]string{{"call", c.Call}, {"order", c.Order}, {"covered_by", c.CoveredBy}, {"reason", c.Reason}} {
		if part[1] != "" {
			b.WriteString(" " + part[0] + "=" + part[1])
		}
	}
	if c.Detail != "" {
		b.WriteString(": " + c.Detail)
	}
	return calloutLine(b.String())
}

// calloutLine keeps a text in one bounded line, whatever is in it.
func calloutLine(text string) string {
	text = text[:min(len(text), calloutMaxLine)]
	for len(text) > 0 {
		if r, size := utf8.DecodeLastRuneInString(text); r != utf8.RuneError || size != 1 {
			break
		}
		text = text[:len(text)-1] // a rune that was cut
	}
	return strings.Map(func(r rune) rune {
		if argsDeceptive(r) {
			return utf8.RuneError
		}
		return r
	}, text)
}

func (c callout) severity() int {
	if c.exit == calloutDone {
		return calloutInfo
	}
	return calloutWarning
}

// journal is the native form of the journal, a field a line (systemd.io/JOURNAL_NATIVE_PROTOCOL). No value holds a line end.
func (c callout) journal() []byte {
	var b strings.Builder
	for _, field := range [][2]string{
		{"MESSAGE", c.message()},
		{"PRIORITY", fmt.Sprint(c.severity())},
		{"SYSLOG_FACILITY", fmt.Sprint(calloutDaemon)},
		{"SYSLOG_IDENTIFIER", calloutIdentifier},
		{"EDR_BRIDGE_TASK", c.Task},
		{"EDR_BRIDGE_HOST", c.Host},
		{"EDR_BRIDGE_STATE", c.State},
		{"EDR_BRIDGE_CALL", c.Call},
		{"EDR_BRIDGE_ORDER", c.Order},
		{"EDR_BRIDGE_REASON", c.Reason},
	} {
		if field[1] != "" {
			b.WriteString(field[0] + "=" + calloutLine(field[1]) + "\n")
		}
	}
	return []byte(b.String())
}

// syslog is the form /dev/log takes (RFC 3164).
func (c callout) syslog(now time.Time) []byte {
	return fmt.Appendf(nil, "<%d>%s %s: %s", calloutDaemon*8+c.severity(), now.Format(time.Stamp), calloutIdentifier, c.message())
}
