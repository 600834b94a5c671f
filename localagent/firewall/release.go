package firewall

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// extendSlack is how much sooner than wished an isolation may end without being renewed for it.
const extendSlack = time.Second

// EmergencyRelease is what a person types on the console of an isolated Linux machine whose agent does not answer. The agent
// goes first: as long as it runs, the kernel lets nobody else delete its table ("Operation not permitted").
const EmergencyRelease = `systemctl stop edr-bridge-agent edr-bridge; kill -9 $(pidof edr-bridge)
rm -f /var/lib/edr-bridge*/isolation/isolation.json # else the next start isolates again
nft delete table inet edr_bridge_isolation
for n in /proc/[0-9]*/ns/net /run/netns/* /run/docker/netns/*; do   # containers, and namespaces somebody pinned
  nsenter --net="$n" nft delete table inet edr_bridge_isolation 2>/dev/null
done
nft list tables                                     # edr_bridge_isolation is not among them any more
`

// State is whether and how this machine is isolated.
type State struct {
	// On says that the packet filter cuts at this moment; the rest but Behind is empty when it does not.
	On bool
	// Until is when the system's own timer gives the network back; zero when Permanent.
	Until     time.Time
	Permanent bool
	// Since, OrderID, Reason and Who are those of the first order; empty when no record says so. The texts come from alerts.
	Since                time.Time
	OrderID, Reason, Who string
	// Owned says that nobody but this process can change the rules, Intact that they are as they have to be.
	Owned, Intact bool
	// Behind names the other network namespaces in which an isolation was left behind; it is told when this machine is not isolated.
	Behind []string
	// Namespaces counts the other network namespaces that are cut off as well; Uncovered names those that are not.
	Namespaces int
	Uncovered  []string
	// Peers are those still talked to, in words.
	Peers []string
	// Trouble says what is wrong with the record; empty = nothing. Such an isolation still ends by the system's timer, but is not
	// armed again after a restart.
	Trouble string
}

// Isolated returns whether this machine is isolated, as the packet filter has it. It blocks for about a millisecond, more when
// the machine has many network namespaces.
func (w *Firewall) Isolated(ctx context.Context) (State, error) {
	if cause := context.Cause(ctx); cause != nil {
		return State{}, fmt.Errorf("look at the isolation: %w", cause)
	}
	w.isolation.Lock()
	defer w.isolation.Unlock()
	st, err := w.stands(ctx, nil)
	if err != nil {
		return State{}, fmt.Errorf("look at the isolation: %w", err)
	}
	if !st.on && st.stale {
		return State{Behind: st.behind}, nil
	}
	if !st.on {
		return State{}, nil
	}
	out := State{
		On: true, Permanent: st.permanent, Owned: st.owned, Intact: st.intact, Namespaces: st.others, Uncovered: st.uncovered,
	}
	if !st.permanent {
		out.Until = w.cfg.Now().Add(st.left)
	}
	r := w.current
	if r == nil {
		if r, err = w.loadRecord(); err != nil {
			out.Trouble = err.Error()
		}
	}
	if r.live() {
		out.Since, out.OrderID, out.Reason, out.Who = r.Since, r.OrderID, r.Reason, r.Who
		w.recall(r)
	} else if out.Trouble == "" {
		out.Trouble = "no record says who isolated this machine"
	}
	servers := []netip.Addr(nil)
	if r.live() {
		servers = r.Servers
	}
	for _, p := range w.passes(servers) {
		out.Peers = append(out.Peers, p.describe())
	}
	return out, nil
}

// Release gives this machine its network back, whoever else holds the isolation. It is done as well when the machine was not
// isolated. It blocks for some 10 ms. Errors are *verdict.Error. Undo: Isolate.
func (w *Firewall) Release(ctx context.Context, orderID string) (bridge.Receipt, error) {
	return w.release(ctx, orderID, false)
}

// Lapse is Release for the leases whose time is over: a claim that is still ahead goes on, and the isolation ends with it.
func (w *Firewall) Lapse(ctx context.Context, orderID string) (bridge.Receipt, error) {
	return w.release(ctx, orderID, true)
}

