package syslog

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseReadsTheFormsSendersWrite(t *testing.T) {
	t.Parallel()
	const cef = `CEF:0|Acme|Shield|1.0|100|Name|5|dhost=ws-017 msg=a: b`
	at := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	micro := at.Add(123456 * time.Microsecond)
	for _, c := range []struct {
		name, line string
		want       Message
	}{
		{
			"RFC 5424, everything", `<134>1 2026-11-20T13:00:00.123456+03:00 gw-1.corp shield 811 MAL [a@1 k="v" e=""][b p="x\]\"\\y"] ` + cef,
			Message{
				16, 6, micro, "2026-11-20T13:00:00.123456+03:00", "gw-1.corp", "shield", "811", "MAL",
				map[string]map[string]string{"a@1": {"k": "v", "e": ""}, "b": {"p": `x]"\y`}},
				[]byte(cef),
			},
		},
		{"RFC 5424, nothing", `<0>1 - - - - - -`, Message{Facility: 0, Severity: 0}},
		{"RFC 5424, a byte order mark", "<13>1 - h - - - - \ufeffпривет", Message{Facility: 1, Severity: 5, Host: "h", Text: []byte("привет")}},
		{"RFC 5424, a text of several lines", "<13>1 - h - - - - one\ntwo\r\n", Message{Facility: 1, Severity: 5, Host: "h", Text: []byte("one\ntwo")}},
		{
			"RFC 5424, a parameter given twice", `<13>1 - h - - - [origin ip="10.0.0.1" software="x" ip="10.0.0.2" ip="10.0.0.3"][o2 ip="\] ip=\""] t`,
			Message{Facility: 1, Severity: 5, Host: "h", Data: map[string]map[string]string{"origin": {"software": "x"}, "o2": {"ip": `] ip="`}}, Text: []byte("t")},
		},
		{
			"RFC 3164, tag and process id", `<134>Nov 20 10:00:00 gw-1 shield[811]: ` + cef,
			Message{Facility: 16, Severity: 6, Stamp: "Nov 20 10:00:00", Host: "gw-1", App: "shield", ProcID: "811", Text: []byte(cef)},
		},
		{"RFC 3164, CEF without a tag", `<134>Nov  5 10:00:00 gw-1 ` + cef, Message{Facility: 16, Severity: 6, Stamp: "Nov  5 10:00:00", Host: "gw-1", Text: []byte(cef)}},
		{"RFC 3164, CEF without a host", `<134>Nov 5 10:00:00 ` + cef, Message{Facility: 16, Severity: 6, Stamp: "Nov 5 10:00:00", Text: []byte(cef)}},
		{"RFC 3164, a tag without a host", `<38>Nov 20 10:00:00 sshd[7]: Accepted key`, Message{Facility: 4, Severity: 6, Stamp: "Nov 20 10:00:00", App: "sshd", ProcID: "7", Text: []byte("Accepted key")}},
		{"RFC 3164, a text without a tag", `<38>Nov 20 10:00:00 gw-1 link is down`, Message{Facility: 4, Severity: 6, Stamp: "Nov 20 10:00:00", Host: "gw-1", Text: []byte("link is down")}},
		{"RFC 3164, JSON behind the host", `<38>Nov 20 10:00:00 gw-1 {"a": "b: c"}`, Message{Facility: 4, Severity: 6, Stamp: "Nov 20 10:00:00", Host: "gw-1", Text: []byte(`{"a": "b: c"}`)}},
		{"RFC 3164, JSON without a host", `<38>Nov 20 10:00:00 {"a": "b: c"}`, Message{Facility: 4, Severity: 6, Stamp: "Nov 20 10:00:00", Text: []byte(`{"a": "b: c"}`)}},
		{"RFC 3164, an address for a host", `<38>Nov 20 10:00:00 2001:db8::7 app: x`, Message{Facility: 4, Severity: 6, Stamp: "Nov 20 10:00:00", Host: "2001:db8::7", App: "app", Text: []byte("x")}},
		{"RFC 3164, no host by name", `<38>Nov 20 10:00:00 - app: x`, Message{Facility: 4, Severity: 6, Stamp: "Nov 20 10:00:00", App: "app", Text: []byte("x")}},
		{"RFC 3164, a space after the priority", `<38> Nov 20 10:00:00 h app: x`, Message{Facility: 4, Severity: 6, Stamp: "Nov 20 10:00:00", Host: "h", App: "app", Text: []byte("x")}},
		{"RFC 3164, an empty text", `<38>Nov 20 10:00:00 h app:`, Message{Facility: 4, Severity: 6, Stamp: "Nov 20 10:00:00", Host: "h", App: "app"}},
		{"a stamp with fraction", `<38>Nov 20 10:00:00.250 h app: x`, Message{Facility: 4, Severity: 6, Stamp: "Nov 20 10:00:00.250", Host: "h", App: "app", Text: []byte("x")}},
		{"a stamp with year", `<38>Nov 20 2026 10:00:00 h app: x`, Message{Facility: 4, Severity: 6, Stamp: "Nov 20 2026 10:00:00", Host: "h", App: "app", Text: []byte("x")}},
		{"a stamp with year and UTC", `<38>Nov 20 2026 10:00:00 UTC h app: x`, Message{Facility: 4, Severity: 6, Time: at, Stamp: "Nov 20 2026 10:00:00 UTC", Host: "h", App: "app", Text: []byte("x")}},
		{"a stamp with UTC and no year", `<38>Nov 20 10:00:00 GMT h app: x`, Message{Facility: 4, Severity: 6, Stamp: "Nov 20 10:00:00 GMT", Host: "h", App: "app", Text: []byte("x")}},
		{"an ISO 8601 stamp of rsyslog", `<134>2026-11-20T13:00:00.123456+03:00 gw-1 shield: ` + cef, Message{Facility: 16, Severity: 6, Time: micro, Stamp: "2026-11-20T13:00:00.123456+03:00", Host: "gw-1", App: "shield", Text: []byte(cef)}},
		{"an ISO 8601 stamp of ArcSight", `<134>2026-11-20T10:00:00Z gw-1 ` + cef, Message{Facility: 16, Severity: 6, Time: at, Stamp: "2026-11-20T10:00:00Z", Host: "gw-1", Text: []byte(cef)}},
		{"a zone without colon", `<134>2026-11-20T13:00:00+0300 gw-1 ` + cef, Message{Facility: 16, Severity: 6, Time: at, Stamp: "2026-11-20T13:00:00+0300", Host: "gw-1", Text: []byte(cef)}},
		{"an ISO 8601 stamp without zone", `<134>2026-11-20T13:00:00.5 gw-1 ` + cef, Message{Facility: 16, Severity: 6, Stamp: "2026-11-20T13:00:00.5", Host: "gw-1", Text: []byte(cef)}},
		{"CEF without any header", cef + "\r\n", Message{Facility: -1, Severity: -1, Text: []byte(cef)}},
		{"CEF with nothing but a priority", `<134>` + cef + "\x00", Message{Facility: 16, Severity: 6, Text: []byte(cef)}},
		{"a header without priority", `Nov 20 10:00:00 gw-1 ` + cef, Message{Facility: -1, Severity: -1, Stamp: "Nov 20 10:00:00", Host: "gw-1", Text: []byte(cef)}},
		{"a priority and a text", `<191>link: down`, Message{Facility: 23, Severity: 7, Text: []byte("link: down")}},
		{"a priority and JSON", `<0>{"a":1}`, Message{Facility: 0, Severity: 0, Text: []byte(`{"a":1}`)}},
		{"a day that does not exist", `<13>Nov 31 10:00:00 h x: y`, Message{Facility: 1, Severity: 5, Text: []byte("Nov 31 10:00:00 h x: y")}},
		{"a tab and an escape in a text", "<13>Nov 20 10:00:00 h a\tb\x1b", Message{Facility: 1, Severity: 5, Stamp: "Nov 20 10:00:00", Host: "h", Text: []byte("a\tb\x1b")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse([]byte(c.line))
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Text) == 0 {
				got.Text = nil
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("Parse (-want +got):\n%s", d)
			}
			if !got.Time.IsZero() && got.Time.Location() != time.UTC {
				t.Errorf("time is of zone %s, want UTC", got.Time.Location())
			}
		})
	}
}

