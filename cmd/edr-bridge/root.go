package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// stdio are the streams of one run of the program.
type stdio struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

// app is what all verbs share: the streams and the global flags.
type app struct {
	std     stdio
	env     func(string) (string, bool)
	config  string
	output  string
	quiet   bool
	verbose bool
	noColor bool
	noInput bool
	// ready is called when the bridge has opened everything and begins to read; nil = nobody waits for it.
	ready func()
}

// execute runs the command line and returns its exit code.
func execute(ctx context.Context, argv []string, std stdio) int {
	return (&app{std: std, env: environ}).execute(ctx, argv)
}

func (a *app) execute(ctx context.Context, argv []string) int {
	root := a.rootCommand() //nolint:contextcheck // the commands get ctx from ExecuteContext
	root.SetArgs(argv[1:])
	root.SetIn(a.std.in)
	root.SetOut(a.std.out)
	root.SetErr(a.std.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	p := problemOf(ctx, err)
	if !p.quiet {
		a.printProblem(p)
	}
	return p.exit
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "edr-bridge",
		Short: "Turn SIEM alerts into endpoint response tasks, safely",
		Long: `edr-bridge takes alerts (Redis, KUMA, webhooks, syslog), maps them by rules to response tasks and has
Kaspersky Security Center run them through OpenAPI; where no KSC is present the bundled
local agent runs them on this machine.`,
		Example: `  # see the whole road in one terminal, nothing outside is touched
  edr-bridge lab

  # see exactly what would be posted, send nothing
  edr-bridge send --task isolateHost --host WS-014 --action 1 --dry-run

  # run the bridge with its settings
  edr-bridge run -c /etc/edr-bridge/edr-bridge.yaml`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return usagef("unknown command %q%s", args[0], bridge.DidYouMean(args[0], verbNames(cmd)))
		},
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
	}
	f := root.PersistentFlags()
	f.StringVarP(&a.config, "config", "c", "", "settings file (default: $EDR_BRIDGE_CONFIG, ./edr-bridge.yaml, /etc/edr-bridge/edr-bridge.yaml)")
	f.StringVarP(&a.output, "output", "o", "table", "result format: table, json, jsonl or yaml")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "no words on stderr but errors")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "debug logs on stderr")
	f.BoolVar(&a.noColor, "no-color", false, "no colours (also NO_COLOR)")
	f.BoolVar(&a.noInput, "no-input", false, "never ask")
	root.AddGroup(
		&cobra.Group{ID: "serve", Title: "Run:"},
		&cobra.Group{ID: "respond", Title: "Respond:"},
		&cobra.Group{ID: "look", Title: "Look and set up:"},
	)
	for group, verbs := range map[string][]*cobra.Command{
		"serve": {a.runCommand(), a.agentCommand(), a.sensorCommand(), a.serviceCommand(), a.labCommand(), a.mockKSCCommand()},
		"respond": {
			a.sendCommand(), a.releaseCommand(), a.approvalsCommand(), a.activeCommand(), a.holdCommand(), a.resumeCommand(), a.quarantineCommand(), a.emitCommand(),
		},
		"look": {
			a.tasksCommand(), a.auditCommand(), a.dlqCommand(), a.rulesCommand(), a.presetsCommand(), a.kumaCommand(), a.configCommand(), a.secretsCommand(),
			a.doctorCommand(), a.versionCommand(),
		},
	} {
		for _, c := range verbs {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	root.AddCommand(exitCodesTopic())
	root.SetHelpCommandGroupID("look")
	root.SetCompletionCommandGroupID("look")
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if !slices.Contains([]string{"table", "json", "jsonl", "yaml"}, a.output) {
			return usagef("--output %q: want table, json, jsonl or yaml", a.output)
		}
		return nil
	}
	strictFlags(root)
	return root
}

// strictFlags makes a mistyped flag or argument a usage error that names the nearest flag.
func strictFlags(root *cobra.Command) {
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		text := err.Error()
		if name, ok := strings.CutPrefix(text, "unknown flag: --"); ok {
			name, _, _ = strings.Cut(name, "=")
			return usagef("unknown flag --%s%s (see `%s --help`)", name, dashed(bridge.DidYouMean(name, flagNames(cmd))), cmd.CommandPath())
		}
		return usagef("%s (see `%s --help`)", text, cmd.CommandPath())
	})
	for _, c := range root.Commands() {
		strictArgs(c)
		if c.Name() == "help" {
			strictHelp(c)
		}
	}
}

