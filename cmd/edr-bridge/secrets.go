package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/edr-bridge/edr-bridge/configs/secrets"
)

const maxSecretInput = 16 << 10 // bytes

func (a *app) secretsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "secrets",
		Short: "Keep passwords in the keyring",
		Long: `Keep passwords in the back-end that settings name under secrets.backend. A systemd credential of the same name (slashes as
dashes: ksc-password) outranks it. Values are read from the terminal or with --stdin, never from the command line.`,
		Example: `  edr-bridge secrets set ksc/password
  pass show ksc | edr-bridge secrets set ksc/password --stdin
  edr-bridge secrets test ksc/password`,
	}
	var stdin bool
	set := &cobra.Command{
		Use:   "set NAME",
		Short: "Store a secret, asking for it on the terminal",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withSecret(args[0], func(st *secrets.Store, ref secrets.Ref) error {
				value, err := a.readSecret(stdin)
				if err != nil {
					return err
				}
				defer value.Zero()
				if err := st.Set(cmd.Context(), ref, value); err != nil {
					return err
				}
				a.say("stored %s", ref)
				return nil
			})
		},
	}
	set.Flags().BoolVar(&stdin, "stdin", false, "read the value from standard input; one final newline is dropped")
	cmd.AddCommand(set,
		&cobra.Command{
			Use: "list", Short: "List the names of the stored secrets", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return a.withSecret("", func(st *secrets.Store, _ secrets.Ref) error {
					refs, err := st.List(cmd.Context())
					if err != nil {
						return err
					}
					type row struct {
						Name string `json:"name"`
					}
					rows := make([]row, 0, len(refs))
					for _, r := range refs {
						rows = append(rows, row{r.String()})
					}
					return printResult(a, rows, []string{"NAME"}, func(r row) []string { return []string{r.Name} })
				})
			},
		},
		&cobra.Command{
			Use: "test [NAME]", Short: "Say which back-end answers, with NAME whether it holds the secret", Args: cobra.MaximumNArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				name := ""
				if len(args) == 1 {
					name = args[0]
				}
				return a.withSecret(name, func(st *secrets.Store, ref secrets.Ref) error { return a.testSecret(cmd.Context(), st, ref) })
			},
		},
		&cobra.Command{
			Use: "delete NAME", Short: "Delete a secret", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return a.withSecret(args[0], func(st *secrets.Store, ref secrets.Ref) error {
					if err := st.Delete(cmd.Context(), ref); err != nil {
						return err
					}
					a.say("deleted %s", ref)
					return nil
				})
			},
		})
	return cmd
}

// withSecret opens the secrets for one verb and gives every failure the exit code for credentials.
func (a *app) withSecret(name string, do func(*secrets.Store, secrets.Ref) error) error {
	var ref secrets.Ref
	if name != "" {
		var err error
		if ref, err = secrets.NewRef(name); err != nil {
			return usagef("%w", err)
		}
	}
	w, err := a.open()
	if err != nil {
		return err
	}
	defer w.close()
	st, err := w.openSecrets()
	if err != nil {
		return err
	}
	err = do(st, ref)
	if _, ok := errors.AsType[*secrets.Error](err); ok {
		return fail(exitCredentials, "credentials", err, "")
	}
	return err
}

func (a *app) testSecret(ctx context.Context, st *secrets.Store, ref secrets.Ref) error {
	view := struct {
		Name    string `json:"name,omitempty"`
		Backend string `json:"backend"`
	}{}
	if ref == "" {
		backend, err := st.Test(ctx)
		if err != nil {
			return err
		}
		view.Backend = string(backend)
	} else {
		where, err := st.Where(ctx, ref)
		if err != nil {
			return err
		}
		view.Name, view.Backend = ref.String(), where
	}
	return printOne(a, view, func(w io.Writer) error {
		text := "ok: " + view.Backend + " answers"
		if view.Name != "" {
			text = "ok: " + view.Name + " is held by " + view.Backend
		}
		_, err := fmt.Fprintln(w, text)
		return err
	})
}

// readSecret asks on the terminal without echo, or reads standard input to its end.
func (a *app) readSecret(stdin bool) (secrets.Secret, error) {
	var data []byte
	var err error
	switch {
	case stdin:
		data, err = io.ReadAll(io.LimitReader(a.std.in, maxSecretInput+1))
		if err == nil && len(data) > maxSecretInput {
			err = usagef("the value is longer than %d bytes", maxSecretInput)
		}
		data = bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	case a.noInput || !isTerminal(a.std.in):
		return secrets.Secret{}, usagef("%w: give the value with --stdin", errNoTerminal)
	default:
		data, err = a.ask("Value: ")
	}
	if err != nil {
		return secrets.Secret{}, err
	}
	if len(data) == 0 {
		return secrets.Secret{}, usagef("the value is empty")
	}
	return secrets.NewSecret(data), nil // which owns data: the caller overwrites it with Zero
}

func (a *app) ask(prompt string) ([]byte, error) {
	in, ok := a.std.in.(*os.File)
	if !ok {
		return nil, errNoTerminal
	}
	_, _ = fmt.Fprint(a.std.err, prompt)
	data, err := term.ReadPassword(int(in.Fd()))
	_, _ = fmt.Fprintln(a.std.err)
	return data, err
}

// askPassphrase returns how to ask a person for the passphrase of the file back-end, nil when nobody is there.
func (a *app) askPassphrase() func(context.Context) ([]byte, error) {
	if a.noInput || !isTerminal(a.std.in) {
		return nil
	}
	return func(context.Context) ([]byte, error) { return a.ask("Passphrase of the secrets file: ") }
}

func yamlToJSON(text []byte) ([]byte, error) {
	doc, err := yaml.YAMLToJSON(text)
	if err != nil {
		return nil, fmt.Errorf("encode settings: %w", err)
	}
	return doc, nil
}
