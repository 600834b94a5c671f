package syslog_test

import (
	"fmt"
	"strings"

	"github.com/edr-bridge/edr-bridge/syslog"
)

func ExampleParse() {
	m, err := syslog.Parse([]byte("<134>Nov 20 10:00:00 gw-1 shield[811]: CEF:0|Acme|Shield|7.2|MAL-1|Malware found|8|dhost=ws-017"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(m.Facility, m.Severity, m.Host, m.App, m.ProcID, m.Stamp, m.Time.IsZero())
	fmt.Printf("%s\n", m.Text)
	// Output:
	// 16 6 gw-1 shield 811 Nov 20 10:00:00 true
	// CEF:0|Acme|Shield|7.2|MAL-1|Malware found|8|dhost=ws-017
}

func ExampleFrames() {
	for frame, err := range syslog.Frames(strings.NewReader("7 <13>one8 <13>t\nwo20 <13>cut"), syslog.MaxMessage) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%q\n", frame)
	}
	// Output:
	// "<13>one"
	// "<13>t\nwo"
	// broken frame: the stream ends inside a message
}
