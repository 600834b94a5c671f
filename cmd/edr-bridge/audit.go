package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/store"
)

// auditView is an audit record as the command line shows it.
type auditView struct {
	Seq     int64         `json:"seq"`
	Time    string        `json:"time"`
	What    string        `json:"what"`
	Order   string        `json:"order,omitempty"`
	From    bridge.State  `json:"from,omitempty"`
	To      bridge.State  `json:"to,omitempty"`
	Reason  bridge.Reason `json:"reason,omitempty"`
	Rule    string        `json:"rule,omitempty"`
	Task    bridge.Kind   `json:"task,omitempty"`
	Host    string        `json:"host,omitempty"`
	Source  string        `json:"source,omitempty"`
	Actor   string        `json:"actor,omitempty"`
	Decided string        `json:"approver,omitempty"`
	Count   int64         `json:"count,omitempty"`
	Sent    int           `json:"attempts,omitempty"`
	Ref     string        `json:"ref,omitempty"`
	Detail  string        `json:"detail,omitempty"`
	Alert   string        `json:"alert_sha256,omitempty"`
	Payload string        `json:"payload_sha256,omitempty"`
	Policy  string        `json:"policy,omitempty"`
	Keyed   bool          `json:"keyed,omitempty"`
	Hash    string        `json:"hash"`
}

func viewAudit(records []bridge.AuditRecord) []auditView {
	views := make([]auditView, 0, len(records))
	for _, r := range records {
		views = append(views, auditView{
			Seq: r.Seq, Time: stamp(r.Time), What: r.What, Order: r.Order, From: r.From, To: r.To, Reason: r.Reason, Rule: r.Rule,
			Task: r.Task, Host: r.Host, Source: r.Source, Actor: r.Actor, Decided: r.Approver, Count: r.Count, Sent: r.Attempts, Ref: r.Ref, Detail: r.Detail,
			Alert: hex.EncodeToString(r.Alert), Payload: hex.EncodeToString(r.Payload), Policy: hex.EncodeToString(r.Policy), Keyed: r.Keyed, Hash: hex.EncodeToString(r.Hash[:]),
		})
	}
	return views
}

// words tells a record in one line.
func (v auditView) words() string {
	var parts []string
	add := func(s string) {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if v.Order == "" {
		add(v.What)
	} else {
		if v.From != "" {
			add(string(v.From) + " →")
		}
		add(string(v.To))
	}
	if v.Reason != "" {
		add("(" + string(v.Reason) + ")")
	}
	if v.Count > 0 {
		add(strconv.FormatInt(v.Count, 10))
	}
	add(v.Source)
	add(v.Detail)
	return strings.Join(parts, " ")
}

func (a *app) auditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Read and verify the audit chain",
		Example: `  # what happened to a host, to an order
  edr-bridge audit show --host WS-014
  edr-bridge audit show --order o4f0c

  # is the chain whole, and does it still hold the head noted last week
  edr-bridge audit verify
  edr-bridge audit verify --anchor 1841:5d2f…

  # for the SIEM, or to keep elsewhere
  edr-bridge audit export --format ocsf
  edr-bridge audit export > audit.jsonl`,
	}
	cmd.AddCommand(a.auditShowCommand(), a.auditVerifyCommand(), a.auditExportCommand(), a.auditArchiveCommand(), a.auditSetAsideCommand())
	return cmd
}

