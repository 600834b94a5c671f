package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// shownDigest is how much of a digest a listing shows; approve takes it.
const shownDigest = 12

// shortDigest is how many digits of it tell two orders apart; the store asks for as many.
const shortDigest = 8

// recentOrders is how many earlier orders of the host approvals show tells about.
const recentOrders = 3

// approvalView is a held order as approvals shows it.
type approvalView struct {
	orderView
	Digest string `json:"digest"`
	Until  string `json:"until,omitempty"`
}

func viewApproval(o bridge.Order) (approvalView, error) {
	v, err := viewOrder(o)
	if err != nil {
		return approvalView{}, err
	}
	if o.Task == nil {
		return approvalView{orderView: v, Until: stamp(o.Due)}, nil // nobody can approve it, but it can be rejected
	}
	digest, err := o.Digest()
	return approvalView{v, digest, stamp(o.Due)}, err
}

func (a *app) approvalsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "approvals",
		Short: "Approve or reject orders that wait for a person",
		Long: `Orders wait for a person when their rule has mode approve, when their task always needs it (approvals.tasks), outside of the
hours in which rules may act, and when a host went back and forth too often. Nobody's answer in time means no.
An approval is good for exactly what was shown: it names the digest of task, parameters, host and process.`,
		Example: `  # what waits
  edr-bridge approvals list

  # look at one: what would be done, why, and what was done on that host before
  edr-bridge approvals show o4f0c

  # let it go; the digest is the one that show printed
  edr-bridge approvals approve o4f0c --digest 5d2f09ab41c3 --reason "INC-311: confirmed with the owner"
  edr-bridge approvals reject o4f0c --reason "INC-311: a scanner"`,
	}
	cmd.AddCommand(a.approvalsListCommand(), a.approvalsShowCommand(), a.decideCommand(true), a.decideCommand(false))
	return cmd
}

func (a *app) approvalsListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List orders that wait for a person, newest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, done, err := a.lookDesk(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			held, err := approvable(cmd.Context(), d)
			if err != nil {
				return err
			}
			views := make([]approvalView, 0, len(held))
			for _, o := range held {
				v, err := viewApproval(o)
				if err != nil {
					return err
				}
				views = append(views, v)
			}
			return printResult(a, views, []string{"ORDER", "TASK", "HOST", "BY", "WHY", "DIGEST", "UNTIL"}, func(v approvalView) []string {
				return []string{v.ID, string(v.Task), v.Host, by(v.orderView), v.Detail, v.Digest[:min(len(v.Digest), shownDigest)], v.Until}
			})
		},
	}
}

// approvable lists the orders that wait for a person, newest first. It asks for each reason apart: thousands that wait for
// the hold must not push them out of the listing.
func approvable(ctx context.Context, d bridge.Desk) ([]bridge.Order, error) {
	var held []bridge.Order
	for _, reason := range bridge.Reasons() {
		if !bridge.Approvable(reason) {
			continue
		}
		some, err := d.Orders(ctx, bridge.OrderFilter{State: bridge.StateHeld, Reason: reason, Limit: listAll})
		if err != nil {
			return nil, err
		}
		held = append(held, some...)
	}
	slices.SortStableFunc(held, func(a, b bridge.Order) int { return b.Created.Compare(a.Created) })
	return held, nil
}

// listAll is the most one question for orders returns.
const listAll = 10_000

func by(v orderView) string {
	if v.Rule != "" {
		return v.Rule
	}
	return v.Actor
}

func (a *app) approvalsShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show ORDER",
		Short: "Show what an approval would let happen",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, done, err := a.lookDesk(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			o, err := d.Order(cmd.Context(), args[0])
			if err != nil {
				return deskError(err, "order", "edr-bridge approvals list")
			}
			view, err := viewApproval(o)
			if err != nil {
				return err
			}
			before, err := d.Orders(cmd.Context(), bridge.OrderFilter{Host: o.Host, Before: o.ID, Limit: recentOrders})
			if err != nil {
				return err
			}
			recent, err := viewOrders(before)
			if err != nil {
				return err
			}
			var info bridge.TaskInfo
			if o.Task != nil {
				info = bridge.Describe(o.Task.Kind())
			}
			full := struct {
				approvalView
				Summary string      `json:"summary"`
				Undo    string      `json:"undo"`
				Recent  []orderView `json:"recent"`
			}{view, info.Summary, info.Undo, recent}
			return printOne(a, full, func(w io.Writer) error { return writeApproval(w, view, info, recent) })
		},
	}
}

