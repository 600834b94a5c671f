package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/configs"
	"github.com/edr-bridge/edr-bridge/localagent"
	"github.com/edr-bridge/edr-bridge/localagent/firewall"
	"github.com/edr-bridge/edr-bridge/localagent/jobs"
	"github.com/edr-bridge/edr-bridge/localagent/prevention"
	"github.com/edr-bridge/edr-bridge/localagent/socket"
	"github.com/edr-bridge/edr-bridge/peersocket"
)

// listenVerb is the hidden verb of the process that answers the kernel about executions.
const listenVerb = "listen-executions"

func (a *app) agentCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run the local agent as a process of its own, look at it, take back what it did",
		Long: `The local agent carries orders out on this machine. It lives in the bridge itself, or, with local.separate: true, in a process of
its own that has the rights the bridge then does not need: edr-bridge agent run. The other verbs ask the agent that runs,
wherever it lives; where none does they look at what it left behind.`,
		Example: `  edr-bridge agent status
  edr-bridge agent blocks
  edr-bridge agent unblock 203.0.113.7
  edr-bridge agent rules
  edr-bridge agent release            # give this machine its network back, whatever the bridge believes
  edr-bridge agent jobs o3f9c2`,
	}
	cmd.AddCommand(a.agentRunCommand(), a.agentStatusCommand(), a.agentBlocksCommand(), a.agentUnblockCommand(), a.agentRulesCommand(),
		a.agentRemoveRuleCommand(), a.agentStopPreventionCommand(), a.agentResumeCommand(), a.agentReleaseCommand(), a.agentJobsCommand(), a.agentCancelCommand(), a.agentListenCommand())
	return cmd
}

