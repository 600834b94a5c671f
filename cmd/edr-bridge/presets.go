package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/mapping"
)

// maxTried is how many bytes of a document `presets try` reads: as many as a source takes.
const maxTried = 4 << 20

func (a *app) presetsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "presets",
		Short: "See how documents of a product become alerts",
		Long: `See how documents of a product become alerts. A preset says where host, user, process, hashes, addresses, severity, id and
time come from; what a document does not hold stays absent. Own presets are YAML files named in the settings (presets: [...]).`,
		Example: `  edr-bridge presets list
  edr-bridge presets show wazuh
  edr-bridge presets try wazuh alert.json`,
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "list", Short: "List the presets", Args: cobra.NoArgs,
			Example: `  edr-bridge presets list -o json`,
			RunE: func(cmd *cobra.Command, _ []string) error {
				m, err := a.presets(cmd.Context(), "")
				if err != nil {
					return err
				}
				var views []presetView
				for _, p := range m.Presets() {
					views = append(views, viewPreset(p))
				}
				return printResult(a, views, []string{"PRESET", "FORMAT", "FROM", "ABOUT"}, func(v presetView) []string {
					return []string{v.Name, strings.Join(v.Formats, " "), orDash(v.File), v.About}
				})
			},
		},
		&cobra.Command{
			Use: "show NAME", Short: "Show where a preset finds each field", Args: cobra.ExactArgs(1),
			Example: `  edr-bridge presets show kuma`,
			RunE: func(cmd *cobra.Command, args []string) error {
				m, err := a.presets(cmd.Context(), "")
				if err != nil {
					return err
				}
				var names []string
				for _, p := range m.Presets() {
					if p.Name == args[0] {
						v := viewPreset(p)
						return printOne(a, v, v.write)
					}
					names = append(names, p.Name)
				}
				return usagef("no preset is called %q%s (edr-bridge presets list)", args[0], bridge.DidYouMean(args[0], names))
			},
		},
		&cobra.Command{
			Use: "try NAME FILE", Short: "Read a document and show the alerts it becomes", Args: cobra.ExactArgs(2),
			Long:    `Read a document (- for standard input) by a preset and show the alerts it becomes. Nothing is stored or done.`,
			Example: `  edr-bridge presets try falco event.json -o json`,
			RunE:    func(cmd *cobra.Command, args []string) error { return a.tryPreset(cmd.Context(), args[0], args[1]) },
		},
	)
	return cmd
}

// tried is the name of the source `presets try` reads with.
const tried = "try"

// presets compiles the presets of the settings, with a source of one of them when it is named.
func (a *app) presets(ctx context.Context, name string) (*mapping.Mapping, error) {
	w, err := a.open()
	if err != nil {
		return nil, err
	}
	defer w.close()
	files, err := w.presetFiles(ctx, w.set)
	if err != nil {
		return nil, err
	}
	cfg := mapping.Config{Presets: files}
	if name != "" {
		cfg.Sources = map[string]mapping.Source{tried: {Preset: name}}
	}
	m, err := mapping.New(cfg)
	if _, bad := errors.AsType[*mapping.LoadError](err); bad {
		return nil, fail(exitConfig, "presets.invalid", err, "mend the files named by presets: in the settings")
	}
	if err != nil {
		return nil, usagef("%s (edr-bridge presets list)", strings.TrimPrefix(err.Error(), "sources."+tried+".preset: "))
	}
	return m, nil
}

