package firewall

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	defaultIsolateFor = 4 * time.Hour
	// maxIsolateFor is the longest isolation with an end; what shall last longer is permanent and says so.
	maxIsolateFor = 9999 * time.Hour
	// finishWait bounds the part of an isolation that goes on although the caller left: half of it helps nobody.
	finishWait = 20 * time.Second
	// timerSlack is how much a kernel timer may differ from the record before it is set anew.
	timerSlack = 5 * time.Second
	// maxWords bounds what is recorded of reasons and names: they come from alerts.
	maxWords = 512
)

var (
	// ErrNotIsolated is returned by Extend when this machine is not isolated.
	ErrNotIsolated = errors.New("this machine is not isolated")
	// errOwned says that the table belongs to another process, which follows the record.
	errOwned = errors.New("a running agent owns the isolation")
)

// Isolation is the wish to cut this machine off.
type Isolation struct {
	// OrderID names the order.
	OrderID string
	// For is how long, up to 9999 hours; zero = 4 hours. It is not looked at when Permanent is set.
	For time.Duration
	// Permanent isolates until somebody releases the machine or restarts it without an agent.
	Permanent bool
	// Claim holds on by itself: Lapse does not end the isolation before the time of this wish. Release does.
	Claim bool
	// Reason and Who say why and for whom, for people.
	Reason, Who string
}

// standing is an isolation as the packet filter of the system has it.
type standing struct {
	// exists says that something of an isolation is there, on that it cuts at this moment.
	exists, on bool
	permanent  bool
	// left is until the system itself ends it; 0 when permanent.
	left time.Duration
	// intact says that rules and peers are as they have to be, owned that nobody but this process can change them.
	intact, owned bool
	// ownable says that this process should own it and does not.
	ownable bool
	// others counts the other network namespaces it stands in; uncovered names those it does not, and freed those among them
	// in which it stood before.
	others           int
	uncovered, freed []string
	// behind names the other network namespaces with such a table while this machine is not isolated; stale says that we put one there.
	behind []string
	stale  bool
}

// lasts reports whether it stands as it has to, for about that long; left 0 = permanent.
func (s standing) lasts(left time.Duration) bool {
	return s.intact && s.ends(left)
}

// ends reports whether it cuts, for about that long; left 0 = permanent.
func (s standing) ends(left time.Duration) bool {
	return s.on && s.permanent == (left == 0) && (s.permanent || (s.left-left).Abs() <= timerSlack)
}

// Isolate cuts this machine off from everything but loopback, neighbour discovery, DHCP, the name servers in use and the
// configured peers, in both directions, IPv4 and IPv6, and ends the connections that are left. The system's own timer gives
// the network back, whatever becomes of this program; a permanent isolation ends by Release only.
//
// The peers' names are resolved before the cut. After it needed peers that could be reached before must be reached again and
// a foreign address must not; else everything is taken back. Isolating again never shortens. The record is on disk before the
// first packet is lost. It blocks for some 10 ms, and up to 8 s when peers do not answer. Undo: Release.
//
// Errors are *verdict.Error.
func (w *Firewall) Isolate(ctx context.Context, o Isolation) (bridge.Receipt, error) {
	if o.For == 0 && !o.Permanent {
		o.For = defaultIsolateFor
	}
	if !o.Permanent && (o.For < time.Second || o.For > maxIsolateFor) {
		return bridge.Receipt{}, verdict.Refuse(bridge.ReasonInvalid, "an isolation lasts between 1 second and %s, or is permanent, not %s", maxIsolateFor, o.For)
	}
	if err := verdict.Stopped(ctx, "not begun"); err != nil {
		return bridge.Receipt{}, err
	}
	missing := w.resolve(ctx)
	for _, p := range w.peers {
		if err := missing[p.host]; err != nil && p.need {
			return bridge.Receipt{}, verdict.Untouched("not isolated: the address of %s cannot be found, and this machine would be cut off from it: %w", p.text(), err)
		}
	}
	servers, err := w.nameServers()
	if err != nil {
		return bridge.Receipt{}, verdict.Untouched("not isolated: %w", err)
	}
	if err := w.possible(); err != nil {
		return bridge.Receipt{}, err
	}
	if w.cfg.DryRun {
		return verdict.DryRun(fmt.Sprintf("would have isolated this machine %s; %s", forText(o.For, o.Permanent), w.keeping(missing))), nil
	}
	w.isolation.Lock()
	defer w.isolation.Unlock()
	unlock, err := w.lock(ctx)
	if err != nil {
		return bridge.Receipt{}, verdict.Untouched("not isolated: %w", err)
	}
	defer unlock()
	return w.isolate(ctx, o, servers, missing, unlock)
}

