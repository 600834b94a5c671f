package ksc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	defaultHostCacheTTL = 10 * time.Minute
	maxCachedHosts      = 10_000
	sha256Digits        = 64
)

// ExecutorConfig holds what an Executor needs.
type ExecutorConfig struct {
	// Client is the connection; required. Who made it closes it.
	Client *Client
	// HostCacheTTL is how long a host name is not asked about again; 0 = 10 min.
	HostCacheTTL time.Duration
	// Groups says that somebody goes by administration groups: Intend then adds the path of the host's group to
	// Intent.Names, behind bridge.GroupPrefix. It costs a few reads for each group, remembered for 10 min.
	Groups bool
	// Now is the clock; nil = time.Now. Logger gets details at Debug; nil = nothing.
	Now    func() time.Time
	Logger *slog.Logger
}

// Executor carries orders out through Kaspersky Security Center. It is safe for use by many goroutines at once.
type Executor struct {
	client *Client
	hosts  *cache[string, Host] // by lower-case name; only names that meant exactly one host
	groups *groupTree           // nil when nobody wants groups
	follow *follower
	now    func() time.Time
	log    *slog.Logger
}

var (
	_ bridge.Executor   = (*Executor)(nil)
	_ bridge.Intender   = (*Executor)(nil)
	_ bridge.Reconciler = (*Executor)(nil)
	_ bridge.Follower   = (*Executor)(nil)
)

