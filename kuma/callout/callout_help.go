package callout

import (
	"fmt"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// calloutHelp is what a script name prints for --help: the options of its task, and the lines to paste in KUMA.
func calloutHelp(task bridge.Kind) string {
	script, info := ScriptName(task), bridge.Describe(task)
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\nUsage: %s --targetHost HOST [options]\n       %s --event-id ID --timestamp MS [options]\n\n",
		script, info.Summary, script, script)
	b.WriteString("Options (one or two dashes, --k v or --k=v, any case):\n")
	row := func(option, meaning string) { fmt.Fprintf(&b, "  %s\n      %s\n", option, meaning) }
	row("--targetHost HOST", "the endpoint: name, FQDN, address or GUID in KSC; also --host (required without --event-id)")
	for _, p := range info.Params {
		row(calloutOption(p), calloutMeaning(p))
	}
	switch task {
	case bridge.KindIOCScan:
		row("--ioc-base64 TEXT", "the archive itself instead of its path")
	case bridge.KindGetFile, bridge.KindDeleteFile, bridge.KindQuarantineFile, bridge.KindTerminateProcess:
		row("--hash DIGEST", "MD5 or SHA-256, told apart by label and length")
	case bridge.KindIsolateHost:
		row("--for SPAN", "how long, such as 4h, or permanent; default: leases.default of the settings")
	default:
	}
	row("--event-id ID", "the bridge fetches the event from KUMA and takes host, path and digests from it; with --timestamp")
	row("--timestamp MS", "when the event was, in milliseconds since 1970: too old events are refused")
	row("--reason TEXT", "why, for the audit record")
	row(`--fields A,B --values "X | Y"`, "more about the event, for people")
	b.WriteString("\nScript arguments in KUMA, recommended:\n  " + ScriptArguments(task, true) +
		"\nor with the values in the line:\n  " + ScriptArguments(task, false) + "\n")
	b.WriteString("\nThe whole rule: edr-bridge kuma rule " + string(task) + "\n\nOne JSON line on stdout. Exit codes:\n")
	for _, c := range ScriptExits() {
		fmt.Fprintf(&b, "  %3d  %s\n", c.Code, c.Meaning)
	}
	return b.String()
}

func calloutOption(p bridge.ParamInfo) string {
	switch p.Type {
	case "bool":
		return "--" + p.Name + " [true|false]"
	case "base64":
		return "--" + p.Name + " FILE"
	default:
		return "--" + p.Name + " " + strings.NewReplacer(" OR ", "|", " ", "_").Replace(strings.ToUpper(p.Type))
	}
}

func calloutMeaning(p bridge.ParamInfo) string {
	meaning := p.Meaning
	if p.Type == "base64" {
		meaning = "absolute path of a ZIP archive of OpenIOC files (.ioc, .xml) on the correlator's server"
	}
	if p.Required {
		meaning += " (required)"
	}
	return meaning
}
