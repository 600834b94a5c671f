package main

import (
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// leaseView is a lease as the command line shows it.
type leaseView struct {
	Host     string `json:"host"`
	Target   string `json:"target,omitempty"`
	Order    string `json:"order"`
	Effect   string `json:"isolated_by"`
	Rule     string `json:"rule,omitempty"`
	Actor    string `json:"actor,omitempty"`
	Since    string `json:"since"`
	Until    string `json:"until,omitempty"`
	Left     string `json:"left,omitempty"`
	Isolated string `json:"isolated,omitempty"`
	Executor string `json:"executor,omitempty"`
}

func viewLease(l bridge.Lease, now time.Time) leaseView {
	v := leaseView{
		Host: l.Host, Target: l.Target, Order: l.Order, Effect: l.Effect, Rule: l.Rule, Actor: l.Actor, Since: stamp(l.Since),
		Until: stamp(l.Until), Isolated: stamp(l.Isolated), Executor: l.Executor,
	}
	if !l.Until.IsZero() {
		v.Left = max(0, l.Until.Sub(now)).Round(time.Second).String()
	}
	return v
}

// unwatched is said where hosts are isolated and no bridge is there to release them in time.
const unwatched = "no bridge answers on this state directory: nobody releases these hosts before one runs"

func (a *app) activeCommand() *cobra.Command {
	var host string
	cmd := &cobra.Command{
		Use:   "active",
		Short: "List what is isolated: who wanted it, why, until when",
		Long: `List the leases that hold, one line for each reason. A host is released when its last reason lapses, or by
` + "`edr-bridge release HOST`" + `. It says what this bridge believes: the product on the host may have let go by itself
(leases.product_off).`,
		Example: `  edr-bridge active
  edr-bridge active --host WS-014 -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, done, err := a.lookDesk(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			leases, err := d.Leases(cmd.Context())
			if err != nil {
				return err
			}
			var views []leaseView
			for _, l := range leases {
				if host == "" || strings.EqualFold(l.Host, host) || strings.EqualFold(l.Target, host) {
					views = append(views, viewLease(l, time.Now()))
				}
			}
			atKSC := func(v leaseView) bool { return v.Executor != bridge.ExecutorLocal }
			if slices.ContainsFunc(views, atKSC) && alone(d) {
				a.say(unwatched)
			}
			return printResult(a, views, []string{"HOST", "BY", "SINCE", "UNTIL", "LEFT", "ORDER", "ISOLATED BY"}, func(v leaseView) []string {
				who, until := v.Rule, v.Until
				if who == "" {
					who = v.Actor
				}
				if until == "" {
					until = "permanent"
				}
				return []string{v.Host, who, v.Since, until, v.Left, v.Order, v.Effect}
			})
		},
	}
	cmd.Flags().StringVar(&host, "host", "", "only this host, by the name or id it was isolated under")
	return cmd
}

func (a *app) releaseCommand() *cobra.Command {
	req := sendRequest{own: map[string]*string{}, task: string(bridge.KindIsolateHost), off: true}
	cmd := &cobra.Command{
		Use:   "release HOST… --reason TEXT",
		Short: "Release isolated hosts",
		Long: `Release isolated hosts: ends every reason of their isolation, overtakes isolations that wait, and works under hold. It is
send --task isolateHost --off in short.`,
		Example: `  edr-bridge release WS-014 --reason "INC-311: cleaned"`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needReason(req.reason); err != nil {
				return err
			}
			req.hosts = args
			return a.send(cmd.Context(), cmd, &req)
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.reason, "reason", "", "why, for the audit record (required)")
	f.StringVar(&req.via, "via", "auto", "executor: ksc, local or auto")
	f.BoolVar(&req.wait, "wait", false, "wait until the hosts have done it")
	f.DurationVar(&req.timeout, "timeout", defaultWait, "how long --wait waits")
	return cmd
}
