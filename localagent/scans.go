package localagent

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/ioc"
	"github.com/edr-bridge/edr-bridge/localagent/jobs"
	"github.com/edr-bridge/edr-bridge/localagent/scan"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// scanned is what a scan leaves in its job.
type scanned struct {
	Scan *scan.Result `json:"scan,omitempty"`
	IOC  *ioc.Result  `json:"ioc,omitempty"`
	// Followed says what was done about what was found.
	Followed []string `json:"followed,omitempty"`
}

// onDemandScan looks for malware in the objects of the task.
func (a *Agent) onDemandScan(ctx context.Context, o bridge.Order, t bridge.OnDemandScan) (bridge.Receipt, error) {
	if err := t.Validate(); err != nil {
		return bridge.Receipt{}, verdict.Refuse(bridge.ReasonInvalid, "%w", err)
	}
	if a.cfg.DryRun {
		return verdict.DryRun(fmt.Sprintf("would have scanned %d objects", len(t.Objects))), nil
	}
	return a.long(ctx, o, a.scanWork(o, t))
}

func (a *Agent) scanWork(o bridge.Order, t bridge.OnDemandScan) jobs.Work {
	return func(ctx context.Context, tell func(string)) (string, any, error) {
		result, err := a.scans.Scan(ctx, t.Objects, func(p scan.Progress) { tell(scanProgress(p)) })
		found := scanned{Scan: &result}
		if err != nil {
			return "", found, errors.Join(verdict.Of(err).Err, nothing(result))
		}
		text := result.String()
		if a.cfg.QuarantineFindings {
			found.Followed = a.quarantineFindings(ctx, o, result.Findings)
		}
		if len(found.Followed) > 0 {
			text += " " + strings.Join(shortened(found.Followed), "; ") + "."
		}
		return text, found, nil
	}
}

// nothing says how far a scan that failed had come; nil when it had not begun.
func nothing(r scan.Result) error {
	if r.Found == 0 {
		return nil
	}
	return errors.New(r.String())
}

func scanProgress(p scan.Progress) string {
	of := ""
	if p.Expected > 0 {
		of = fmt.Sprintf(" of about %d", p.Expected)
	}
	return fmt.Sprintf("%d%s files looked at, %d MiB, %d findings", p.Done, of, p.Bytes>>20, p.Findings)
}

// quarantineFindings takes away what was found, and says what became of each.
func (a *Agent) quarantineFindings(ctx context.Context, o bridge.Order, findings []scan.Finding) []string {
	if n := len(findings); n > a.cfg.MaxTargets {
		return []string{a.tooMany(n)}
	}
	var said []string
	for _, f := range findings {
		switch {
		case f.Kind != scan.KindFile:
			said = append(said, fmt.Sprintf("%s is no file that can be taken away", verdict.Shown(f.Path)))
		case f.Protected != "":
			said = append(said, fmt.Sprintf("%s is left alone: %s", verdict.Shown(f.Path), f.Protected))
		default:
			said = append(said, a.takeAway(ctx, o, f.Path, f.SHA256))
		}
	}
	return said
}

// tooMany says that a list is longer than one order may act on: a signature that hits that much is a mistake, or for people to look at.
func (a *Agent) tooMany(n int) string {
	return fmt.Sprintf("%d files would be taken away, one order may take %d (max_targets): all are left alone", n, a.cfg.MaxTargets)
}

// takeAway quarantines a file a scan found, by the digest the scan saw.
func (a *Agent) takeAway(ctx context.Context, o bridge.Order, path, sha256 string) string {
	if sha256 == "" {
		return verdict.Shown(path) + " is left alone: its digest is not known"
	}
	order := o
	order.Task = bridge.QuarantineFile{Path: path, SHA256: sha256}
	if reason, why := a.follows(order); reason != bridge.ReasonNone {
		return verdict.Shown(path) + " is left alone: " + why
	}
	r, err := a.vault.QuarantineFile(ctx, o.ID, bridge.QuarantineFile{Path: path, SHA256: sha256})
	switch {
	case err == nil:
		return r.Detail
	case verdict.Of(err).Class == bridge.Unknown:
		return verdict.Shown(path) + " may have been taken away: " + err.Error()
	default:
		return verdict.Shown(path) + " is left alone: " + err.Error()
	}
}

// iocScan looks for indicators of compromise, and does what the task asks for when there are some.
func (a *Agent) iocScan(ctx context.Context, o bridge.Order, t bridge.IOCScan) (bridge.Receipt, error) {
	archive, err := base64.StdEncoding.Strict().DecodeString(t.IOC)
	if err != nil || t.IOC == "" {
		return bridge.Receipt{}, verdict.Refuse(bridge.ReasonInvalid, "params.ioc: is not the base64 of a ZIP archive")
	}
	docs, err := ioc.Read(archive, ioc.Limits{})
	if err != nil {
		return bridge.Receipt{}, err
	}
	query, report := ioc.Compile(docs)
	if a.cfg.DryRun {
		return verdict.DryRun(fmt.Sprintf("would have looked for %d documents with %d terms", report.Documents, report.Terms)), nil
	}
	return a.long(ctx, o, a.iocWork(o, t, query))
}

