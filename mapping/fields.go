package mapping

import (
	"net/netip"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// kind is the shape of an alert field.
type kind int

const (
	kindText    kind = iota + 1 // any text without NUL
	kindID                      // a short text without control characters
	kindLevel                   // LOW, MEDIUM, HIGH or CRITICAL
	kindTime                    // a moment
	kindPID                     // a process id
	kindTicks                   // a count of clock ticks
	kindMD5                     // 32 hex digits
	kindSHA256                  // 64 hex digits
	kindAddress                 // an IP address
	kindRaw                     // whatever the document holds
)

// field is one fact of an alert, as presets write it and rules read it.
type field struct {
	name string
	kind kind
	// text is where texts, levels and digests stand; addr where addresses stand; nil for the other kinds.
	text func(*bridge.Alert) *string
	addr func(*bridge.Alert) *netip.Addr
}

// The places of fields that code refers to by position.
const (
	fieldID = iota
	fieldSource
	fieldPreset
	fieldTime
	fieldPID
	fieldStart
	fieldCount = 26
)

// alertFields is the vocabulary of rules.
var alertFields = [fieldCount]field{
	fieldID:     {name: "id", kind: kindID, text: func(a *bridge.Alert) *string { return &a.ID }},
	fieldSource: {name: "source", kind: kindText, text: func(a *bridge.Alert) *string { return &a.Source }},
	fieldPreset: {name: "preset", kind: kindText, text: func(a *bridge.Alert) *string { return &a.Preset }},
	fieldTime:   {name: "time", kind: kindTime},
	fieldPID:    {name: "process.pid", kind: kindPID},
	fieldStart:  {name: "process.start", kind: kindTicks},

	{name: "level", kind: kindLevel, text: func(a *bridge.Alert) *string { return &a.Level }},
	{name: "title", kind: kindText, text: func(a *bridge.Alert) *string { return &a.Title }},
	{name: "description", kind: kindText, text: func(a *bridge.Alert) *string { return &a.Description }},
	{name: "details", kind: kindText, text: func(a *bridge.Alert) *string { return &a.Details }},
	{name: "host", kind: kindText, text: func(a *bridge.Alert) *string { return &a.Host }},
	{name: "user", kind: kindText, text: func(a *bridge.Alert) *string { return &a.User }},
	{name: "tenant", kind: kindID, text: func(a *bridge.Alert) *string { return &a.Tenant }},
	{name: "case", kind: kindID, text: func(a *bridge.Alert) *string { return &a.Case }},

	{name: "process.name", kind: kindText, text: func(a *bridge.Alert) *string { return &a.Process.Name }},
	{name: "process.path", kind: kindText, text: func(a *bridge.Alert) *string { return &a.Process.Path }},
	{name: "process.md5", kind: kindMD5, text: func(a *bridge.Alert) *string { return &a.Process.MD5 }},
	{name: "process.sha256", kind: kindSHA256, text: func(a *bridge.Alert) *string { return &a.Process.SHA256 }},
	{name: "process.command_line", kind: kindText, text: func(a *bridge.Alert) *string { return &a.Process.CommandLine }},
	{name: "process.parent.name", kind: kindText, text: func(a *bridge.Alert) *string { return &a.Process.ParentName }},
	{name: "process.parent.path", kind: kindText, text: func(a *bridge.Alert) *string { return &a.Process.ParentPath }},
	{name: "file.path", kind: kindText, text: func(a *bridge.Alert) *string { return &a.File.Path }},
	{name: "file.md5", kind: kindMD5, text: func(a *bridge.Alert) *string { return &a.File.MD5 }},
	{name: "file.sha256", kind: kindSHA256, text: func(a *bridge.Alert) *string { return &a.File.SHA256 }},

	{name: "source_ip", kind: kindAddress, addr: func(a *bridge.Alert) *netip.Addr { return &a.SourceAddress }},
	{name: "destination_ip", kind: kindAddress, addr: func(a *bridge.Alert) *netip.Addr { return &a.DestinationAddress }},
}

// ref names a fact: a field of the alert or, with raw set, a place in its document.
type ref struct {
	raw   bool
	index int
}

// fact is a ref with the name and kind of what it refers to.
type fact struct {
	name string
	ref  ref
	kind kind
}

const (
	rawPrefix   = "raw."
	alertPrefix = "alert."
	maxRawPath  = 200 // characters
	maxRawDepth = 16  // segments
	rawAdvice   = "write raw.<name>, dots between the names of nested objects"
)

// fieldNamed returns the position of the alert field with that name, or -1.
func fieldNamed(name string) int {
	for i := range alertFields {
		if alertFields[i].name == name {
			return i
		}
	}
	return -1
}

func fieldNames() []string {
	names := make([]string, 0, fieldCount)
	for i := range alertFields {
		names = append(names, alertFields[i].name)
	}
	return names
}

// isRawPath reports whether the part behind "raw." can name a place in a document.
func isRawPath(path string) bool {
	if path == "" || len(path) > maxRawPath || strings.Count(path, ".") >= maxRawDepth {
		return false
	}
	for seg := range strings.SplitSeq(path, ".") {
		if seg == "" || strings.ContainsAny(seg, "|$?{}\" \t\r\n\x00") {
			return false
		}
	}
	return true
}
