package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/edr-bridge/edr-bridge/localagent"
	"github.com/edr-bridge/edr-bridge/peersocket"
)

// writeAgentStatus is the status for people: what works here, then what was done.
func writeAgentStatus(out io.Writer, st localagent.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, text string) { _, _ = fmt.Fprintf(w, "%s\t%s\n", name, printable(text)) }
	mode := "waits for orders"
	switch {
	case st.Resident:
	case !peersocket.TellsPeers:
		mode = "cannot be asked on this system (edr-bridge service status)"
	default:
		mode = "none runs"
	}
	if st.DryRun {
		mode += ", dry run"
	}
	line("agent", mode)
	for _, c := range st.Capabilities {
		word := "yes"
		if !c.OK {
			word = "no"
		}
		line(c.Name, word+": "+c.Detail)
	}
	switch s := st.Isolation; {
	case st.IsolationError != "":
		line("isolation", st.IsolationError)
	case !s.On:
		line("isolation", "off")
		for _, n := range s.Behind {
			line("", "still cut off: "+n)
		}
	default:
		until := "until it is released"
		if !s.Permanent {
			until = "until " + stamp(s.Until)
		}
		line("isolation", fmt.Sprintf("on, %s, by %s (order %s)", until, orDash(s.Who), orDash(s.OrderID)))
		if !s.Intact {
			line("", "NOT as it has to be: somebody changed its rules")
		}
		if !s.Owned {
			line("", "other programs can change its rules; a running agent puts them back")
		}
		line("", "still reached: "+strings.Join(s.Peers, ", "))
		for _, n := range s.Uncovered {
			line("", "not covered: "+n)
		}
		if s.Trouble != "" {
			line("", s.Trouble)
		}
	}
	line("blocks", fmt.Sprint(st.Blocks))
	p := st.Prevention
	text := fmt.Sprintf("%d rules, %s", p.Rules, p.Mode)
	if !p.Running {
		text += ", not watched"
	}
	if p.Disabled {
		text += ", switched off by the emergency switch"
	}
	if p.Breaker != "" {
		text += ", rules stopped: " + p.Breaker + " (edr-bridge agent resume)"
	}
	if p.LastError != "" {
		text += ", last error: " + p.LastError
	}
	if n := p.Dropped; n > 0 {
		text += fmt.Sprintf(", %d events untold", n)
	}
	if n := p.Timeouts + p.Busy; n > 0 {
		text += fmt.Sprintf(", %d executions let through because nobody knew in time", n)
	}
	line("prevention", text)
	for _, gap := range p.Gaps {
		line("", "not prevented: "+gap)
	}
	line("quarantine", fmt.Sprintf("%d files, %d MiB", st.QuarantineFiles, st.QuarantineBytes>>20))
	line("jobs", fmt.Sprintf("%d running of %d known", st.JobsRunning, st.Jobs))
	return w.Flush()
}