func (a *Agent) iocWork(o bridge.Order, t bridge.IOCScan, query *ioc.Query) jobs.Work {
	return func(ctx context.Context, tell func(string)) (string, any, error) {
		cfg := a.cfg.IOC
		cfg.Now = a.cfg.Now
		cfg.Exclude = append(append([]string(nil), cfg.Exclude...), a.vault.Dir())
		result, err := ioc.Scan(ctx, query, cfg, func(p ioc.Progress) { tell(iocProgress(p)) })
		found := scanned{IOC: &result}
		if err != nil {
			return "", found, verdict.Of(err).Err
		}
		if len(result.Matches) > 0 {
			found.Followed = a.followUp(ctx, o, t, &result, tell)
		}
		text := iocText(&result)
		if len(found.Followed) > 0 {
			text += "; " + strings.Join(shortened(found.Followed), "; ")
		}
		return text, found, nil
	}
}

// followUp does what the task asks for when something was found: first the network, because what follows takes time.
func (a *Agent) followUp(ctx context.Context, o bridge.Order, t bridge.IOCScan, found *ioc.Result, tell func(string)) []string {
	var said []string
	if t.IsolateHost {
		said = append(said, a.isolateAfter(ctx, o))
		tell(said[0]) // if the agent ends before the scan does, this is what is known
	}
	if t.QuarantineObject {
		if n := len(found.Files); n > a.cfg.MaxTargets {
			said = append(said, a.tooMany(n))
		} else {
			for _, f := range found.Files {
				said = append(said, a.takeAway(ctx, o, string(f.Path), f.SHA256))
			}
		}
		for _, m := range found.Matches {
			if m.More > 0 {
				said = append(said, fmt.Sprintf("%s matches %d more objects than are listed: they are left alone", m.Name, m.More))
			}
		}
	}
	if t.ScanCriticalAreas {
		areas := []bridge.ScanObject{
			{Enabled: true, Type: bridge.ScanSystemMemory},
			{Enabled: true, Type: bridge.ScanStartupAndProcesses},
			{Enabled: true, Type: bridge.ScanDiskBootSectors},
		}
		result, err := a.scans.Scan(ctx, areas, func(p scan.Progress) { tell("critical areas: " + scanProgress(p)) })
		text := result.String()
		if err != nil {
			text = err.Error()
		}
		said = append(said, "critical areas: "+text)
	}
	return said
}

// isolateAfter isolates this machine because of what was found. The order it belongs to is the scan's.
func (a *Agent) isolateAfter(ctx context.Context, o bridge.Order) string {
	order := o
	order.Task, order.For = bridge.IsolateHost{Action: bridge.IsolationOn}, 0
	if reason, why := a.follows(order); reason != bridge.ReasonNone {
		return "not isolated: " + why
	}
	r, err := a.isolate(ctx, order, bridge.IsolateHost{Action: bridge.IsolationOn})
	if err != nil {
		return "not isolated: " + err.Error()
	}
	return r.Detail
}

// followedShown is how many sentences about what followed stand in a receipt; all of them are in the job.
const followedShown = 16

func shortened(said []string) []string {
	if len(said) <= followedShown {
		return said
	}
	return append(slices.Clone(said[:followedShown]), fmt.Sprintf("and %d more (edr-bridge agent jobs ORDER)", len(said)-followedShown))
}

func iocProgress(p ioc.Progress) string {
	return fmt.Sprintf("%s: %d objects looked at, %d files, %d MiB hashed", p.Kind, p.Objects, p.Counts.Files, p.Counts.Bytes>>20)
}

func iocText(r *ioc.Result) string {
	var names []string
	for _, m := range r.Matches {
		names = append(names, verdict.Shown(string(m.Name)))
	}
	text := fmt.Sprintf("%d of %d documents match", len(r.Matches), r.Report.Documents)
	if len(names) > 0 {
		text += ": " + verdict.List(names)
	}
	text += fmt.Sprintf("; %d files looked at, %d hashed", r.Counts.Files, r.Counts.Hashed)
	if n := r.Report.UnsupportedTotal; n > 0 {
		text += fmt.Sprintf("; %d terms mean nothing on this system and match nothing", n)
	}
	if r.Stopped != "" {
		text += "; not everything was looked at: " + r.Stopped
	}
	return text
}