func writeApproval(w io.Writer, v approvalView, info bridge.TaskInfo, recent []orderView) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"order", v.ID},
		{"state", string(v.State)},
		{"why", v.Detail},
		{"task", string(v.Task)},
		{"does", info.Summary},
		{"undo", info.Undo},
		{"params", string(v.Params)},
		{"host", v.Host},
		{"pid", pidText(v.PID)},
		{"image", v.Image},
		{"for", v.For},
		{"asked by", strings.TrimSpace(by(v.orderView) + " " + v.At)},
		{"alert", v.Alert},
		{"digest", v.Digest},
		{"until", v.Until},
	} {
		if row[1] != "" {
			_, _ = fmt.Fprintf(tw, "%s\t%s\n", row[0], printable(row[1]))
		}
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, r := range recent {
		if _, err := fmt.Fprintf(w, "  before: %s %s %s %s\n", r.Updated, r.Task, r.State, printable(by(r))); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) decideCommand(approve bool) *cobra.Command {
	word := bridge.Decision{Approve: approve, Actor: actor()}
	cmd := &cobra.Command{
		Use:   "reject ORDER --reason TEXT",
		Short: "Say no: the order is refused",
		Args:  cobra.ExactArgs(1),
	}
	if approve {
		cmd.Use = "approve ORDER --digest DIGEST --reason TEXT"
		cmd.Short = "Let an order go"
		cmd.Long = `Let an order go. --digest is at least the first 8 digits of the digest that approvals show printed: if anything about the order
were different from what was looked at, the digest would be too. On a terminal it may be left out: the order is shown and asked about.`
		cmd.Flags().StringVar(&word.Digest, "digest", "", "the digest that approvals show printed")
	}
	cmd.Flags().StringVar(&word.Why, "reason", "", "why, for the audit record (required)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := needReason(word.Why); err != nil {
			return err
		}
		if n := len(word.Digest); n > 0 && n < shortDigest {
			return usagef("--digest: at least %d digits of what approvals show printed", shortDigest)
		}
		d, done, err := a.openDesk(cmd.Context())
		if err != nil {
			return err
		}
		defer done()
		o, err := d.Order(cmd.Context(), args[0])
		if err != nil {
			return deskError(err, "order", "edr-bridge approvals list")
		}
		word.Order = o.ID
		if approve && word.Digest == "" {
			if word.Digest, err = a.askApproval(o); err != nil {
				return err
			}
		}
		o, err = d.Decide(cmd.Context(), word)
		if err != nil {
			return deskError(err, "order", "edr-bridge approvals show "+word.Order)
		}
		view, err := viewOrder(o)
		if err != nil {
			return err
		}
		if alone(d) && o.State == bridge.StateQueued {
			a.say("no bridge answers on this state directory: the order goes on when one runs, until %s", stamp(o.NotAfter))
		}
		return printOrders(a, []orderView{view})
	}
	return cmd
}

// askApproval shows the order on a terminal and returns its digest when the person agrees.
func (a *app) askApproval(o bridge.Order) (string, error) {
	if o.Task == nil {
		return "", fail(exitRefused, "order.unreadable", errors.New("the task of this order cannot be read: it can only be rejected"), "")
	}
	if a.noInput || !isTerminal(a.std.in) {
		return "", usagef("--digest is required: `edr-bridge approvals show %s` prints it", o.ID)
	}
	view, err := viewApproval(o)
	if err != nil {
		return "", err
	}
	if err := writeApproval(a.std.err, view, bridge.Describe(o.Task.Kind()), nil); err != nil {
		return "", err
	}
	if _, err := fmt.Fprint(a.std.err, "Approve exactly this? [y/N] "); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(a.std.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return "", fail(exitFailed, "cancelled", errors.New("cancelled, the order still waits"), "")
	}
	return view.Digest, nil
}
