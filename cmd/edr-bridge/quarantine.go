package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/store"
	"github.com/edr-bridge/edr-bridge/localagent/vault"
)

func (a *app) quarantineCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "quarantine",
		Short: "Look at quarantined files, put them back, hand them out, drop them",
		Long: `The quarantine of this machine holds sealed copies: of quarantineFile, whose originals were taken away, and of getFile, whose originals
stayed. restore puts a file back with owner, mode, times and attributes and never overwrites anything. What people do here is recorded in
the audit chain.`,
		Example: `  edr-bridge quarantine list
  edr-bridge quarantine show 6f1c0d5a-…
  edr-bridge quarantine restore 6f1c0d5a-… --reason "false positive, INC-311"
  edr-bridge quarantine export 6f1c0d5a-… --form age --recipient age1… --out sample.age
  edr-bridge quarantine drop 6f1c0d5a-…`,
	}
	cmd.AddCommand(a.quarantineListCommand(), a.quarantineShowCommand(), a.quarantineRestoreCommand(), a.quarantineExportCommand(), a.quarantineDropCommand())
	return cmd
}

// vaultVerb opens the quarantine for a verb that only looks.
func (a *app) vaultVerb(ctx context.Context, do func(v *vault.Vault) error) error {
	return a.withVault(ctx, false, func(_ *vaultRecord, v *vault.Vault) error { return do(v) })
}

// vaultAct opens it for a verb that is recorded.
func (a *app) vaultAct(ctx context.Context, do func(r *vaultRecord, v *vault.Vault) error) error {
	return a.withVault(ctx, true, do)
}

func (a *app) withVault(ctx context.Context, acts bool, do func(r *vaultRecord, v *vault.Vault) error) error {
	w, err := a.open()
	if err != nil {
		return err
	}
	defer w.close()
	var r *vaultRecord
	if acts {
		if r, err = w.vaultRecord(ctx); err != nil {
			return err
		}
		defer r.close()
	}
	agent, err := w.openAgent()
	if err != nil {
		return err
	}
	return vaultProblem(do(r, agent.Vault()))
}

func vaultProblem(err error) error {
	if _, known := errors.AsType[*problem](err); err == nil || known {
		return err
	}
	switch {
	case errors.Is(err, vault.ErrNotFound):
		return fail(exitNotFound, "quarantine.id", err, "edr-bridge quarantine list")
	case errors.Is(err, fs.ErrPermission):
		return fail(exitFailed, "quarantine", err, "the quarantine belongs to root: sudo edr-bridge quarantine …")
	default:
		return fail(exitFailed, "quarantine", err, "")
	}
}

// oneItem returns the item whose id begins with the text.
func oneItem(ctx context.Context, v *vault.Vault, id string) (vault.Item, error) {
	items, err := v.List(ctx)
	found := slices.DeleteFunc(slices.Clone(items), func(it vault.Item) bool { return id == "" || !strings.HasPrefix(it.ID, id) })
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return vault.Item{}, fail(exitNotFound, "quarantine.id", fmt.Errorf("%d files have ids that begin with %s", len(found), printable(id)), "give more of the id")
	default:
		return vault.Item{}, errors.Join(fmt.Errorf("%s: %w", printable(id), vault.ErrNotFound), err)
	}
}

// damagedItem is oneItem for items that are in no list because nobody can read what they are; not is the answer when there is none.
func damagedItem(ctx context.Context, v *vault.Vault, id string, not error) (vault.Item, error) {
	ids, err := v.IDs(ctx)
	if err != nil {
		return vault.Item{}, err
	}
	ids = slices.DeleteFunc(ids, func(has string) bool { return id == "" || !strings.HasPrefix(has, id) })
	if len(ids) != 1 {
		return vault.Item{}, not
	}
	return vault.Item{ID: ids[0]}, nil
}

func (a *app) quarantineListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the files in the quarantine, oldest first",
		Example: "  edr-bridge quarantine list -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.vaultVerb(cmd.Context(), func(v *vault.Vault) error {
				if _, err := os.Stat(v.Dir()); errors.Is(err, fs.ErrNotExist) {
					return printResult(a, []vault.Item{}, vaultHeader(), vaultRow)
				}
				items, err := v.List(cmd.Context())
				if perr := printResult(a, items, vaultHeader(), vaultRow); perr != nil {
					return perr
				}
				return err
			})
		},
	}
}