func TestParseRefusesWhatIsNoMessage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, line, want string }{
		{"nothing", "", "empty"},
		{"a lone trailer", "\r\n\x00", "empty"},
		{"a text alone", "hello", "neither a priority"},
		{"JSON alone", `{"a":1}`, "neither a priority"},
		{"a priority over 191", "<192>x", "priority"},
		{"a priority with a zero in front", "<034>x", "priority"},
		{"a priority of four digits", "<1000>x", "priority"},
		{"no digits", "<>x", "priority"},
		{"a minus", "<-1>x", "priority"},
		{"a priority without end", "<13", "priority"},
		{"a NUL inside", "<13>a\x00b", "NUL"},
		{"bytes that are not UTF-8", "<13>\xff", "UTF-8"},
		{"too long", "<13>" + strings.Repeat("x", MaxMessage-3), "at most 65536"},
		{"RFC 5424 of another version", "<13>2 - - - - - -", "version"},
		{"RFC 5424 without structured data", "<13>1 - - - - - text", "rfc 5424"},
		{"RFC 5424 with a stamp of RFC 3164", "<13>1 Nov 20 10:00:00 h a - - - x", "rfc 5424"},
		{"RFC 5424 with a day that does not exist", "<13>1 2026-11-31T10:00:00Z h a - - - x", "rfc 5424"},
		{"an element given twice", `<13>1 - h a - - [x k="1"][x k="2"] t`, "duplicate"},
		{"a backslash nobody escaped in structured data", `<13>1 - h a - - [x path="C:\Temp"] t`, "escaped"},
		{"structured data without end", `<13>1 - h a - - [x k="1" t`, "rfc 5424"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse([]byte(c.line))
			if err == nil {
				t.Fatalf("Parse returned %.200v, want an error", got)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %q, want %q in it", err, c.want)
			}
			if len(err.Error()) > 300 {
				t.Errorf("error has %d bytes: it quotes too much", len(err.Error()))
			}
		})
	}
	if _, err := Parse([]byte("<13>" + strings.Repeat("x", MaxMessage-4) + "\n")); err != nil {
		t.Errorf("a message of the largest size is refused: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, line := range []string{
		`<134>1 2026-11-20T10:00:00.003Z gw-1 shield 811 MAL [origin ip="10.0.0.7" ip="::1"][b p="x\]\"\\y"] CEF:0|a|b|c|d|e|f|`,
		"<0>1 - - - - - -", "<134>Nov 20 10:00:00 gw-1 shield[811]: CEF:0|a|b|c|d|e|f|", "<38>2026-11-20T13:00:00.5+0300 h app: x",
		"Nov  5 2026 10:00:00 UTC h CEF:0|a|b|c|d|e|f|k=v", "CEF:0|a|b|c|d|e|f|", `<13>{"a":1}`, "<13>1 - h - - - [a@1] \ufefftext",
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := Parse(line)
		if err != nil {
			if len(err.Error()) > 400 {
				t.Fatalf("error has %d bytes", len(err.Error()))
			}
			return
		}
		switch {
		case m.Facility < -1 || m.Facility > 23 || m.Severity < -1 || m.Severity > 7 || (m.Facility < 0) != (m.Severity < 0):
			t.Fatalf("facility %d, severity %d", m.Facility, m.Severity)
		case !m.Time.IsZero() && m.Stamp == "":
			t.Fatalf("time %s comes from no stamp", m.Time)
		case len(m.Text) > len(line) || !strings.HasSuffix(string(trimEnd(line)), string(m.Text)):
			t.Fatalf("text %q is not the end of the line %q", m.Text, line)
		case strings.Contains(m.Stamp+m.Host+m.App+m.ProcID+m.MsgID+string(m.Text), "\x00"):
			t.Fatalf("a NUL came through: %+v", m)
		}
	})
}
