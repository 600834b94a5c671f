package main

import (
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
	Count   int64         `json:"count,omitempty"`
	Detail  string        `json:"detail,omitempty"`
	Alert   string        `json:"alert_sha256,omitempty"`
	Payload string        `json:"payload_sha256,omitempty"`
	Hash    string        `json:"hash"`
}

func viewAudit(records []store.AuditRecord) []auditView {
	views := make([]auditView, 0, len(records))
	for _, r := range records {
		views = append(views, auditView{
			Seq: r.Seq, Time: stamp(r.Time), What: r.What, Order: r.Order, From: r.From, To: r.To, Reason: r.Reason, Rule: r.Rule,
			Task: r.Task, Host: r.Host, Source: r.Source, Actor: r.Actor, Count: r.Count, Detail: r.Detail,
			Alert: hex.EncodeToString(r.Alert), Payload: hex.EncodeToString(r.Payload), Hash: hex.EncodeToString(r.Hash[:]),
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
  edr-bridge audit verify --anchor 1841:5d2f…`,
	}
	cmd.AddCommand(a.auditShowCommand(), a.auditVerifyCommand())
	return cmd
}

func (a *app) auditShowCommand() *cobra.Command {
	var f store.AuditFilter
	var since time.Duration
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show audit records, oldest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if since > 0 {
				f.Since = time.Now().Add(-since)
			}
			st, done, err := a.openState(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			if f.Order != "" {
				o, err := st.Order(cmd.Context(), f.Order)
				if err != nil {
					return fail(exitNotFound, "order.not_found", err, "edr-bridge tasks list")
				}
				f.Order = o.ID
			}
			records, err := st.Audit(cmd.Context(), f)
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
	var anchor string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check the hash chain from the first record to the last",
		Long: `Check the hash chain from the first record to the last. An edited, deleted or reordered record is found and named.
A cut tail is only found with --anchor: the head that an earlier verify printed and that was kept elsewhere.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var known *store.Anchor
			if anchor != "" {
				parsed, err := parseAnchor(anchor)
				if err != nil {
					return err
				}
				known = &parsed
			}
			st, done, err := a.openState(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			report, err := st.VerifyAudit(cmd.Context(), known)
			if err != nil {
				return err
			}
			view := struct {
				OK       bool   `json:"ok"`
				Records  int64  `json:"records"`
				Head     string `json:"head"`
				FirstBad int64  `json:"first_bad,omitempty"`
				Problem  string `json:"problem,omitempty"`
			}{report.FirstBad == 0, report.Records, formatAnchor(report.Head), report.FirstBad, report.Problem}
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
		},
	}
	cmd.Flags().StringVar(&anchor, "anchor", "", "a head kept elsewhere, SEQ:HASH")
	return cmd
}

func formatAnchor(h store.Anchor) string { return fmt.Sprintf("%d:%x", h.Seq, h.Hash) }

func parseAnchor(s string) (store.Anchor, error) {
	seq, hash, ok := strings.Cut(s, ":")
	n, err := strconv.ParseInt(seq, 10, 64)
	raw, herr := hex.DecodeString(hash)
	var out store.Anchor
	if !ok || err != nil || herr != nil || len(raw) != len(out.Hash) || n < 1 {
		return out, usagef("--anchor %q: want SEQ:HASH as `audit verify` prints it", s)
	}
	out.Seq = n
	copy(out.Hash[:], raw)
	return out, nil
}