func vaultHeader() []string { return []string{"ID", "TASK", "SEALED", "BYTES", "SHA256", "PATH"} }

func vaultRow(it vault.Item) []string {
	sum := it.SHA256
	if len(sum) > 12 {
		sum = sum[:12] + "…"
	}
	return []string{it.ID, string(it.Task), stamp(it.Sealed), strconv.FormatInt(it.Size, 10), sum, it.Path}
}

func (a *app) quarantineShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show all that is known of a file; the beginning of its id is enough", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.vaultVerb(cmd.Context(), func(v *vault.Vault) error {
				it, err := oneItem(cmd.Context(), v, args[0])
				if err != nil {
					return err
				}
				return printOne(a, it, func(out io.Writer) error { return writeItem(out, it) })
			})
		},
	}
}

func writeItem(out io.Writer, it vault.Item) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	stayed := "was taken away"
	if it.Task == bridge.KindGetFile {
		stayed = "stayed"
	}
	for _, row := range [][2]string{
		{"id", it.ID},
		{"path", it.Path},
		{"original", stayed},
		{"task", string(it.Task)},
		{"order", it.Order},
		{"sealed", stamp(it.Sealed)},
		{"bytes", strconv.FormatInt(it.Size, 10)},
		{"md5", it.MD5},
		{"sha256", it.SHA256},
		{"names", strconv.FormatUint(it.Links, 10)},
		{"not kept", strings.Join(it.Lost, "; ")},
		{"restored", stamp(it.Restored)},
		{"restored to", it.RestoredTo},
	} {
		if row[1] != "" {
			_, _ = fmt.Fprintf(w, "%s\t%s\n", row[0], printable(row[1]))
		}
	}
	return w.Flush()
}

func (a *app) quarantineRestoreCommand() *cobra.Command {
	var to, reason string
	cmd := &cobra.Command{
		Use:   "restore ID",
		Short: "Put a file back to where it was, or into another folder",
		Long:  "Put a file back with owner, mode, times and attributes. Nothing is ever overwritten, no folder is made, no link is followed. The copy stays in the quarantine.",
		Example: `  edr-bridge quarantine restore 6f1c0d5a --reason "false positive"
  edr-bridge quarantine restore 6f1c0d5a --to /srv/restored`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.vaultAct(cmd.Context(), func(r *vaultRecord, v *vault.Vault) error {
				it, err := oneItem(cmd.Context(), v, args[0])
				if err != nil {
					return err
				}
				if to != "" {
					if to, err = filepath.Abs(to); err != nil {
						return err
					}
				}
				return r.act(cmd.Context(), "restore", "restored", it, reason, func() (string, error) {
					done, err := v.Restore(cmd.Context(), it.ID, to)
					for _, m := range done.Missing {
						a.say("not given back: %s", printable(m))
					}
					if done.Path != "" {
						a.say("restored to %s", printable(done.Path))
					}
					return done.Path, err
				})
			})
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "the folder it goes to (default: where it was)")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit record")
	return cmd
}

func (a *app) quarantineExportCommand() *cobra.Command {
	var form, recipient, out, reason string
	cmd := &cobra.Command{
		Use:   "export ID",
		Short: "Write the content of a file for somebody who looks into it",
		Long: `Write the content of a file: encrypted to an age recipient (age-encryption.org), as a ZIP archive, or plain. A plain copy can be run
by accident; age is the form to send samples in.`,
		Example: `  edr-bridge quarantine export 6f1c0d5a --form age --recipient age1ql3z7hjy… --out sample.age
  edr-bridge quarantine export 6f1c0d5a --form zip --out sample.zip`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case !slices.Contains(vault.Forms(), vault.Form(form)):
				return usagef("--form %q: want age, zip or plain", form)
			case (form == string(vault.FormAge)) != (recipient != ""):
				return usagef("--recipient age1… belongs to --form age")
			case out == "":
				return usagef("--out FILE is required")
			}
			return a.vaultAct(cmd.Context(), func(r *vaultRecord, v *vault.Vault) error {
				it, err := oneItem(cmd.Context(), v, args[0])
				if err != nil {
					return err
				}
				return r.act(cmd.Context(), "export as "+form, "exported as "+form, it, reason, func() (string, error) {
					if err := exportTo(cmd.Context(), v, it.ID, vault.Form(form), recipient, out); err != nil {
						return "", err
					}
					a.say("written to %s", printable(out))
					return out, nil
				})
			})
		},
	}
	cmd.Flags().StringVar(&form, "form", string(vault.FormAge), "age, zip or plain")
	cmd.Flags().StringVar(&recipient, "recipient", "", "the age recipient that can open it (age1…)")
	cmd.Flags().StringVar(&out, "out", "", "the file to make; it must not exist")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit record")
	return cmd
}

