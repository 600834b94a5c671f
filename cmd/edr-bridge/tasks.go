package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent"
)

// orderView is an order as the command line shows it.
type orderView struct {
	ID       string          `json:"id"`
	State    bridge.State    `json:"state"`
	Reason   bridge.Reason   `json:"reason,omitempty"`
	Detail   string          `json:"detail,omitempty"`
	Covers   string          `json:"covered_by,omitempty"`
	Task     bridge.Kind     `json:"task,omitempty"`
	Host     string          `json:"host"`
	Params   json.RawMessage `json:"params,omitempty"`
	Executor string          `json:"executor,omitempty"`
	Ref      string          `json:"ref,omitempty"`
	Target   string          `json:"target,omitempty"`
	PID      int             `json:"pid,omitempty"`
	Image    string          `json:"image,omitempty"`
	Tree     bool            `json:"tree,omitempty"`
	For      string          `json:"for,omitempty"`
	Rule     string          `json:"rule,omitempty"`
	At       string          `json:"at,omitempty"`
	Source   string          `json:"source,omitempty"`
	Alert    string          `json:"alert,omitempty"`
	Actor    string          `json:"actor,omitempty"`
	Created  string          `json:"created,omitempty"`
	Updated  string          `json:"updated,omitempty"`
	NotAfter string          `json:"not_after,omitempty"`
	Due      string          `json:"due,omitempty"`
	Attempts int             `json:"attempts,omitempty"`
	Approver string          `json:"approved_by,omitempty"`
	Approval string          `json:"approval_reason,omitempty"`
}

func viewOrder(o bridge.Order) (orderView, error) {
	v := orderView{
		ID: o.ID, State: o.State, Reason: o.Reason, Detail: o.Detail, Covers: o.Covers, Host: o.Host,
		Executor: o.Executor, Ref: o.Ref, Target: o.Intent.Target, PID: o.Subject.PID, Rule: o.Rule, At: o.At,
		Source: o.Source, Alert: o.AlertID, Actor: o.Actor, Created: stamp(o.Created), Updated: stamp(o.Updated),
		NotAfter: stamp(o.NotAfter), Due: stamp(o.Due), Attempts: o.Attempts, Approver: o.Approval.By, Approval: o.Approval.Why,
		Image: o.Subject.Path, Tree: o.Subject.Tree, For: period(o.For),
	}
	if o.Task != nil {
		params, err := bridge.EncodeParams(o.Task)
		if err != nil {
			return v, err
		}
		v.Task, v.Params = o.Task.Kind(), params
	}
	return v, nil
}

func viewOrders(orders []bridge.Order) ([]orderView, error) {
	views := make([]orderView, 0, len(orders))
	for _, o := range orders {
		v, err := viewOrder(o)
		if err != nil {
			return nil, err
		}
		views = append(views, v)
	}
	return views, nil
}

// period writes how long an isolation or a block lasts; empty when the order does not say.
func period(d time.Duration) string {
	switch {
	case d < 0:
		return "permanent"
	case d == 0:
		return ""
	default:
		return d.String()
	}
}

func pidText(pid int) string {
	if pid == 0 {
		return ""
	}
	return strconv.Itoa(pid)
}

func treeText(tree bool) string {
	if tree {
		return "as well"
	}
	return ""
}

// stamp writes a time for people and machines: RFC 3339 with zone, empty for none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02T15:04:05.000Z07:00")
}

func (a *app) tasksCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tasks",
		Short: "Look at orders and at what tasks there are",
		Example: `  # the newest orders, and those that failed
  edr-bridge tasks list
  edr-bridge tasks list --state failed

  # one order with all it went through (a unique beginning of the id is enough)
  edr-bridge tasks show o4f0c

  # what a task takes and who can carry it out
  edr-bridge tasks describe isolateHost`,
	}
	cmd.AddCommand(a.tasksListCommand(), a.tasksShowCommand(), a.tasksWaitCommand(), a.tasksCancelCommand(), a.tasksRetryCommand(),
		a.tasksDescribeCommand())
	return cmd
}

func (a *app) tasksListCommand() *cobra.Command {
	var f bridge.OrderFilter
	var state, task string
	var since time.Duration
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List orders, newest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := parseListFilter(&f, state, task, since); err != nil {
				return err
			}
			d, done, err := a.lookDesk(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			orders, err := d.Orders(cmd.Context(), f)
			if err != nil {
				return err
			}
			views, err := viewOrders(orders)
			if err != nil {
				return err
			}
			return printOrders(a, views)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&state, "state", "", "only orders in this state")
	fl.StringVar(&f.Host, "host", "", "only orders for this host, as it was named")
	fl.StringVar(&f.Rule, "rule", "", "only orders of this rule")
	fl.StringVar(&task, "task", "", "only orders with this task")
	fl.DurationVar(&since, "since", 0, "only orders of the last while, such as 24h")
	fl.IntVar(&f.Limit, "limit", 100, "at most so many, up to 10000")
	return cmd
}