func (w *Firewall) release(ctx context.Context, orderID string, lapse bool) (bridge.Receipt, error) {
	if err := verdict.Stopped(ctx, "not begun"); err != nil {
		return bridge.Receipt{}, err
	}
	if err := w.possible(); err != nil {
		return bridge.Receipt{}, err
	}
	w.isolation.Lock()
	defer w.isolation.Unlock()
	st, err := w.stands(ctx, nil)
	if err != nil {
		return bridge.Receipt{}, err
	}
	if w.cfg.DryRun {
		if !st.on {
			return verdict.DryRun("would have released this machine, which is not isolated"), nil
		}
		return verdict.DryRun("would have released this machine"), nil
	}
	unlock, err := w.lock(ctx)
	if err != nil {
		return bridge.Receipt{}, verdict.Untouched("not released: %w", err)
	}
	defer unlock()
	old := w.known()
	if !st.exists && old == nil && len(st.behind) == 0 {
		return verdict.Done("was not isolated"), nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishWait)
	defer cancel()
	if now := w.now(); lapse && st.on && old != nil && old.Claim.left(now) > 0 {
		rec := *old
		rec.deadline, rec.Permanent = now.in(old.Claim.left(now)), false
		if err := w.reset(ctx, old, &rec, unlock); err != nil {
			return bridge.Receipt{}, verdict.Undecided("go back to what else holds the isolation: %w", err)
		}
		return verdict.Done("the isolation goes on " + w.untilText(&rec) + ": another order holds it without a lease"), nil
	}
	// The record goes first: a crash in between must not let the next start isolate again.
	if err := w.saveEnd(orderID, w.now().wall); err != nil {
		return bridge.Receipt{}, verdict.Untouched("not released: %w", err)
	}
	err = w.disarm(ctx)
	if errors.Is(err, errOwned) {
		err = w.handOver(ctx, unlock, func(s standing) bool { return !s.on && !s.stale })
	}
	after, serr := w.stands(ctx, nil)
	switch {
	case serr != nil:
		err = errors.Join(err, serr)
	case after.on:
		err = cmp.Or(err, errors.New("the isolation still stands"))
	default:
		// This machine is free; what other namespaces make of it is told.
		err = nil
	}
	if err != nil {
		err = errors.Join(err, w.saveRecord(old))
		return bridge.Receipt{}, verdict.Undecided("release: %w", err)
	}
	w.current, w.armed = nil, nil
	nudge(w.wake)
	text := "released: the network is back"
	if !st.on {
		text = "was not isolated"
	}
	if len(after.behind) > 0 {
		text += "; NOT released: " + verdict.List(after.behind)
		w.log.Warn("network namespaces are not released", "order", orderID, "namespaces", after.behind)
	}
	return verdict.Done(text), nil
}

// Extend lets an isolation go on at least until then, or with the zero time until somebody releases the machine: it never shortens.
// Nothing happens, within about a millisecond, when the isolation lasts that long anyway. It answers ErrNotIsolated when this
// machine is not isolated, or is being released.
func (w *Firewall) Extend(ctx context.Context, until time.Time) error {
	if err := w.extend(ctx, until); err != nil {
		return fmt.Errorf("extend the isolation: %w", err)
	}
	return nil
}

func (w *Firewall) extend(ctx context.Context, until time.Time) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	forever := until.IsZero()
	left := until.Sub(w.cfg.Now())
	if !forever && (left <= 0 || left > maxIsolateFor) {
		return fmt.Errorf("%s is not within the next %s", until.UTC().Format(time.RFC3339), maxIsolateFor)
	}
	w.isolation.Lock()
	defer w.isolation.Unlock()
	unlock, err := w.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	st, err := w.stands(ctx, nil)
	if err != nil {
		return err
	}
	had := w.current != nil
	old := w.known()
	switch {
	case !st.on, had && old == nil:
		return ErrNotIsolated
	case st.permanent, !forever && left-st.left < extendSlack, w.cfg.DryRun:
		return nil
	}
	return w.reset(ctx, old, w.merged(Isolation{For: max(left, 0), Permanent: forever}, old, st), unlock)
}

// reset makes the end of a standing isolation that of rec; after an error the record is what it was. It needs both locks.
func (w *Firewall) reset(ctx context.Context, old, rec *record, unlock func()) error {
	if err := w.saveRecord(rec); err != nil {
		return err
	}
	left := rec.left(w.now())
	err := w.renew(ctx, left)
	if errors.Is(err, errOwned) {
		err = w.handOver(ctx, unlock, func(s standing) bool { return s.ends(left) })
	}
	if err == nil {
		var st standing
		if st, err = w.stands(ctx, nil); err == nil && !st.ends(left) {
			err = errors.New("the new end did not read back")
		}
	}
	if err != nil {
		return errors.Join(err, w.saveRecord(old))
	}
	w.current = rec
	return nil
}

// recall takes over the addresses a record knows for names nothing is known of.
func (w *Firewall) recall(r *record) {
	for host, addrs := range r.Names {
		if len(w.names.of(host)) == 0 {
			w.names.learn(host, addrs, w.cfg.Now())
		}
	}
}
