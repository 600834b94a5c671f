package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/ocsf"
	"github.com/edr-bridge/edr-bridge/bridge/store"
	"github.com/edr-bridge/edr-bridge/configs"
)

// The formats of audit export.
const (
	formatJSONL = "jsonl"
	formatOCSF  = "ocsf"
)

func (a *app) auditExportCommand() *cobra.Command {
	var format string
	var after int64
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the audit chain to stdout, one JSON object a line",
		Long: `Write the audit chain to stdout, one JSON object a line. jsonl holds every record with its hash and can be verified without
the store: audit verify --file. ocsf holds one OCSF remediation event for each outcome of an order, for a SIEM.`,
		Example: `  edr-bridge audit export > audit.jsonl
  edr-bridge audit verify --file audit.jsonl

  # what came since the last time
  edr-bridge audit export --format ocsf --after 1841`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != formatJSONL && format != formatOCSF {
				return usagef("--format %q: want jsonl or ocsf", format)
			}
			d, done, err := a.lookDesk(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			out := bufio.NewWriter(a.std.out)
			err = exportAudit(cmd.Context(), d, after, func(r bridge.AuditRecord) error {
				line, err := exportLine(cmd.Context(), d, format, r)
				if err != nil || line == nil {
					return err
				}
				_, err = jsonWriter{out}.Write(append(line, '\n'))
				return err
			})
			if ferr := out.Flush(); err == nil {
				err = ferr
			}
			return err
		},
	}
	cmd.Flags().StringVar(&format, "format", formatJSONL, "jsonl or ocsf")
	cmd.Flags().Int64Var(&after, "after", 0, "only records after this sequence number")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{formatJSONL, formatOCSF}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// exportAudit walks the chain page by page, over the socket or in the store.
func exportAudit(ctx context.Context, d bridge.Desk, after int64, each func(bridge.AuditRecord) error) error {
	for {
		page, err := d.Audit(ctx, bridge.AuditFilter{After: after, Limit: pageSize})
		for _, r := range page {
			if err := each(r); err != nil {
				return err
			}
			after = r.Seq
		}
		if err != nil || len(page) == 0 {
			return err
		}
	}
}

// exportLine is nil for a record that the format has no event for.
func exportLine(ctx context.Context, d bridge.Desk, format string, r bridge.AuditRecord) ([]byte, error) {
	if format == formatJSONL {
		return store.EncodeRecord(r)
	}
	event, ok := ocsf.Event(r, version())
	if !ok {
		return nil, nil
	}
	// The record alone does not tell file, process, or whether an isolation begins; an order that is archived by now stays untold.
	if o, err := d.Order(ctx, r.Order); err == nil {
		event, _ = ocsf.EventOf(r, o, version())
	}
	return json.Marshal(event)
}

func (a *app) auditArchiveCommand() *cobra.Command {
	var before string
	cmd := &cobra.Command{
		Use:   "archive",
		Short: "Move old audit records, with their orders and documents, to a compressed file",
		Long: `Move audit records that are older than --before, with their orders and documents, to a compressed file in audit.archive. The
file is verified before anything is deleted, and the chain goes on from its last record. A running bridge does this by itself every day with
audit.keep.`,
		Example: `  edr-bridge audit archive --before 720h
  edr-bridge audit verify --file /var/lib/edr-bridge/archive/audit-….jsonl.gz`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			age, err := time.ParseDuration(before)
			if err != nil || age < 0 {
				return usagef("--before %q: want an age such as 720h", before)
			}
			w, err := a.open()
			if err != nil {
				return err
			}
			defer w.close()
			st, err := w.openStore(cmd.Context(), store.OwnerSend)
			if err != nil {
				return err
			}
			report, err := st.Archive(cmd.Context(), time.Now().Add(-age), w.set.Audit.Archive)
			if err != nil {
				return err
			}
			view := struct {
				Path    string `json:"path,omitempty"`
				Records int64  `json:"records"`
				Orders  int64  `json:"orders"`
			}{report.File, report.Records, report.Orders}
			return printOne(a, view, func(out io.Writer) error {
				if view.Records == 0 {
					_, err := fmt.Fprintln(out, "nothing is that old")
					return err
				}
				_, err := fmt.Fprintf(out, "%s: %d records, %d orders\n", view.Path, view.Records, view.Orders)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&before, "before", "", "move what is older than this, such as 720h (required)")
	return cmd
}

func (a *app) auditSetAsideCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "set-aside",
		Short: "Put a damaged store out of the way and start with an empty one",
		Long: `Rename a damaged store, so that the bridge can start with an empty one; the file is kept for the audit. The new store remembers
nothing: orders that were open may be sent a second time if their alerts come again, and isolations that it knew are not released
by themselves. Look at both before you start the bridge: edr-bridge active, edr-bridge tasks list --state sending.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			w, err := a.open()
			if err != nil {
				return err
			}
			defer w.close()
			moved, err := store.SetAside(w.set.Local.State, time.Now())
			switch {
			case errors.Is(err, store.ErrLocked):
				return fail(exitConfig, "state.locked", err, "stop the bridge first")
			case errors.Is(err, fs.ErrNotExist):
				return fail(exitNotFound, "state.none", errors.New("there is no store in "+w.set.Local.State), "")
			case err != nil:
				return err
			}
			view := struct {
				Moved   string `json:"moved"`
				Anchors string `json:"anchors,omitempty"`
			}{moved, a.moveAnchors(w.set, moved)}
			return printOne(a, view, func(out io.Writer) error {
				_, err := fmt.Fprintf(out, "kept as %s\n", view.Moved)
				if err == nil && view.Anchors != "" {
					_, err = fmt.Fprintf(out, "its anchors as %s\n", view.Anchors)
				}
				return err
			})
		},
	}
}

// moveAnchors renames the anchor file as the store was: the chain of the next store begins anew, and the old anchors would
// say for ever that it was cut. It returns the new path, empty when there is none.
func (a *app) moveAnchors(set *configs.Settings, moved string) string {
	path := set.Audit.AnchorFile
	if path == "" {
		return ""
	}
	to := path + strings.TrimPrefix(moved, filepath.Join(set.Local.State, store.FileName))
	_, err := os.Lstat(to)
	if err == nil {
		err = fs.ErrExist
	} else if errors.Is(err, fs.ErrNotExist) {
		err = os.Rename(path, to)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ""
	case err != nil:
		a.say("the anchors of the old chain are still in %s, move them away or audit verify misses their records: %v", path, err)
		return ""
	}
	return to
}

// verifyFile verifies an export or archive without the store.
func (w *wiring) verifyFile(ctx context.Context, path string, anchors []bridge.Anchor) (bridge.AuditReport, error) {
	file, err := os.Open(path) //nolint:gosec // the user names the file
	if err != nil {
		return bridge.AuditReport{}, usagef("--file: %w", err)
	}
	defer func() { _ = file.Close() }()
	var key []byte
	ask, err := w.secret(w.set.Audit.Key)
	if err != nil {
		return bridge.AuditReport{}, err
	}
	if ask != nil {
		if key, err = ask(ctx); err != nil {
			return bridge.AuditReport{}, err
		}
	}
	return store.VerifyExport(file, key, anchors)
}

// formatAnchor is the form of an anchor in log, file and stream.
func formatAnchor(h bridge.Anchor) string {
	return fmt.Sprintf("%d:%s", h.Seq, hex.EncodeToString(h.Hash[:]))
}
