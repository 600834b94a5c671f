package localagent

import (
	"context"
	"encoding/base64"
	"fmt"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/ioc"
	"github.com/edr-bridge/edr-bridge/localagent/jobs"
	"github.com/edr-bridge/edr-bridge/localagent/scan"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

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
		f := &aftermath{a: a, o: o, found: scanned{Scan: &result}}
		if a.cfg.QuarantineFindings && context.Cause(ctx) == nil {
			f.quarantineFindings(ctx, &result)
		}
		return f.end(scanText(&result, err), err)
	}
}

// scanText says what a scan saw; empty when it failed before it saw anything.
func scanText(r *scan.Result, err error) string {
	if err != nil && r.Found == 0 {
		return ""
	}
	return r.String()
}

func scanProgress(p scan.Progress) string {
	of := ""
	if p.Expected > 0 {
		of = fmt.Sprintf(" of about %d", p.Expected)
	}
	return fmt.Sprintf("%d%s files looked at, %d MiB, %d findings", p.Done, of, p.Bytes>>20, p.Findings)
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
		f := &aftermath{a: a, o: o, found: scanned{IOC: &result}}
		if err != nil {
			return "", f.found, verdict.Of(err).Err
		}
		if len(result.Matches) > 0 {
			f.followUp(ctx, t, &result, tell)
		}
		return f.end(iocText(&result), result.Unseen())
	}
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
	if len(r.Undecided) > 0 {
		text += fmt.Sprintf("; %d documents had more combinations of terms than can be tried, and may match", len(r.Undecided))
	}
	if r.Stopped != "" {
		text += "; not everything was looked at: " + r.Stopped
	}
	var left []string
	for _, s := range r.Skipped {
		left = append(left, fmt.Sprintf("%s (%d)", s.Why, s.Count))
	}
	if len(left) > 0 {
		text += "; left out: " + verdict.List(left)
	}
	return text
}