// isolate needs both locks.
func (w *Firewall) isolate(ctx context.Context, o Isolation, servers []netip.Addr, missing map[string]error, unlock func()) (bridge.Receipt, error) {
	before, err := w.stands(ctx, nil)
	if err != nil {
		return bridge.Receipt{}, err
	}
	old := w.known()
	rec := w.merged(o, old, before)
	if old == nil || w.cfg.NoDNS {
		rec.Servers = servers
	}
	passes := w.passes(rec.Servers)
	open, dark := w.baseline(ctx)
	if err := verdict.Stopped(ctx, "not begun"); err != nil {
		return bridge.Receipt{}, err
	}
	w.claimNamespaces()
	if err := w.saveRecord(rec); err != nil {
		return bridge.Receipt{}, verdict.Untouched("not isolated: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishWait)
	defer cancel()
	left := rec.left(w.now())
	err = w.arm(ctx, passes, left)
	if errors.Is(err, errOwned) {
		if err := w.handOver(ctx, unlock, func(s standing) bool { return s.lasts(left) }); err != nil {
			return bridge.Receipt{}, verdict.Untouched("not isolated anew: %w", errors.Join(err, w.saveRecord(old)))
		}
		return verdict.Done("isolated already, by the running agent; goes on " + w.untilText(rec)), nil
	}
	var st standing
	if err == nil {
		st, err = w.proved(ctx, passes, left, open)
	}
	if err != nil {
		return bridge.Receipt{}, w.takeBack(ctx, before, old, err)
	}
	w.current, w.armed = rec, append([]pass{}, passes...)
	nudge(w.wake)
	words := []string{"isolated " + w.untilText(rec)}
	if before.on {
		words[0] = "isolated already; goes on " + w.untilText(rec)
	}
	cut, err := w.cutForbidden(ctx, passes)
	words = append(words, fmt.Sprintf("cut %d connections", cut))
	if err != nil {
		// The filter holds: what could not be cut has no packets any more.
		w.log.Warn("connections of an isolated machine were not cut", "order", o.OrderID, "err", err)
		words[1] += ", others run into the filter"
	}
	words = append(words, w.keeping(missing))
	if len(dark) > 0 {
		words = append(words, "could not be reached before either: "+verdict.List(dark))
	}
	if st.others > 0 {
		words = append(words, fmt.Sprintf("%d other network namespaces", st.others))
	}
	if len(st.uncovered) > 0 {
		words = append(words, "NOT covered: "+verdict.List(st.uncovered))
		w.log.Warn("network namespaces are not isolated", "order", o.OrderID, "namespaces", st.uncovered)
	}
	return verdict.Done(strings.Join(words, "; ")), nil
}

// known returns the live isolation this process or, by its record, another one made; nil = none. It needs both locks.
func (w *Firewall) known() *record {
	disk, err := w.loadRecord()
	if err != nil {
		w.log.Warn("record of an isolation", "err", err)
	}
	if w.current != nil && disk != nil && disk.Serial > w.current.Serial {
		// Another process changed it, and the guard has not looked since.
		w.current, w.armed = nil, nil
		if disk.live() {
			w.current = disk
		}
	}
	r := disk
	if w.current != nil {
		r = w.current
	}
	if !r.live() || r.left(w.now()) < 0 {
		return nil
	}
	return r
}

// merged returns the record of the wish and of what stands already: the later end wins.
func (w *Firewall) merged(o Isolation, old *record, before standing) *record {
	now := w.now()
	rec := &record{
		Version: recordVersion, OrderID: short(o.OrderID), Reason: short(o.Reason), Who: short(o.Who),
		Since: now.wall, deadline: deadline{Armed: now.wall}, Permanent: o.Permanent, Names: w.names.all(),
	}
	left := o.For
	if old != nil {
		rec.OrderID, rec.Reason, rec.Who, rec.Since = old.OrderID, old.Reason, old.Who, old.Since
		rec.Servers = old.Servers
		rec.Permanent = rec.Permanent || old.Permanent
		left = max(left, old.left(now))
		if old.Claim.left(now) > 0 {
			rec.Claim = old.Claim
		}
	}
	if o.Claim && !o.Permanent && o.For > rec.Claim.left(now) {
		rec.Claim = now.in(o.For)
	}
	if before.on {
		rec.Permanent = rec.Permanent || before.permanent
		left = max(left, before.left)
	}
	if !rec.Permanent {
		rec.deadline = now.in(min(left, maxIsolateFor))
	}
	return rec
}

// proved reads the isolation back and tries both sides of it.
func (w *Firewall) proved(ctx context.Context, passes []pass, left time.Duration, open reached) (standing, error) {
	if w.testOnlyArmed != nil {
		w.testOnlyArmed()
	}
	st, err := w.stands(ctx, passes)
	if err != nil {
		return st, err
	}
	if !st.lasts(left) {
		return st, errors.New("the isolation did not read back: does something else change the packet filter?")
	}
	if lost := w.lost(ctx, open); len(lost) > 0 {
		return st, fmt.Errorf("%s could be reached before and not any more: another rule drops it, or it has further addresses or ports to be kept", verdict.List(lost))
	}
	leak, err := leaks(ctx, passes)
	if err != nil {
		return st, fmt.Errorf("try a foreign address: %w", err)
	}
	if leak.IsValid() {
		return st, fmt.Errorf("%s, which is no peer, can still be reached: the rules do not see the traffic", leak)
	}
	return st, nil
}

// takeBack makes everything what it was before and says why.
func (w *Firewall) takeBack(ctx context.Context, before standing, old *record, why error) error {
	var err error
	result := "nothing is cut off"
	if before.on {
		result = "the isolation that stood before goes on"
		var servers []netip.Addr
		if old != nil {
			servers = old.Servers
		}
		passes := w.passes(servers)
		if err = w.arm(ctx, passes, before.left); err == nil && w.current != nil {
			w.armed = append([]pass{}, passes...)
		}
	} else {
		err = w.disarm(ctx)
	}
	err = errors.Join(err, w.saveRecord(old))
	if st, serr := w.stands(ctx, nil); serr != nil || st.on != before.on {
		err = errors.Join(err, serr, fmt.Errorf("isolated = %v, was %v", st.on, before.on))
	}
	if err != nil {
		return verdict.Undecided("the isolation failed (%w), and taking it back met: %w", why, err)
	}
	if v, ok := errors.AsType[*verdict.Error](why); ok && v.Class == bridge.Permanent {
		return v
	}
	return verdict.Untouched("the isolation was taken back, %s: %w", result, why)
}

// handOver lets the agent that owns the table read the record, and waits until it has followed.
func (w *Firewall) handOver(ctx context.Context, unlock func(), done func(standing) bool) error {
	unlock()
	ctx, cancel := context.WithTimeout(ctx, 3*lookEvery)
	defer cancel()
	poll := time.NewTicker(lookEvery / 20)
	defer poll.Stop()
	for {
		st, err := w.stands(ctx, nil)
		if err != nil {
			return err
		}
		if done(st) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w and does not follow the record: it has another state folder, or hangs", errOwned)
		case <-poll.C:
		}
	}
}

// keeping says who is still talked to.
func (w *Firewall) keeping(missing map[string]error) string {
	var kept []string
	for _, p := range w.peers {
		if missing[p.host] == nil && !slices.Contains(kept, p.text()) {
			kept = append(kept, p.text())
		}
	}
	text := "kept no peer"
	if len(kept) > 0 {
		text = "kept " + verdict.List(kept)
	}
	if len(missing) > 0 {
		text += "; without an address, so not kept: " + verdict.List(slices.Sorted(maps.Keys(missing)))
	}
	return text
}

func (w *Firewall) untilText(r *record) string {
	if r.Permanent {
		return "permanently, until it is released"
	}
	return fmt.Sprintf("until %s (%s)", r.Until.UTC().Format(time.RFC3339), r.left(w.now()).Round(time.Second))
}

func forText(d time.Duration, permanent bool) string {
	if permanent {
		return "permanently"
	}
	return "for " + d.String()
}

func short(s string) string {
	if len(s) > maxWords {
		s = s[:maxWords]
	}
	return strings.ToValidUTF8(s, "?")
}
