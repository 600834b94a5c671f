package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/edr-bridge/edr-bridge/configs"
	"github.com/edr-bridge/edr-bridge/mapping"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check and show the settings",
		Example: `  edr-bridge config check -c edr-bridge.yaml
  edr-bridge config show --resolved
  edr-bridge config schema > edr-bridge.schema.json`,
	}
	cmd.AddCommand(a.configCheckCommand(), a.configShowCommand(), a.configSchemaCommand())
	return cmd
}

func (a *app) configCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Check the settings and the rules; nothing is dialled",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, err := a.open()
			if err != nil {
				return err
			}
			defer w.close()
			if _, err := w.openGuard(); err != nil {
				return err
			}
			if _, _, err := w.router(); err != nil {
				return err
			}
			if _, err := w.openFeeds(cmd.Context()); err != nil {
				return err
			}
			m, err := w.openMapping(cmd.Context())
			if err != nil {
				return err
			}
			view := struct {
				File    string `json:"file"`
				Mode    string `json:"mode"`
				Sources int    `json:"sources"`
				Rules   int    `json:"rules"`
				KSC     string `json:"ksc,omitempty"`
				Local   bool   `json:"local"`
				State   string `json:"state"`
			}{File: w.set.File(), Mode: string(w.set.Mode), Sources: len(w.set.Sources), Rules: len(m.Rules()), Local: w.set.Local.Enabled, State: w.set.Local.State}
			var servers []string
			for _, k := range w.set.Servers() {
				servers = append(servers, k.Address)
			}
			view.KSC = strings.Join(servers, ", ")
			if w.set.File() == "" {
				a.say("no settings file was found: these are the defaults")
			}
			return printOne(a, view, func(out io.Writer) error {
				_, err := fmt.Fprintf(out, "ok: %s: mode %s, %d sources, %d rules, ksc %q, local agent %s, state %s\n",
					orDash(view.File), view.Mode, view.Sources, view.Rules, view.KSC, yesNo(view.Local), view.State)
				return err
			})
		},
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (a *app) configShowCommand() *cobra.Command {
	var resolved bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show the settings in effect, defaults and environment included; secrets stay references",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			w, err := a.open()
			if err != nil {
				return err
			}
			defer w.close()
			text, err := w.set.Resolved()
			if err != nil {
				return err
			}
			if a.output == "json" || a.output == "jsonl" {
				doc, err := yamlToJSON(text)
				if err != nil {
					return err
				}
				_, err = a.std.out.Write(doc)
				return err
			}
			_, err = a.std.out.Write(text)
			return err
		},
	}
	cmd.Flags().BoolVar(&resolved, "resolved", true, "with defaults and environment (the only form there is)")
	return cmd
}

func (a *app) configSchemaCommand() *cobra.Command {
	var rules bool
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the settings, for editors",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			schema := configs.Schema()
			if rules {
				schema = mapping.Schema()
			}
			_, err := a.std.out.Write(schema)
			return err
		},
	}
	cmd.Flags().BoolVar(&rules, "rules", false, "the schema of rule files instead")
	return cmd
}

func (a *app) rulesCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "rules", Short: "Check the rules", Example: `  edr-bridge rules check
  edr-bridge rules check -o json`}
	cmd.AddCommand(&cobra.Command{
		Use:   "check",
		Short: "Compile the rules and list them; every mistake is shown with line and column",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, err := a.open()
			if err != nil {
				return err
			}
			defer w.close()
			m, err := w.openMapping(cmd.Context())
			if err != nil {
				return err
			}
			type row struct {
				Rule  string   `json:"rule"`
				At    string   `json:"at"`
				Mode  string   `json:"mode"`
				Tasks []string `json:"tasks"`
			}
			var rows []row
			for _, r := range m.Rules() {
				out := row{r.Name, fmt.Sprintf("%s:%d", r.File, r.Line), string(r.Mode), nil}
				for _, k := range r.Tasks {
					out.Tasks = append(out.Tasks, string(k))
				}
				rows = append(rows, out)
			}
			if len(rows) == 0 {
				return fail(exitConfig, "rules.none", errors.New("the settings name no rules"), "add rules: [rules.d/*.yaml] to the settings")
			}
			return printResult(a, rows, []string{"RULE", "MODE", "TASKS", "AT"}, func(r row) []string {
				return []string{r.Rule, r.Mode, fmt.Sprint(r.Tasks), r.At}
			})
		},
	})
	return cmd
}
