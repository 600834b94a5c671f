package firewall

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/tailscale/wf"
	"golang.org/x/sys/windows"

	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	// leakPort is that of the discard service (RFC 863): hardly anybody listens, and a refusal proves as much as an answer.
	leakPort = 9
	// leakWait bounds one try; the filtering platform refuses at once.
	leakWait = time.Second
	// leakTries bounds the addresses that are tried.
	leakTries = 3
)

// possible says, before anything else is done, whether machines of this kind can be isolated. A packet filter that does not answer
// yet may answer later.
func (w *Firewall) possible() error {
	if err := w.platform.with(func(engine) error { return nil }); errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

func isIsolation(f filter) bool { return f.Sublayer == isolationSublayer() }

// stands reads the isolation back. With passes it compares the peers as well.
func (w *Firewall) stands(_ context.Context, passes []pass) (st standing, err error) {
	err = w.platform.with(func(e engine) error {
		now := w.cfg.Now()
		read := currentFilters
		if w.cfg.DryRun {
			read = func(e engine, _ time.Time) ([]filter, error) { return readFilters(e) }
		}
		all, err := read(e, now)
		if err != nil {
			return filterVerdict(err)
		}
		st = w.standingOf(slices.DeleteFunc(all, func(f filter) bool { return !isIsolation(f) }), passes, now)
		return nil
	})
	return st, err
}

// standingOf judges the filters of an isolation.
func (w *Firewall) standingOf(all []filter, passes []pass, now time.Time) standing {
	st := standing{exists: len(all) > 0}
	batches := make(map[string][]filter)
	for _, f := range all {
		if f.Action == wf.ActionBlock && !f.Disabled {
			st.on = true
		}
		batches[f.tag.Batch] = append(batches[f.tag.Batch], f)
	}
	if !st.on {
		return st
	}
	// The one that ends last is the one that counts: a block of any of them cuts.
	for _, b := range batches {
		left, forever := b[0].tag.left(now)
		whole := len(b) == b[0].tag.Filters && len(batches) == 1 && !slices.ContainsFunc(b, func(f filter) bool { return f.Disabled })
		if whole && passes != nil {
			whole = sameFilters(isolationFilters(passes, !w.cfg.NoDHCP, w.cfg.NTP), b)
		}
		st.intact = st.intact || whole
		st.permanent = st.permanent || forever
		st.left = max(st.left, left)
	}
	if st.permanent {
		st.left = 0
	}
	return st
}

// sameFilters compares without keys and order.
func sameFilters(want []*wf.Rule, got []filter) bool {
	texts := func(n int, at func(int) *wf.Rule) []string {
		out := make([]string, n)
		for i := range n {
			r := at(i)
			out[i] = fmt.Sprint(windows.GUID(r.Layer), r.Action, r.HardAction, conditionTexts(r.Conditions))
		}
		slices.Sort(out)
		return out
	}
	return slices.Equal(texts(len(want), func(i int) *wf.Rule { return want[i] }), texts(len(got), func(i int) *wf.Rule { return got[i].Rule }))
}

// arm replaces whatever isolation stands, without a gap, by one that lasts for left; 0 = permanent. Nothing has changed after an
// error that is not Undecided. The task scheduler knows the end before the first filter stands.
func (w *Firewall) arm(ctx context.Context, passes []pass, left time.Duration) error {
	return w.put(ctx, left, func([]filter) ([]*wf.Rule, error) { return isolationFilters(passes, !w.cfg.NoDHCP, w.cfg.NTP), nil })
}

// cover has nothing to do: Windows has no network namespaces.
func (w *Firewall) cover(context.Context, []pass, time.Duration) error { return nil }

// renew makes a standing isolation last for left, 0 = permanent: a filter cannot be changed, so all are made anew as they are.
func (w *Firewall) renew(ctx context.Context, left time.Duration) error {
	return w.put(ctx, left, func(standing []filter) ([]*wf.Rule, error) {
		if len(standing) == 0 {
			return nil, ErrNotIsolated
		}
		b := &builder{sublayer: isolationSublayer(), name: standing[0].Name}
		last := standing[len(standing)-1].tag.Batch
		for _, action := range []wf.Action{wf.ActionPermit, wf.ActionBlock} {
			for _, f := range standing {
				if f.tag.Batch == last && f.Action == action {
					b.put(f.Layer, f.Action, f.Conditions...)
				}
			}
		}
		return b.out, nil
	})
}

// put makes the filters of an isolation from those that stand.
func (w *Firewall) put(ctx context.Context, left time.Duration, filters func(standing []filter) ([]*wf.Rule, error)) error {
	return w.platform.with(func(e engine) error {
		now := w.cfg.Now()
		before, err := currentFilters(e, now)
		if err != nil {
			return filterVerdict(err)
		}
		t := tag{Since: now.Unix()}
		if left > 0 {
			t.Until = now.Add(left).Unix()
			if err := w.platform.plan(ctx, nearest(before, now.Add(left), now)); err != nil {
				return verdict.Untouched("nobody would end the isolation: %w", err)
			}
		}
		want, err := filters(slices.DeleteFunc(slices.Clone(before), func(f filter) bool { return !isIsolation(f) }))
		if err != nil {
			return err
		}
		if err := sign(want, t); err != nil {
			return verdict.Untouched("%w", err)
		}
		return replace(e, want, isIsolation, w.testOnlyApplied)
	})
}

// disarm takes the isolation away; nothing to take away is no error.
func (w *Firewall) disarm(context.Context) error {
	return w.platform.with(func(e engine) error { return drop(e, isIsolation) })
}

// sweep has nothing to do: Windows has no network namespaces.
func (w *Firewall) sweep(context.Context) error { return nil }

// owns answers no: whoever is an administrator may change filters here. Run puts them back.
func (w *Firewall) owns() bool { return false }

// disown has nothing to give up; the isolation stands on.
func (w *Firewall) disown() {}

// cutForbidden ends the connections an isolation with these passes does not let through, and counts them.
func (w *Firewall) cutForbidden(ctx context.Context, passes []pass) (int, error) {
	return cutFlows(ctx, func(f flow) bool {
		return !slices.ContainsFunc(passes, func(p pass) bool { return p.permits(f.remote, f.local.Port()) })
	})
}

// watch has nobody to ask; the filters are looked at every second.
func (w *Firewall) watch(ctx context.Context, _ chan<- struct{}) { <-ctx.Done() }

// leaks tries to reach addresses that are no peers, and returns the one it could reach. Gateways and name servers are near and there.
func leaks(ctx context.Context, passes []pass) (netip.Addr, error) {
	adapters, err := listAdapters()
	if err != nil {
		return netip.Addr{}, err
	}
	var near []netip.Addr
	for _, a := range adapters {
		near = append(near, slices.Concat(a.gateways, a.servers)...)
	}
	tried := 0
	for _, addr := range near {
		target := netip.AddrPortFrom(addr, leakPort)
		if addr.IsLoopback() || tried == leakTries || slices.ContainsFunc(passes, func(p pass) bool { return p.permits(target, 0) }) {
			continue
		}
		tried++
		if reaches(ctx, target) {
			return addr, nil
		}
	}
	return netip.Addr{}, nil
}

// reaches reports whether a packet came back: a refusal did. The filtering platform answers WSAEACCES before one leaves.
func reaches(ctx context.Context, target netip.AddrPort) bool {
	ctx, cancel := context.WithTimeout(ctx, leakWait)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", target.String())
	if err == nil {
		_ = c.Close()
		return true
	}
	return errors.Is(err, windows.WSAECONNREFUSED)
}
