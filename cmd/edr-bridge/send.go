package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// maxReason is how many characters of --reason are kept.
const maxReason = 200

// sendRequest is what the flags of send ask for.
type sendRequest struct {
	task    string
	hosts   []string
	params  []string
	own     map[string]*string // a task's own flags by parameter name
	pid     int
	on, off bool
	via     string
	period  time.Duration
	// permanent is an isolation without an end of its own.
	permanent bool
	// tree is terminateProcess with all descendants.
	tree    bool
	reason  string
	ref     string
	dryRun  bool
	yes     bool
	wait    bool
	timeout time.Duration
}

func (a *app) sendCommand() *cobra.Command {
	req := sendRequest{own: map[string]*string{}}
	cmd := &cobra.Command{
		Use:   "send --task TASK --host HOST [flags]",
		Short: "Send one response task to one or more hosts",
		Long: `Send one response task to one or more hosts.

The task goes to Kaspersky Security Center when one is configured; with --via local it runs on this machine.
It passes the same guards and stands in the same store and audit chain as orders of rules. send hands it to the
running bridge, or carries it out itself where none runs. "accepted" means that KSC took the task, not that the host did it.

Tasks: ` + strings.Join(kindNames(), " ") + `
(edr-bridge tasks describe TASK)`,
		Example: `  # see exactly what would be posted, send nothing
  edr-bridge send --task isolateHost --host WS-014 --action 1 --dry-run

  # isolate
  edr-bridge send --task isolateHost --host WS-014 --action 1 --reason INC-311

  # end a process on this machine, no KSC
  edr-bridge send --task terminateProcess --via local --path /opt/lab/x

  # a parameter by name, several hosts from a file
  edr-bridge send --task deleteFile --param path='C:\Users\Public\a.exe' --host @hosts.txt --yes`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.send(cmd.Context(), cmd, &req) },
	}
	f := cmd.Flags()
	f.StringVar(&req.task, "task", "", "the task (required)")
	f.StringArrayVar(&req.hosts, "host", nil, "GUID, FQDN, NetBIOS or display name, or address; repeat it, or @FILE with one a line. Default without KSC, or with --via local: this machine")
	f.StringArrayVar(&req.hosts, "targetHost", nil, "same as --host")
	f.StringArrayVar(&req.params, "param", nil, "a parameter of the task as name=value; repeat it")
	f.IntVar(&req.pid, "pid", 0, "terminateProcess on this machine: the process, resolved to start time and image before anything happens")
	f.BoolVar(&req.tree, "tree", false, "terminateProcess on this machine: its descendants as well")
	f.BoolVar(&req.on, "on", false, "isolateHost: same as --action 1")
	f.BoolVar(&req.off, "off", false, "isolateHost: same as --action 0")
	f.StringVar(&req.via, "via", "auto", "executor: ksc, local or auto")
	f.DurationVar(&req.period, "for", 0, "isolateHost: when the host is released (default: leases.default, 4h); blockAddress: how long (default 10m)")
	f.BoolVar(&req.permanent, "permanent", false, "isolateHost: isolated until somebody releases the host")
	f.StringVar(&req.reason, "reason", "", "why, for the audit record")
	f.StringVar(&req.ref, "ref", "", "your id of the case; with it, the same task for the same host is sent once only")
	f.BoolVar(&req.dryRun, "dry-run", false, "print what would be posted and send nothing")
	f.BoolVar(&req.yes, "yes", false, "do not ask")
	f.BoolVar(&req.wait, "wait", false, "wait until the hosts have done it; 0 only then")
	f.DurationVar(&req.timeout, "timeout", defaultWait, "how long --wait waits")
	for _, k := range bridge.Kinds() {
		for _, p := range bridge.Describe(k).Params {
			if _, known := req.own[p.Name]; known || f.Lookup(p.Name) != nil {
				continue
			}
			value := f.String(p.Name, "", string(k)+": "+p.Meaning)
			req.own[p.Name] = value
			if p.Type == "bool" {
				f.Lookup(p.Name).NoOptDefVal = "true"
			}
		}
	}
	scriptSpellings(f)
	_ = cmd.RegisterFlagCompletionFunc("task", cobra.FixedCompletions(kindNames(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("via", cobra.FixedCompletions([]string{"auto", "ksc", "local"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func kindNames() []string {
	var names []string
	for _, k := range bridge.Kinds() {
		names = append(names, string(k))
	}
	return names
}

func (a *app) send(ctx context.Context, cmd *cobra.Command, req *sendRequest) error {
	task, err := req.build(cmd)
	if err != nil {
		return err
	}
	if req.tree && task.Kind() != bridge.KindTerminateProcess {
		return usagef("--tree belongs to terminateProcess")
	}
	given := cmd.Flags().Lookup("for")
	if err := req.checkPeriod(task, given != nil && given.Changed); err != nil {
		return err
	}
	w, err := a.open()
	if err != nil {
		return err
	}
	defer w.close()
	orders, err := req.orders(w, task)
	if err != nil {
		return err
	}
	if req.dryRun {
		return a.previewOrders(ctx, w, orders)
	}
	if err := a.confirm(req, task, orders); err != nil {
		return err
	}
	d, err := w.desk(ctx)
	if err != nil {
		return err
	}
	done, err := d.Send(ctx, orders)
	if err != nil {
		return deskError(err, "order", "edr-bridge tasks list")
	}
	a.sayAlone(d, done, req.wait)
	if !req.wait {
		return a.reportOrders(done)
	}
	if done, err = a.waitFor(ctx, d, done, req.timeout); err != nil {
		return err
	}
	return a.reportEnded(done)
}

// addressEarly logs in to KSC and looks the first host up while the store opens: half of the time a send takes. What
// comes of it is kept in the executor; its errors come again where they belong.
func (w *wiring) addressEarly(ctx context.Context, o bridge.Order) {
	guard, err := w.openGuard()
	if err != nil {
		return
	}
	router, server, err := w.router()
	if err != nil || server == nil || o.Subject.PID != 0 || guard.Admit(o).State != bridge.StateQueued {
		return
	}
	if name, v := router.Choose(o); v.State != bridge.StateQueued || name != bridge.ExecutorKSC {
		return
	}
	var early sync.WaitGroup
	early.Go(func() { _, _, _ = server.Intend(ctx, o, true) })
	w.onClose(early.Wait)
}

// reportOrders prints how the orders stand and turns it into the exit code.
func (a *app) reportOrders(orders []bridge.Order) error {
	views, err := viewOrders(orders)
	if err != nil {
		return err
	}
	if err := printOrders(a, views); err != nil {
		return err
	}
	code := exitOfOrders(orders)
	if code == exitDone {
		a.sayDetails(slices.DeleteFunc(views, func(v orderView) bool { return v.Executor != bridge.ExecutorLocal })) // what was seen on this machine
		return nil
	}
	a.sayDetails(views)
	return &problem{exit: code, code: "order." + string(orders[0].State), err: errors.New(orders[0].Detail), quiet: true}
}

// sayDetails tells in words why orders stand as they do; the other formats hold it in the result.
func (a *app) sayDetails(views []orderView) {
	if a.output != "table" {
		return
	}
	for _, v := range views {
		if v.Detail != "" {
			a.say("%s: %s: %s", v.ID, v.State, printable(v.Detail))
		}
	}
}

// sayAlone tells what nobody does for these orders where no bridge runs.
func (a *app) sayAlone(d bridge.Desk, orders []bridge.Order, wait bool) {
	if !alone(d) {
		return
	}
	isolated := func(o bridge.Order) bool {
		// The local agent's isolations end by the system's own timer.
		return bridge.IsIsolation(o.Task) && o.Executor != bridge.ExecutorLocal && o.For >= 0 && !o.State.CameToNothing() && o.State != bridge.StateHeld
	}
	if slices.ContainsFunc(orders, isolated) {
		a.say(unwatched)
	}
	if wait && slices.ContainsFunc(orders, func(o bridge.Order) bool { return !o.State.End() }) {
		a.say("no bridge answers on this state directory: only a running one finds out what the hosts have done")
	}
}

// build makes the typed task of the flags.
func (r *sendRequest) build(cmd *cobra.Command) (bridge.Task, error) {
	if r.task == "" {
		return nil, usagef("--task is required: one of %s", strings.Join(kindNames(), ", "))
	}
	kind, err := bridge.ParseKind(r.task)
	if err != nil {
		return nil, usagef("--task: %w", err)
	}
	values, err := r.values(cmd, kind)
	if err != nil {
		return nil, err
	}
	if r.pid != 0 && kind != bridge.KindTerminateProcess {
		return nil, usagef("--pid belongs to terminateProcess, not to %s", kind)
	}
	if r.pid != 0 && len(values) == 0 {
		return bridge.TerminateProcess{}, nil
	}
	task, err := bridge.TaskFromParams(kind, values)
	if err != nil {
		return nil, usagef("%w (edr-bridge tasks describe %s)", err, kind)
	}
	if err := task.Validate(); err != nil {
		return nil, usagef("%w (edr-bridge tasks describe %s)", err, kind)
	}
	return task, nil
}

// values collects --param and the task's own flags; a flag of another task is an error that says so.
func (r *sendRequest) values(cmd *cobra.Command, kind bridge.Kind) (map[string]string, error) {
	values := map[string]string{}
	if err := scriptDigest(cmd, kind); err != nil {
		return nil, err
	}
	var names []string
	for _, p := range bridge.Describe(kind).Params {
		names = append(names, p.Name)
	}
	for name, value := range r.own {
		if !cmd.Flags().Changed(name) {
			continue
		}
		if !slices.Contains(names, name) {
			return nil, usagef("--%s is no parameter of %s; it takes %s", name, kind, strings.Join(names, ", "))
		}
		values[name] = *value
	}
	for _, p := range r.params {
		name, value, ok := strings.Cut(p, "=")
		if !ok {
			return nil, usagef("--param %q: want name=value", p)
		}
		if _, twice := values[name]; twice {
			return nil, usagef("--param %s: given twice", name)
		}
		values[name] = value
	}
	if r.on || r.off {
		if kind != bridge.KindIsolateHost || r.on == r.off || values["action"] != "" {
			return nil, usagef("--on and --off belong to isolateHost, one of them and without --action")
		}
		values["action"] = map[bool]string{true: "1", false: "0"}[r.on]
	}
	return values, r.encodeIOC(kind, values)
}

// encodeIOC replaces the path of a ZIP by its base64.
func (r *sendRequest) encodeIOC(kind bridge.Kind, values map[string]string) error {
	path := values["ioc"]
	if kind != bridge.KindIOCScan || path == "" {
		return nil
	}
	file, err := os.Open(path) //nolint:gosec // the user names the file
	if err != nil {
		return usagef("--ioc: %w", err)
	}
	defer func() { _ = file.Close() }()
	if values["ioc"], err = bridge.EncodeIOC(file); err != nil {
		return usagef("--ioc %s: %w", path, err)
	}
	return nil
}

// orders addresses the task to each host.
func (r *sendRequest) orders(w *wiring, task bridge.Task) ([]bridge.Order, error) {
	via := bridge.Via(r.via)
	if !slices.Contains([]bridge.Via{bridge.ViaAuto, bridge.ViaKSC, bridge.ViaLocal}, via) {
		return nil, usagef("--via %q: want auto, ksc or local", r.via)
	}
	hosts, err := expandHosts(r.hosts)
	if err != nil {
		return nil, err
	}
	if len(hosts) == 0 {
		if via != bridge.ViaLocal && (hasKSC(w.set) || bridge.IsIsolation(task)) {
			return nil, usagef("--host is required (or --via local for this machine)")
		}
		hosts = []string{w.self.Names[0]}
	}
	var orders []bridge.Order
	for _, host := range hosts {
		o := bridge.Order{
			Host: host, Task: task, Mode: bridge.ModeEnforce, Via: via, For: r.period, Actor: r.actor(),
			Subject: bridge.Process{PID: r.pid, Tree: r.tree},
		}
		nonce := r.ref
		if nonce == "" {
			nonce = time.Now().UTC().Format(time.RFC3339Nano)
		}
		if o.ID, err = bridge.NewOrderID("cli", fmt.Sprint(nonce, "/", r.pid), "", task, host); err != nil {
			return nil, err
		}
		orders = append(orders, o)
	}
	return orders, nil
}

// maxPeriod bounds --for, as the rules do.
const maxPeriod = 30 * 24 * time.Hour

// checkPeriod takes --for and --permanent where they mean something.
func (r *sendRequest) checkPeriod(task bridge.Task, given bool) error {
	isolation, block := bridge.IsIsolation(task), task.Kind() == bridge.KindBlockAddress
	switch {
	case !given && !r.permanent:
	case given && !isolation && !block:
		return usagef("--for belongs to an isolation or to blockAddress")
	case given && (r.period < time.Second || r.period > maxPeriod):
		return usagef("--for: want 1s to %s", maxPeriod)
	case r.permanent && (!isolation || given):
		return usagef("--permanent belongs to an isolation, without --for")
	case r.permanent:
		r.period = -1
	}
	return nil
}

// actor names who sends and why, as it stands in the audit record.
func (r *sendRequest) actor() string {
	who := actor()
	if r.reason == "" {
		return who
	}
	why := []rune(r.reason)
	return who + " (" + string(why[:min(len(why), maxReason)]) + ")"
}