func (a *app) agentRunCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Run the agent: take orders from the bridge over local.socket",
		Long: `Run the agent until it is told to stop (SIGTERM, Ctrl-C). It needs root, or the capabilities of the unit edr-bridge-agent.service.
It takes orders from root, from its own user and from local.users, judges them by its own settings (local.tasks, protect, the safety
table) and answers what the bridge cannot: it reads no alerts and talks to no server.`,
		Example: `  edr-bridge agent run -c /etc/edr-bridge/edr-bridge.yaml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, err := a.openServing()
			if err != nil {
				return err
			}
			defer w.close()
			return w.serveAgent(cmd.Context())
		},
	}
}

// serveAgent runs the agent behind its socket until ctx ends.
func (w *wiring) serveAgent(ctx context.Context) error {
	if !w.set.Local.Enabled {
		return fail(exitConfig, "agent.off", errNoAgent, "set local.enabled: true")
	}
	if err := w.trustOwn(w.set); err != nil {
		return err
	}
	if !w.set.Local.Separate {
		return fail(exitConfig, "config.local", errors.New("local.separate is false: the bridge carries orders out itself, and would beside this agent"), "set local.separate: true")
	}
	w.resident = true
	agent, err := w.openAgent()
	if err != nil {
		return err
	}
	server, err := w.openAgentSocket(agent)
	if err != nil {
		return err
	}
	// Before anything of the state is touched: another agent may be at work with it.
	if err := server.Open(ctx); err != nil {
		return fail(exitFailed, "agent.socket", err, "edr-bridge agent status")
	}
	defer func() { _ = server.Close() }()
	if err := agent.Prepare(ctx); err != nil {
		return fail(exitFailed, "agent.prepare", err, "run it as root, or with the capabilities of edr-bridge-agent.service")
	}
	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { return agent.Run(ctx) })
	parts.Go(func() error {
		return server.Serve(ctx, func() {
			w.log.Info("agent takes orders", "path", w.set.Local.Socket)
			w.notify(daemon.SdNotifyReady)
		})
	})
	parts.Go(func() error { w.heartbeat(ctx); return nil })
	err = parts.Wait()
	w.notify(daemon.SdNotifyStopping)
	return err
}

// notify tells systemd how the service stands (sd_notify(3)); elsewhere nobody hears it.
func (w *wiring) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		w.log.Warn("systemd was not told", "state", state, "err", err)
	}
}

// heartbeat feeds the watchdog of systemd, when it watches, as long as the agent answers on its socket.
func (w *wiring) heartbeat(ctx context.Context) {
	client := socket.NewClient(w.set.Local.Socket)
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every <= 0 {
		return
	}
	beat := time.NewTicker(every / 2)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			if err := client.Ask(ctx, askAlive, nil, nil); err != nil {
				w.log.Error("the agent does not answer itself", "err", err)
				continue
			}
			w.notify(daemon.SdNotifyWatchdog)
		}
	}
}

// trustOwn refuses to work with root's rights by a program, settings, rules or state others can change.
func (w *wiring) trustOwn(set *configs.Settings) error {
	if err := w.app.closeState(set); err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("own program: %w", err)
	}
	l := set.Local
	paths := slices.Concat([]string{exe, set.File(), l.AgentState, filepath.Dir(l.Socket), l.Scan.Signatures}, set.Sensor.Rules, set.Sensor.Indicators)
	rules, err := set.RulePaths()
	if err != nil {
		return fail(exitConfig, "config.rules", err, "")
	}
	return w.app.checkTrusted(slices.Concat(paths, rules)...)
}

// askVerb opens what a verb about the agent needs and asks.
func (a *app) askVerb(ctx context.Context, what string, params, out any) (runs bool, err error) {
	w, err := a.open()
	if err != nil {
		return false, err
	}
	defer w.close()
	return w.askAgent(ctx, what, params, out)
}

// unattended says why no agent answered.
func unattended() string {
	if !peersocket.TellsPeers {
		return "on this system a running agent cannot be asked: this is what stands on the machine and on disk"
	}
	return "no agent runs: this is what it left behind"
}

func (a *app) agentBlocksCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "blocks",
		Short:   "List the addresses whose traffic is dropped, and until when",
		Example: `  edr-bridge agent blocks -o json`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var blocks []firewall.Block
			if _, err := a.askVerb(cmd.Context(), askBlocks, nil, &blocks); err != nil {
				return err
			}
			type view struct {
				Address string `json:"address"`
				Left    string `json:"left"`
				Until   string `json:"until"`
			}
			views := make([]view, 0, len(blocks))
			for _, b := range blocks {
				views = append(views, view{b.Prefix.String(), b.Left.Round(time.Second).String(), stamp(time.Now().Add(b.Left))})
			}
			return printResult(a, views, []string{"ADDRESS", "LEFT", "UNTIL"}, func(v view) []string { return []string{v.Address, v.Left, v.Until} })
		},
	}
}

// takeBack is a verb that undoes one thing by its name.
func (a *app) takeBack(use, short, long, example, ask, said string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long, Example: example, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := a.askVerb(cmd.Context(), ask, args[0], nil); err != nil {
				return err
			}
			a.say(said, args[0])
			return nil
		},
	}
}

func (a *app) agentUnblockCommand() *cobra.Command {
	return a.takeBack("unblock ADDRESS", "Let the traffic of an address through again", "Take the block of exactly this address or prefix away.",
		"  edr-bridge agent unblock 203.0.113.7", askUnblock, "%s is not blocked any more")
}

func (a *app) agentRemoveRuleCommand() *cobra.Command {
	return a.takeBack("remove-rule ID", "Let a prevented file be executed again", "Remove a rule of preventExecution; `edr-bridge agent rules` lists them.",
		"  edr-bridge agent remove-rule p3f9c21d04be877a6c55e0191", askRemoveRule, "rule %s is removed")
}

func (a *app) agentCancelCommand() *cobra.Command {
	return a.takeBack("cancel ORDER", "Cancel a scan, or end a program that was started", "Cancel the job of an order; `edr-bridge agent jobs` lists them.",
		"  edr-bridge agent cancel o3f9c2", askCancelJob, "the job of %s is told to end")
}

func (a *app) agentStopPreventionCommand() *cobra.Command {
	return a.askOnly("stop-prevention", "Let everything be executed again at once",
		"Switch the emergency switch of preventExecution on: rules stay and deny nothing until `edr-bridge agent resume`. When even this program cannot be started, make the file by hand; see docs/agent.md.",
		askStop, "nothing is kept from being executed any more; edr-bridge agent resume lets the rules deny again")
}

func (a *app) agentResumeCommand() *cobra.Command {
	return a.askOnly("resume", "Let prevented executions be denied again after a stop",
		"A rule that keeps many different files from being executed within a second is a mistake, and is stopped. This verb lets such rules deny again, and switches the emergency switch off.",
		askResume, "rules deny again")
}

// askOnly is a verb that asks for one thing without a name.
func (a *app) askOnly(use, short, long, ask, said string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long, Example: "  edr-bridge agent " + use, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := a.askVerb(cmd.Context(), ask, nil, nil); err != nil {
				return err
			}
			a.say("%s", said)
			return nil
		},
	}
}

func (a *app) agentReleaseCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "release",
		Short: "Give this machine its network back at once, whatever the bridge believes",
		Long: `Take the isolation of this machine away, without guards, store or bridge. The bridge is not told: its leases stay until they lapse,
