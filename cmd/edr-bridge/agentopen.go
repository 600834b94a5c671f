package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/configs"
	"github.com/edr-bridge/edr-bridge/localagent"
	"github.com/edr-bridge/edr-bridge/localagent/firewall"
	"github.com/edr-bridge/edr-bridge/localagent/ioc"
	"github.com/edr-bridge/edr-bridge/localagent/prevention"
	"github.com/edr-bridge/edr-bridge/localagent/scan"
	"github.com/edr-bridge/edr-bridge/localagent/socket"
	"github.com/edr-bridge/edr-bridge/localagent/vault"
)

// localExecutor is the agent: in this process, or behind its socket.
type localExecutor interface {
	bridge.Executor
	bridge.ProcessResolver
	bridge.Follower
	bridge.Repeater
}

// openLocal returns what carries out the orders for this machine, or nil when nobody does.
func (w *wiring) openLocal() (localExecutor, error) {
	switch {
	case !w.set.Local.Enabled:
		return nil, nil //nolint:nilnil // no agent is no error
	case w.set.Local.Separate:
		return socket.NewClient(w.set.Local.Socket), nil
	default:
		return w.openAgent()
	}
}

// openAgent makes the agent of this process; whether it may act is for the caller to ask.
func (w *wiring) openAgent() (*localagent.Agent, error) {
	if w.agent != nil {
		return w.agent, nil
	}
	cfg, err := w.agentConfig()
	if err != nil {
		return nil, err
	}
	agent, err := localagent.New(cfg)
	if err != nil {
		return nil, fail(exitConfig, "config.local", err, "")
	}
	localagent.EnablePrivileges()
	w.agent = agent
	w.onClose(func() { _ = agent.Close() })
	return agent, nil
}

// agentConfig is what the settings say about the agent.
func (w *wiring) agentConfig() (localagent.Config, error) {
	protect, err := bridge.NewProtect(w.protect())
	if err != nil {
		return localagent.Config{}, fail(exitConfig, "config.protect", err, "")
	}
	l := w.set.Local
	state, err := filepath.Abs(l.AgentState)
	if err != nil {
		return localagent.Config{}, fail(exitConfig, "config.local", err, "")
	}
	listener, err := w.listenerCommand()
	if err != nil {
		return localagent.Config{}, err
	}
	mode := prevention.Block
	if l.Prevention.Mode == "log" {
		mode = prevention.LogOnly
	}
	return localagent.Config{
		Self: w.self, DryRun: l.DryRun, Grace: l.Grace, MaxTargets: l.MaxTargets, Protected: protect.CheckProcess, ProtectedPath: protect.CheckFile,
		Servers: w.peers(), NeverBlock: w.neverBlock(), State: state, Own: w.ownFiles(), Resident: w.resident, Check: w.agentCheck(protect), Held: func() bool { return w.hold.Get().Active },
		Isolation: firewall.Config{
			Needs: w.needs(), Allow: allowed(l.Isolation.Allow), NTP: l.Isolation.NTP, HostOnly: !l.Isolation.Namespaces, Tampered: w.tampered,
		},
		Quarantine:         vault.Config{MaxFile: int64(l.Quarantine.MaxFile), Quota: int64(l.Quarantine.Quota), Retention: l.Quarantine.Keep},
		Prevention:         prevention.Config{Mode: mode, Listener: listener, Denied: w.denied()},
		Scan:               scan.Config{Clamd: l.Scan.Clamd, Signatures: l.Scan.Signatures, MaxFile: int64(l.Scan.MaxFile), MaxTime: l.Scan.MaxTime, Workers: l.Scan.Workers},
		IOC:                ioc.Config{MaxFile: int64(l.Scan.MaxFile), MaxTime: l.Scan.MaxTime, Workers: l.Scan.Workers},
		QuarantineFindings: l.Scan.Quarantine,
		Start:              localagent.LauncherConfig{User: l.Start.User, TimeLimit: l.Start.TimeLimit, CgroupParent: l.Start.Cgroup, FindGroup: w.resident},
		Logger:             w.log,
	}, nil
}

// peers are the servers the bridge reads alerts from and commands through: none of them may be ended where it runs on this machine.
func (w *wiring) peers() []string {
	var list []string
	add := func(address string) {
		_, port, _ := net.SplitHostPort(address)
		if _, err := strconv.ParseUint(port, 10, 16); err == nil || path.IsAbs(strings.TrimPrefix(address, "unix://")) {
			list = append(list, address)
		}
	}
	for _, k := range w.set.Servers() {
		add(k.Address)
	}
	if w.set.KUMA != nil {
		add(w.set.KUMA.Address)
	}
	for _, s := range w.set.Sources {
		for _, node := range s.Nodes() {
			add(node)
		}
	}
	return list
}

// agentCheck judges orders where they are carried out: the tasks this machine allows and the never-touch lists, once more.
func (w *wiring) agentCheck(protect *bridge.Protect) func(bridge.Order) (bridge.Reason, string) {
	allowed := w.set.Local.Tasks
	return func(o bridge.Order) (bridge.Reason, string) {
		kind := string(o.Task.Kind())
		if len(allowed) > 0 && !slices.Contains(allowed, kind) && !bridge.IsRelease(o.Task) {
			return bridge.ReasonLocalTasks, fmt.Sprintf("local.tasks does not list %s (%s)", kind, w.set.At("local.tasks"))
		}
		return protect.Check(o)
	}
}