// NewExecutor checks the settings; it does no I/O and starts nothing.
func NewExecutor(cfg ExecutorConfig) (*Executor, error) {
	if cfg.Client == nil {
		return nil, errors.New("ksc executor: client is required")
	}
	if cfg.HostCacheTTL < 0 {
		return nil, errors.New("ksc executor: host_cache_ttl: must not be negative")
	}
	if cfg.HostCacheTTL == 0 {
		cfg.HostCacheTTL = defaultHostCacheTTL
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	e := &Executor{
		client: cfg.Client, hosts: newCache[string, Host](maxCachedHosts, cfg.HostCacheTTL, cfg.Now),
		follow: newFollower(cfg.Client, cfg.Now, cfg.Logger), now: cfg.Now, log: cfg.Logger,
	}
	if cfg.Groups {
		e.groups = newGroupTree(cfg.Client, cfg.Now)
	}
	return e, nil
}

// Intend resolves the host of the order to its id at KSC and fixes the second and the exact text of the incident. With wait
// false it answers from memory or not at all.
func (e *Executor) Intend(ctx context.Context, o bridge.Order, wait bool) (in bridge.Intent, ok bool, err error) {
	if err := sendable(o); err != nil {
		return bridge.Intent{}, false, e.fail(o, err)
	}
	if err := o.Task.Validate(); err != nil {
		return bridge.Intent{}, false, e.fail(o, &refusal{bridge.ReasonInvalid, err.Error()})
	}
	h, ok, err := e.host(ctx, o, wait)
	if err != nil || !ok {
		return bridge.Intent{}, false, err
	}
	names, ok, err := e.names(ctx, o, h, wait)
	if err != nil || !ok {
		return bridge.Intent{}, false, err
	}
	body, err := bodyOf(h.ID, o.Task)
	if err != nil {
		return bridge.Intent{}, false, e.fail(o, &refusal{bridge.ReasonInvalid, err.Error()})
	}
	return bridge.Intent{
		Target: h.ID, Names: names, Second: e.now().UTC().Truncate(time.Second), Body: body,
	}, true, nil
}

// host returns the one host the order names; ok is false when it may not wait and nobody asked before.
func (e *Executor) host(ctx context.Context, o bridge.Order, wait bool) (h Host, ok bool, err error) {
	key := strings.ToLower(o.Host)
	if h, ok = e.hosts.get(key); ok || !wait {
		return h, ok, nil
	}
	matches, err := e.client.lookup(ctx, o.Host)
	if err != nil {
		return Host{}, false, e.fail(o, err)
	}
	if h, err = single(o.Host, matches); err != nil {
		return Host{}, false, e.fail(o, err)
	}
	e.hosts.put(key, h)
	return h, true, nil
}

// names returns what the host is called, the path of its group among it when groups are wanted. A group the server does not
// tell is left out, and a guard that goes by groups has to refuse; a server that cannot be asked at all is an error like any
// other, because the order may be tried again.
func (e *Executor) names(ctx context.Context, o bridge.Order, h Host, wait bool) (names []string, ok bool, err error) {
	// A host that is named like a group must not pass for one whose group is known.
	names = slices.DeleteFunc(h.Names(), func(n string) bool { return strings.HasPrefix(n, bridge.GroupPrefix) })
	if e.groups == nil || h.GroupID == nil {
		return names, true, nil
	}
	id := int64(*h.GroupID)
	if _, known := e.groups.paths.get(id); !known && !wait {
		return nil, false, nil
	}
	path, err := e.groups.path(ctx, id)
	switch {
	case err == nil:
		return append(names, bridge.GroupPrefix+path), true, nil
	case refusesOne(err):
		e.log.DebugContext(ctx, "administration group cannot be read", "order", o.ID, "host", o.Host, "err", err)
		return names, true, nil
	default:
		return nil, false, e.fail(o, err)
	}
}

// Ping asks the server for a trifle, logging in if need be.
func (e *Executor) Ping(ctx context.Context) error { return e.client.Ping(ctx) }

// CountHosts returns how many hosts the server we talk to knows, without those of secondary servers and with those in
// "Unassigned devices". It asks each time. Errors are *bridge.ExecError.
func (e *Executor) CountHosts(ctx context.Context) (int, error) {
	n, err := e.client.countHosts(ctx)
	if err != nil {
		return 0, e.fail(bridge.Order{}, err)
	}
	return n, nil
}

// sendable refuses orders KSC has no task for or that do not say what to act on.
func sendable(o bridge.Order) error {
	switch t := o.Task.(type) {
	case nil:
		return &refusal{bridge.ReasonInvalid, "the order has no task"}
	case bridge.TerminateProcess:
		if t.Path == "" && t.MD5 == "" && t.SHA256 == "" {
			return &refusal{bridge.ReasonInvalid, "terminateProcess names neither path nor digest: a pid alone means nothing to KSC"}
		}
	case bridge.PreventExecution:
		if t.Hash == "" {
			return &refusal{bridge.ReasonInvalid, "preventExecution through KSC needs the MD5 of the file: a path alone is for the local agent"}
		}
		if len(t.Hash) == sha256Digits {
			return &refusal{bridge.ReasonUnsupported, "preventExecution through KSC takes the MD5 of the file, not its SHA-256"}
		}
	case bridge.BlockAddress:
		return &refusal{bridge.ReasonUnsupported, "KSC has no task blockAddress: send it to the local agent"}
	case bridge.GetFile, bridge.DeleteFile, bridge.QuarantineFile, bridge.IOCScan, bridge.StartProcess, bridge.IsolateHost, bridge.OnDemandScan:
	default:
		return &refusal{bridge.ReasonUnsupported, fmt.Sprintf("KSC has no task for %T", t)}
	}
	return nil
}

// Execute adds the incident of the order's intent, from which Web Console's service makes the task. The receipt says
// accepted: KSC has it, the host has not. An error of class Unknown means that the incident may be there: Reconcile tells.
func (e *Executor) Execute(ctx context.Context, o bridge.Order) (bridge.Receipt, error) {
	if err := sendable(o); err != nil {
		return bridge.Receipt{}, e.fail(o, err)
	}
	if err := whole(o.Intent); err != nil {
		return bridge.Receipt{}, e.fail(o, err)
	}
	id, err := e.client.AddIncident(ctx, incidentOf(o.Intent))
	if err != nil {
		return bridge.Receipt{}, e.fail(o, err)
	}
	bridge.CrashPoint(bridge.CrashAdded)
	return e.complete(ctx, o, id, ""), nil
}

// whole refuses intents nobody fixed before.
func whole(in bridge.Intent) error {
	if in.Target == "" || in.Body == "" || in.Second.IsZero() {
		return &refusal{bridge.ReasonInvalid, "the order has no intent: Intend must be stored before"}
	}
	return nil
}

// complete makes the second of the two calls that are one request. The incident exists, so whatever comes of it the order
// is accepted; and it is tried even when ctx has just ended, because nobody would make up for it.
func (e *Executor) complete(ctx context.Context, o bridge.Order, id int64, detail string) bridge.Receipt {
	r := bridge.Receipt{State: bridge.StateAccepted, Ref: strconv.FormatInt(id, 10), Detail: detail}
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
		defer cancel()
	}
	if err := e.client.UpdateIncident(ctx, id, changeOf(o.Intent)); err != nil {
		note := fmt.Sprintf("unconfirmed: incident %d was added but not set to unhandled: %v", id, err)
		if detail != "" {
			note = detail + "; " + note
		}
		r.Detail = note
	}
	return r
}

// Resolve returns the hosts that answer to host, for people to choose from; no host of a name or address is not an error, an
// unknown id is. Errors are *bridge.ExecError.
func (e *Executor) Resolve(ctx context.Context, host string) ([]HostMatch, error) {
	matches, err := e.client.lookup(ctx, host)
	if err != nil {
		return nil, e.fail(bridge.Order{}, err)
	}
	return matches, nil
}

// fail makes the executor's one error type.
func (e *Executor) fail(o bridge.Order, err error) *bridge.ExecError {
	out := &bridge.ExecError{Executor: bridge.ExecutorKSC, OrderID: o.ID, Class: bridge.Permanent, Err: err}
	if r, ok := errors.AsType[*refusal](err); ok {
		out.Reason = r.reason
		return out
	}
	call, ok := errors.AsType[*CallError](err)
	if !ok {
		out.Class = bridge.Unknown
		return out
	}
	out.Class = call.Class
	_, refused := errors.AsType[*AuthError](err)
	_, missing := errors.AsType[*PasswordError](err)
	switch {
	case refused, missing:
		out.Reason = bridge.ReasonCredentials
	case call.Class == bridge.Unreachable:
		out.Reason = bridge.ReasonUnreachable
	}
	return out
}