func (a *app) tryPreset(ctx context.Context, name, path string) error {
	m, err := a.presets(ctx, name)
	if err != nil {
		return err
	}
	in := a.std.in
	if path != "-" {
		file, err := os.Open(path) //nolint:gosec // the user names the file
		if err != nil {
			return usagef("%w", err)
		}
		defer func() { _ = file.Close() }()
		in = file
	}
	doc, err := io.ReadAll(io.LimitReader(in, maxTried+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if len(doc) > maxTried {
		return usagef("%s is larger than %d bytes", path, maxTried)
	}
	mapped, err := m.Map(bridge.Alert{Source: tried, Preset: name, Received: time.Now().UTC(), Raw: doc})
	if err != nil {
		return fail(exitFailed, "preset.unreadable", err, "edr-bridge presets show "+name)
	}
	if len(mapped) == 0 {
		a.say("no alert: the preset takes other documents only (edr-bridge presets show %s)", name)
	}
	var views []alertView
	for _, one := range mapped {
		for _, o := range one.Refused {
			a.say("not readable: %s", o.Detail)
		}
		views = append(views, viewAlert(one.Alert))
	}
	if a.output != "table" {
		return printResult(a, views, nil, func(alertView) []string { return nil })
	}
	for i, v := range views {
		if i > 0 {
			_, _ = fmt.Fprintln(a.std.out)
		}
		if err := v.write(a.std.out); err != nil {
			return err
		}
	}
	return nil
}

// presetView is a preset for people.
type presetView struct {
	Name    string            `json:"name"`
	About   string            `json:"about"`
	File    string            `json:"file,omitempty"`
	Formats []string          `json:"formats"`
	Strict  bool              `json:"strict"`
	Unwrap  []string          `json:"unwrap,omitempty"`
	Each    []string          `json:"each,omitempty"`
	Only    string            `json:"only,omitempty"`
	Empty   []string          `json:"empty,omitempty"`
	Fields  []presetFieldView `json:"fields"`
	Notes   []string          `json:"notes,omitempty"`
}

type presetFieldView struct {
	Field string   `json:"field,omitempty"`
	Path  string   `json:"path"`
	Type  string   `json:"type"`
	As    []string `json:"as,omitempty"`
	When  string   `json:"when,omitempty"`
	Note  string   `json:"note,omitempty"`
}

func viewPreset(p mapping.PresetInfo) presetView {
	v := presetView{
		Name: p.Name, About: p.About, File: p.File, Formats: p.Formats, Strict: p.Strict, Unwrap: p.Unwrap, Each: p.Each, Only: p.Only,
		Empty: p.Empty, Notes: p.Notes, Fields: []presetFieldView{},
	}
	for _, f := range p.Fields {
		v.Fields = append(v.Fields, presetFieldView{f.Field, f.Path, f.Type, f.As, f.When, f.Note})
	}
	return v
}

func (v presetView) write(out io.Writer) error {
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(tw, "%s: %s\n\n", v.Name, v.About)
	for _, line := range []struct{ label, text string }{
		{"format", strings.Join(v.Formats, ", ")},
		{"file", v.File},
		{"document", strings.Join(v.Unwrap, ", ")},
		{"one alert for each of", strings.Join(v.Each, ", ")},
		{"only where", v.Only},
		{"absent if", strings.Join(v.Empty, ", ")},
	} {
		if line.text != "" {
			_, _ = fmt.Fprintf(tw, "%s\t%s\n", line.label, printable(line.text))
		}
	}
	_, _ = fmt.Fprintln(tw, "\nFIELD\tFROM\tAS\tWHEN\tNOTE")
	last := ""
	for _, f := range v.Fields {
		name := f.Field
		if name == last {
			name = "" // the next candidate of the same field
		}
		last = f.Field
		_, _ = fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", printable(name), printable(f.Path), strings.Join(f.As, " "), printable(f.When), printable(f.Note))
	}
	for i, n := range v.Notes {
		if i == 0 {
			_, _ = fmt.Fprintln(tw)
		}
		_, _ = fmt.Fprintf(tw, "- %s\n", printable(n))
	}
	return tw.Flush()
}

// alertView is an alert for people.
type alertView struct {
	ID            string       `json:"id"`
	Time          string       `json:"time,omitempty"`
	Level         string       `json:"level,omitempty"`
	Title         string       `json:"title,omitempty"`
	Description   string       `json:"description,omitempty"`
	Details       string       `json:"details,omitempty"`
	Tenant        string       `json:"tenant,omitempty"`
	Case          string       `json:"case,omitempty"`
	Host          string       `json:"host,omitempty"`
	User          string       `json:"user,omitempty"`
	Process       *processView `json:"process,omitempty"`
	File          *fileView    `json:"file,omitempty"`
	SourceIP      string       `json:"source_ip,omitempty"`
	DestinationIP string       `json:"destination_ip,omitempty"`
}

type processView struct {
	PID         int    `json:"pid,omitempty"`
	Start       uint64 `json:"start,omitempty"`
	Name        string `json:"name,omitempty"`
	Path        string `json:"path,omitempty"`
	MD5         string `json:"md5,omitempty"`
	SHA256      string `json:"sha256,omitempty"`
	CommandLine string `json:"command_line,omitempty"`
	ParentName  string `json:"parent_name,omitempty"`
	ParentPath  string `json:"parent_path,omitempty"`
}

type fileView struct {
	Path   string `json:"path,omitempty"`
	MD5    string `json:"md5,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
}

func viewAlert(a bridge.Alert) alertView {
	v := alertView{
		ID: a.ID, Level: a.Level, Title: a.Title, Description: a.Description, Details: a.Details, Tenant: a.Tenant, Case: a.Case, Host: a.Host, User: a.User,
	}
	if !a.Time.IsZero() {
		v.Time = a.Time.UTC().Format(time.RFC3339Nano)
	}
	if p := a.Process; p != (bridge.Process{}) {
		v.Process = &processView{p.PID, p.Start, p.Name, p.Path, p.MD5, p.SHA256, p.CommandLine, p.ParentName, p.ParentPath}
	}
	if f := a.File; f != (bridge.File{}) {
		v.File = &fileView{f.Path, f.MD5, f.SHA256}
	}
	if a.SourceAddress.IsValid() {
		v.SourceIP = a.SourceAddress.String()
	}
	if a.DestinationAddress.IsValid() {
		v.DestinationIP = a.DestinationAddress.String()
	}
	return v
}

func (v alertView) write(out io.Writer) error {
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	put := func(name, value string) {
		if value != "" && value != "0" {
			_, _ = fmt.Fprintf(tw, "%s\t%s\n", name, printable(value))
		}
	}
	put("id", v.ID)
	put("time", v.Time)
	put("level", v.Level)
	put("title", v.Title)
	put("description", v.Description)
	put("details", v.Details)
	put("tenant", v.Tenant)
	put("case", v.Case)
	put("host", v.Host)
	put("user", v.User)
	if p := v.Process; p != nil {
		put("process.pid", fmt.Sprint(p.PID))
		put("process.start", fmt.Sprint(p.Start))
		put("process.name", p.Name)
		put("process.path", p.Path)
		put("process.md5", p.MD5)
		put("process.sha256", p.SHA256)
		put("process.command_line", p.CommandLine)
		put("process.parent.name", p.ParentName)
		put("process.parent.path", p.ParentPath)
	}
	if f := v.File; f != nil {
		put("file.path", f.Path)
		put("file.md5", f.MD5)
		put("file.sha256", f.SHA256)
	}
	put("source_ip", v.SourceIP)
	put("destination_ip", v.DestinationIP)
	return tw.Flush()
}