// ownFiles are the files bridge and agent live by: the settings, what they name, and the rules and presets there are at the start.
func (w *wiring) ownFiles() []string {
	own := w.set.Files()
	rules, _ := w.set.RulePaths() // what is wrong with a pattern the loader says
	for _, path := range append(rules, w.set.File()) {
		if abs, err := filepath.Abs(path); path != "" && err == nil {
			own = append(own, abs)
		}
	}
	return own
}

// kscPorts are what the Network Agent and OpenAPI of the Administration Server use (support.kaspersky.com/help/KSC/14.2/en-US/158830.htm).
const kscPorts = "13000,13291,13299,14000"

// needs are the peers this machine is commanded through: an isolation keeps them.
func (w *wiring) needs() []firewall.Peer {
	var peers []firewall.Peer
	add := func(address, ports, why string) {
		host, port, err := net.SplitHostPort(address)
		if err != nil || host == "" {
			return // a unix socket, or nothing
		}
		if ports == "" {
			ports = port
		} else if !slices.Contains(strings.Split(ports, ","), port) {
			ports += "," + port
		}
		peers = append(peers, firewall.Peer{Host: host, Ports: ports, Why: why})
	}
	for profile, k := range w.set.Servers() {
		add(k.Address, kscPorts, strings.TrimSpace("KSC "+profile))
	}
	if w.set.KUMA != nil {
		add(w.set.KUMA.Address, "", "KUMA")
	}
	for name, s := range w.set.Sources {
		for _, node := range s.Nodes() {
			add(node, "", "Redis of source "+name)
		}
	}
	slices.SortFunc(peers, func(a, b firewall.Peer) int { return strings.Compare(a.Why+a.Host, b.Why+b.Host) })
	return peers
}

// unkept are the Redis sources whose servers the settings do not name: Sentinel and Cluster tell them, and may name others tomorrow. An
// isolation keeps, and a block spares, only what is named.
func (w *wiring) unkept() []string {
	var names []string
	for name, s := range w.set.Sources {
		if s.Type.Redis() && (s.Sentinel != nil || s.Cluster) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// unkeptText says what to do about them.
const unkeptText = "an isolation keeps only the addresses in the settings, and Sentinel or Cluster leads to others: name all servers in local.isolation.allow and protect.addresses"

// allowed are the peers of the settings.
func allowed(list []configs.Peer) []firewall.Peer {
	peers := make([]firewall.Peer, 0, len(list))
	for _, p := range list {
		protocol := firewall.Protocol(p.Protocol)
		if protocol == "" {
			protocol = firewall.ProtocolAny
		}
		peers = append(peers, firewall.Peer{
			Host: p.Host, Ports: strings.Join(p.Ports, ","), Protocol: protocol, Direction: firewall.Direction(p.Direction), Why: "local.isolation.allow",
		})
	}
	return peers
}

// listenerCommand is how the agent starts the process that answers the kernel about executions.
func (w *wiring) listenerCommand() ([]string, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("own program: %w", err)
	}
	command := []string{exe, "agent", listenVerb}
	if file := w.set.File(); file != "" {
		file, err := filepath.Abs(file)
		if err != nil {
			return nil, fmt.Errorf("settings: %w", err)
		}
		command = append(command, "--config", file)
	}
	return command, nil
}

// tampered is told when somebody else changed an isolation.
func (w *wiring) tampered(what string) {
	w.log.Error("isolation was tampered with", "what", what)
	w.noteAgent(bridge.Note{What: bridge.NoteTampered, Detail: what})
}

// denied is told of executions a rule is about. Each kind is told once a minute: a program that tries again and again must fill neither log
// nor audit.
func (w *wiring) denied() func(prevention.Denial) {
	d := &denials{tell: func(n prevention.Denial, text string, times int) {
		what, message := denialWords(n.Outcome)
		w.log.Warn(message, "what", text, "times", times) //nolint:sloglint // one of three constants
		w.noteAgent(bridge.Note{What: what, Detail: text, Count: int64(times)})
	}}
	w.onClose(d.close)
	return d.add
}

// denialWords says what an outcome is recorded and logged as.
func denialWords(o prevention.Outcome) (what, message string) {
	switch o {
	case prevention.Denied:
		return bridge.NotePrevented, "execution prevented"
	case prevention.Broken:
		return bridge.NoteRuleStopped, "execution not prevented, because the breaker stopped its rule: look at the rule, then resume"
	default:
		return bridge.NoteNotPrevented, "execution not prevented"
	}
}

// noteAgent records what the agent saw; without a store (edr-bridge agent) the log is the record.
func (w *wiring) noteAgent(n bridge.Note) {
	if w.store == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := w.store.Note(ctx, n); err != nil {
		w.log.Error("what the agent saw was not recorded", "what", n.What, "err", err)
	}
}

// errNoAgent is what verbs about the agent say where there is none.
var errNoAgent = errors.New("the local agent is not enabled (local.enabled)")