// exportTo writes into a file of its own; what is not whole is removed.
func exportTo(ctx context.Context, v *vault.Vault, id string, form vault.Form, recipient, out string) error {
	f, err := os.OpenFile(out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // the user names the file
	if err != nil {
		return err
	}
	err = v.Export(ctx, id, form, recipient, f)
	if err == nil {
		err = f.Sync() // the copy in the quarantine may be dropped next
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return errors.Join(err, os.Remove(out))
	}
	return nil
}

func (a *app) quarantineDropCommand() *cobra.Command {
	var reason string
	var yes bool
	cmd := &cobra.Command{
		Use:     "drop ID",
		Short:   "Remove a copy for good",
		Long:    "Remove a copy for good, a damaged one too. There is no undo.",
		Example: `  edr-bridge quarantine drop 6f1c0d5a --reason "sent to the lab"`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.vaultAct(cmd.Context(), func(r *vaultRecord, v *vault.Vault) error {
				it, err := oneItem(cmd.Context(), v, args[0])
				if errors.Is(err, vault.ErrNotFound) {
					it, err = damagedItem(cmd.Context(), v, args[0], err)
				}
				if err != nil {
					return err
				}
				if err := a.goOn(yes, "drop "+it.ID+" ("+printable(it.Path)+") for good"); err != nil {
					return err
				}
				return r.act(cmd.Context(), "drop", "dropped", it, reason, func() (string, error) {
					if err := v.Drop(cmd.Context(), it.ID); err != nil {
						return "", err
					}
					a.say("dropped")
					return "", nil
				})
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit record")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// vaultRecord is where it stands what people do to quarantined files: the audit chain, or, where the store belongs to a bridge without
// rights, a log beside the quarantine.
type vaultRecord struct {
	write func(ctx context.Context, who, text string) error
	close func()
}

// vaultRecord opens the record, before anything is done: what could not be recorded is not done.
func (w *wiring) vaultRecord(ctx context.Context) (*vaultRecord, error) {
	if !w.set.Local.Separate {
		st, err := w.openStore(ctx, store.OwnerSend)
		if err != nil {
			return nil, err
		}
		return &vaultRecord{func(ctx context.Context, who, text string) error {
			return st.Note(ctx, bridge.Note{What: bridge.NoteQuarantine, Actor: who, Count: 1, Detail: text})
		}, func() {}}, nil
	}
	f, err := os.OpenFile(filepath.Join(w.set.Local.AgentState, "quarantine.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("nothing was done, because it could not be recorded: %w", err)
	}
	return &vaultRecord{func(_ context.Context, who, text string) error {
		_, err := f.WriteString(printable(time.Now().UTC().Format(time.RFC3339)+" "+who+" "+text) + "\n")
		return errors.Join(err, f.Sync())
	}, func() { _ = f.Close() }}, nil
}

// act records what is about to be done to an item, does it, and records how it went. do returns where the file is, when it went
// anywhere.
func (r *vaultRecord) act(ctx context.Context, verb, did string, it vault.Item, reason string, do func() (where string, err error)) error {
	who := actor()
	if reason != "" {
		why := []rune(reason)
		who += " (" + string(why[:min(len(why), maxReason)]) + ")"
	}
	of := it.ID + ", whose description cannot be read"
	if it.Path != "" {
		of = fmt.Sprintf("%s: %s, sha256 %s", it.ID, printable(it.Path), it.SHA256)
	}
	if err := r.write(ctx, who, "about to "+verb+" "+of); err != nil {
		return fmt.Errorf("nothing was done, because it could not be recorded: %w", err)
	}
	where, err := do()
	text := did + " " + of
	if where != "" {
		text += ", at " + printable(where)
	}
	switch {
	case err != nil && where == "":
		text = "not " + text + ": " + printable(err.Error())
	case err != nil:
		text += ": " + printable(err.Error())
	}
	// Although somebody may have lost patience by now.
	return errors.Join(err, r.write(context.WithoutCancel(ctx), who, text))
}