func (a *app) auditShowCommand() *cobra.Command {
	var f bridge.AuditFilter
	var since time.Duration
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show audit records, oldest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if since > 0 {
				f.Since = time.Now().Add(-since)
			}
			d, done, err := a.lookDesk(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			if f.Order != "" {
				o, err := d.Order(cmd.Context(), f.Order)
				if err != nil {
					return deskError(err, "order", "edr-bridge tasks list")
				}
				f.Order = o.ID
			}
			records, err := d.Audit(cmd.Context(), f)
			if err != nil {
				return err
			}
			return printResult(a, viewAudit(records), []string{"SEQ", "TIME", "ORDER", "TASK", "HOST", "BY", "WHAT"}, func(v auditView) []string {
				by := v.Rule
				if by == "" {
					by = v.Actor
				}
				return []string{strconv.FormatInt(v.Seq, 10), v.Time, v.Order, string(v.Task), v.Host, by, v.words()}
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.Order, "order", "", "only records of this order (a unique beginning of its id is enough)")
	fl.StringVar(&f.Host, "host", "", "only records about this host, as it was named")
	fl.DurationVar(&since, "since", 0, "only records of the last while, such as 24h")
	fl.Int64Var(&f.After, "after", 0, "only records after this sequence number")
	fl.IntVar(&f.Limit, "limit", 1000, "at most so many, up to 10000")
	return cmd
}

func (a *app) auditVerifyCommand() *cobra.Command {
	var anchor, file string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check the hash chain from the first record to the last",
		Long: `Check the hash chain from the first record to the last. An edited, deleted or reordered record is found and named.
A cut tail is only found with an anchor: those of audit.anchor_file are checked by themselves, --anchor takes another one, such as one
from the log or the head that an earlier verify printed. --file verifies an export or an archive instead of the store.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, err := a.open()
			if err != nil {
				return err
			}
			defer w.close()
			w.look = true
			var anchors []bridge.Anchor
			if anchor != "" {
				known, err := store.ParseAnchor(anchor)
				if err != nil {
					return usagef("--anchor %q: want SEQ:HASH as `audit verify` prints it", anchor)
				}
				anchors = append(anchors, known)
			}
			report, err := w.verifyAudit(cmd.Context(), file, anchors)
			if err != nil {
				return err
			}
			return a.reportAudit(report)
		},
	}
	cmd.Flags().StringVar(&anchor, "anchor", "", "a head kept elsewhere, SEQ:HASH")
	cmd.Flags().StringVar(&file, "file", "", "an export or archive to verify instead of the store")
	return cmd
}

// verifyAudit checks a file, or the store against every anchor at hand.
func (w *wiring) verifyAudit(ctx context.Context, file string, anchors []bridge.Anchor) (bridge.AuditReport, error) {
	if file != "" {
		return w.verifyFile(ctx, file, anchors)
	}
	kept, err := w.knownAnchors()
	if err != nil {
		return bridge.AuditReport{}, fmt.Errorf("audit.anchor_file: %w", err)
	}
	anchors = append(kept, anchors...)
	d, err := w.desk(ctx)
	if err != nil {
		return bridge.AuditReport{}, err
	}
	if st, direct := d.(*desk); direct {
		return st.VerifyAnchors(ctx, anchors)
	}
	return verifyOverSocket(ctx, d, anchors)
}

// verifyOverSocket has the running bridge read its chain, once; the anchors are compared with the records they name. Only one
// that does not fit leads to a second pass, which says what is wrong.
func verifyOverSocket(ctx context.Context, d bridge.Desk, anchors []bridge.Anchor) (bridge.AuditReport, error) {
	report, err := d.VerifyAudit(ctx, nil)
	if err != nil || report.FirstBad > 0 {
		return report, err
	}
	for _, known := range anchors {
		if known.Seq < report.First-1 {
			continue // in the archive
		}
		records, err := d.Audit(ctx, bridge.AuditFilter{After: known.Seq - 1, Limit: 1})
		if err != nil {
			return report, err
		}
		if len(records) == 1 && records[0].Seq == known.Seq && records[0].Hash == known.Hash {
			continue
		}
		if again, err := d.VerifyAudit(ctx, &known); err != nil || again.FirstBad > 0 {
			return again, err
		}
	}
	return report, nil
}

func (a *app) reportAudit(report bridge.AuditReport) error {
	view := struct {
		OK       bool   `json:"ok"`
		First    int64  `json:"first,omitempty"`
		Records  int64  `json:"records"`
		Head     string `json:"head"`
		FirstBad int64  `json:"first_bad,omitempty"`
		Problem  string `json:"problem,omitempty"`
	}{report.FirstBad == 0, report.First, report.Records, formatAnchor(report.Head), report.FirstBad, report.Problem}
	if err := printOne(a, view, func(w io.Writer) error {
		if view.OK {
			_, err := fmt.Fprintf(w, "ok: %d records, head %s\n", view.Records, view.Head)
			return err
		}
		_, err := fmt.Fprintf(w, "bad: record %d: %s (%d good records before it, head %s)\n", view.FirstBad, view.Problem, report.Head.Seq, view.Head)
		return err
	}); err != nil {
		return err
	}
	if !view.OK {
		return &problem{exit: exitFailed, code: "audit.broken", err: errors.New(view.Problem), quiet: true}
	}
	return nil
}