// strictHelp makes a mistyped topic a usage error; cobra shows the help of the program instead.
func strictHelp(help *cobra.Command) {
	show := help.Run
	help.Run = nil
	help.RunE = func(cmd *cobra.Command, args []string) error {
		found, rest, err := cmd.Root().Find(args)
		if err == nil && len(rest) > 0 {
			err = usagef("no help about %q%s", rest[0], bridge.DidYouMean(rest[0], verbNames(found)))
		}
		if err == nil {
			show(cmd, args)
		}
		return err
	}
}

// strictArgs turns cobra's complaints about arguments and missing subcommands into usage errors.
func strictArgs(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usagef("%w (see `%s --help`)", err, cmd.CommandPath())
			}
			return nil
		}
	}
	if c.RunE == nil && c.Run == nil && c.HasSubCommands() {
		c.Args = cobra.ArbitraryArgs
		c.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("%s needs a verb: %s", cmd.CommandPath(), strings.Join(verbNames(cmd), ", "))
			}
			return usagef("unknown verb %q of %s%s", args[0], cmd.CommandPath(), bridge.DidYouMean(args[0], verbNames(cmd)))
		}
	}
	for _, sub := range c.Commands() {
		strictArgs(sub)
	}
}

func dashed(hint string) string { return strings.Replace(hint, `"`, `"--`, 1) }

func verbNames(cmd *cobra.Command) []string {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return names
}

func exitCodesTopic() *cobra.Command {
	var b strings.Builder
	b.WriteString("edr-bridge ends with one of these codes:\n\n")
	for _, c := range exitCodes() {
		fmt.Fprintf(&b, "  %3d  %s\n", c.Code, c.Meaning)
	}
	return &cobra.Command{Use: "exit-codes", Short: "The exit codes", Long: b.String()}
}

// printProblem tells what went wrong on stderr: words, or one JSON line when results are JSON.
func (a *app) printProblem(p *problem) {
	if a.output == "json" || a.output == "jsonl" {
		type body struct {
			Code      string `json:"code"`
			Message   string `json:"message"`
			Hint      string `json:"hint,omitempty"`
			Retryable bool   `json:"retryable"`
		}
		line, err := json.Marshal(map[string]body{"error": {p.code, p.err.Error(), p.hint, p.exit == exitUnreachable}})
		if err == nil {
			_, _ = jsonWriter{a.std.err}.Write(append(line, '\n'))
			return
		}
	}
	_, _ = fmt.Fprintf(a.std.err, "error: %s\n", printableLines(p.err.Error()))
	if p.hint != "" {
		_, _ = fmt.Fprintf(a.std.err, "hint: %s\n", p.hint)
	}
}

// say writes words for people to stderr, one line.
func (a *app) say(format string, args ...any) {
	if !a.quiet {
		_, _ = fmt.Fprintln(a.std.err, printable(fmt.Sprintf(format, args...)))
	}
}

// logger writes to stderr: text with colours on a terminal, JSON lines otherwise.
func (a *app) logger(def slog.Level) *slog.Logger { return a.loggerAs(def, "auto") }

// loggerAs is logger in a format of log.format.
func (a *app) loggerAs(def slog.Level, format string) *slog.Logger {
	level := def
	if a.verbose {
		level = slog.LevelDebug
	}
	if a.quiet {
		level = slog.LevelError
	}
	terminal := isTerminal(a.std.err)
	if format == "text" || format != "json" && terminal {
		_, plain := a.env("NO_COLOR")
		return slog.New(tint.NewTextHandler(a.std.err, &tint.Options{Level: level, NoColor: a.noColor || plain || !terminal}))
	}
	return slog.New(slog.NewJSONHandler(jsonWriter{a.std.err}, &slog.HandlerOptions{Level: level}))
}

var errNoTerminal = errors.New("no terminal to ask on")