and its next isolation of this machine counts as a second reason. With a bridge at hand use edr-bridge release.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var r bridge.Receipt
			if _, err := a.askVerb(cmd.Context(), askRelease, nil, &r); err != nil {
				return err
			}
			a.say("%s", printable(r.Detail))
			return nil
		},
	}
}

func (a *app) agentRulesCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "rules",
		Short:   "List what is kept from being executed",
		Example: "  edr-bridge agent rules -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var rules []prevention.Rule
			runs, err := a.askVerb(cmd.Context(), askRules, nil, &rules)
			if err != nil {
				return err
			}
			if !runs && peersocket.TellsPeers && len(rules) > 0 {
				a.say("no agent runs: these rules are kept, and nothing is prevented before it does")
			}
			return printResult(a, rules, []string{"RULE", "PATH", "MD5", "SHA256", "ORDER", "SINCE"}, func(r prevention.Rule) []string {
				return []string{r.ID, r.Path, r.MD5, r.SHA256, r.Order, stamp(r.Added)}
			})
		},
	}
}

func (a *app) agentJobsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "jobs [ORDER]",
		Short: "List scans and programs that were started; with an order, all of its result",
		Example: `  edr-bridge agent jobs
  edr-bridge agent jobs o3f9c2 -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return a.agentJob(cmd.Context(), args[0])
			}
			var answer jobsAnswer
			if _, err := a.askVerb(cmd.Context(), askJobs, nil, &answer); err != nil {
				return err
			}
			if answer.Trouble != "" {
				a.say("%s", printable(answer.Trouble))
			}
			return printResult(a, answer.Jobs, []string{"ORDER", "TASK", "STATE", "BEGUN", "ENDED", "WHAT"}, func(r jobs.Record) []string {
				return []string{r.ID, string(r.Kind), string(r.State), stamp(r.Begun), stamp(r.Ended), r.Detail}
			})
		},
	}
}

// agentJob prints one job with its result.
func (a *app) agentJob(ctx context.Context, id string) error {
	var answer jobAnswer
	if _, err := a.askVerb(ctx, askJob, id, &answer); err != nil {
		return err
	}
	if !answer.Known {
		return fail(exitNotFound, "agent.job", fmt.Errorf("no job of order %s is known", printable(id)), "edr-bridge agent jobs")
	}
	return printOne(a, answer.Job, func(out io.Writer) error { return writeJob(out, answer.Job) })
}

func writeJob(out io.Writer, r jobs.Record) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"order", r.ID}, {"task", string(r.Kind)}, {"state", string(r.State)}, {"begun", stamp(r.Begun)}, {"ended", stamp(r.Ended)}, {"what", r.Detail},
	} {
		if row[1] != "" {
			_, _ = fmt.Fprintf(w, "%s\t%s\n", row[0], printable(row[1]))
		}
	}
	if err := w.Flush(); err != nil || len(r.Result) == 0 {
		return err
	}
	_, err := fmt.Fprintln(jsonWriter{out}, string(r.Result))
	return err
}

func (a *app) agentStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what the agent can do on this machine and what it did to it",
		Example: `  edr-bridge agent status
  edr-bridge agent status -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var st localagent.Status
			runs, err := a.askVerb(cmd.Context(), askStatus, nil, &st)
			if err != nil {
				return err
			}
			if !runs {
				a.say("%s", unattended())
			}
			return printOne(a, st, func(out io.Writer) error { return writeAgentStatus(out, st) })
		},
	}
}

func (a *app) agentListenCommand() *cobra.Command {
	return &cobra.Command{
		Use: listenVerb, Short: "Answer the kernel about executions; the agent starts it", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, err := a.openServing()
			if err != nil {
				return err
			}
			defer w.close()
			cfg, err := w.agentConfig()
			if err != nil {
				return err
			}
			return localagent.ListenExecutions(cmd.Context(), cfg, os.NewFile(3, "agent"))
		},
	}
}