func parseListFilter(f *bridge.OrderFilter, state, task string, since time.Duration) error {
	if state != "" {
		names := make([]string, 0, len(bridge.States()))
		for _, s := range bridge.States() {
			names = append(names, string(s))
			if string(s) == state {
				f.State = s
			}
		}
		if f.State == "" {
			return usagef("--state: unknown state %q%s", state, bridge.DidYouMean(state, names))
		}
	}
	if task != "" {
		kind, err := bridge.ParseKind(task)
		if err != nil {
			return usagef("--task: %w", err)
		}
		f.Task = kind
	}
	if since > 0 {
		f.Since = time.Now().Add(-since)
	}
	return nil
}

func printOrders(a *app, views []orderView) error {
	return printResult(a, views, []string{"ORDER", "STATE", "TASK", "HOST", "BY", "REF", "WHY", "UPDATED"}, func(v orderView) []string {
		return []string{v.ID, string(v.State), string(v.Task), v.Host, by(v), v.Ref, why(v), v.Updated}
	})
}

// why is the shortest honest reason for the state an order is in.
func why(v orderView) string {
	switch {
	case v.Covers != "":
		return "covered by " + v.Covers
	case v.Reason != bridge.ReasonNone:
		return string(v.Reason)
	default:
		return ""
	}
}

func (a *app) tasksShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show ORDER",
		Short: "Show one order and its audit records",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, done, err := a.lookDesk(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			o, err := d.Order(cmd.Context(), args[0])
			if err != nil {
				return deskError(err, "order", "edr-bridge tasks list")
			}
			records, err := d.Audit(cmd.Context(), bridge.AuditFilter{Order: o.ID})
			if err != nil {
				return err
			}
			view, err := viewOrder(o)
			if err != nil {
				return err
			}
			full := struct {
				orderView
				Audit []auditView `json:"audit"`
			}{view, viewAudit(records)}
			return printOne(a, full, func(w io.Writer) error { return writeOrder(w, view, full.Audit) })
		},
	}
}

func writeOrder(w io.Writer, v orderView, audit []auditView) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"order", v.ID},
		{"state", string(v.State)},
		{"why", why(v)},
		{"detail", v.Detail},
		{"task", string(v.Task)},
		{"params", string(v.Params)},
		{"host", v.Host},
		{"target", v.Target},
		{"pid", pidText(v.PID)},
		{"image", v.Image},
		{"descendants", treeText(v.Tree)},
		{"for", v.For},
		{"executor", v.Executor},
		{"ref", v.Ref},
		{"rule", strings.TrimSpace(v.Rule + " " + v.At)},
		{"source", v.Source},
		{"alert", v.Alert},
		{"by", v.Actor},
		{"decided by", v.Approver},
		{"decided why", v.Approval},
		{"created", v.Created},
		{"updated", v.Updated},
		{"not after", v.NotAfter},
		{"due", v.Due},
	} {
		if row[1] != "" {
			_, _ = fmt.Fprintf(tw, "%s\t%s\n", row[0], printable(row[1]))
		}
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, r := range audit {
		if _, err := fmt.Fprintf(w, "  %s  %s\n", r.Time, printable(r.words())); err != nil {
			return err
		}
	}
	return nil
}

// taskView is the description of a task with who can carry it out.
type taskView struct {
	bridge.TaskInfo
	Linux   string `json:"linux"`
	Windows string `json:"windows"`
}

func (a *app) tasksDescribeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "describe [TASK]",
		Short: "Say what a task takes, who can carry it out and how it is undone",
		Args:  cobra.MaximumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			var names []string
			for _, k := range bridge.Kinds() {
				names = append(names, string(k)+"\t"+bridge.Describe(k).Summary)
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.describeAll()
			}
			kind, err := bridge.ParseKind(args[0])
			if err != nil {
				return usagef("%w", err)
			}
			v := describeTask(kind)
			return printOne(a, v, func(w io.Writer) error { return writeTask(w, v) })
		},
	}
}

func describeTask(k bridge.Kind) taskView {
	v := taskView{TaskInfo: bridge.Describe(k)}
	for _, c := range localagent.Capabilities() {
		if c.Task == k {
			v.Linux, v.Windows = c.Linux, c.Windows
		}
	}
	return v
}

func (a *app) describeAll() error {
	views := make([]taskView, 0, len(bridge.Kinds()))
	for _, k := range bridge.Kinds() {
		views = append(views, describeTask(k))
	}
	return printResult(a, views, []string{"TASK", "KSC", "LINUX", "WINDOWS", "WHAT IT DOES"}, func(v taskView) []string {
		return []string{string(v.Kind), yesNo(v.KSC), v.Linux, v.Windows, v.Summary}
	})
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func writeTask(w io.Writer, v taskView) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(tw, "%s: %s\n\nKSC\t%s\nlocal agent, Linux\t%s\nlocal agent, Windows\t%s\nundo\t%s\n", v.Kind, v.Summary, yesNo(v.KSC), v.Linux, v.Windows, v.Undo)
	if v.Note != "" {
		_, _ = fmt.Fprintf(tw, "note\t%s\n", v.Note)
	}
	_, _ = fmt.Fprint(tw, "\nPARAMETER\tTYPE\tREQUIRED\tMEANING\tEXAMPLE\n")
	for _, p := range v.Params {
		_, _ = fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", p.Name, p.Type, yesNo(p.Required), p.Meaning, p.Example)
	}
	return tw.Flush()
}
