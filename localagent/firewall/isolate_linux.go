package firewall

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// armTries is how often a change is tried that another program came in between with.
const armTries = 3

// platform is what the packet filter needs between calls.
type platform struct {
	// memory is what is known of the block table; Firewall.mu guards it.
	memory *blockMemory
	// mu guards what follows: namespaces are worked on at the same time.
	mu sync.Mutex
	// owners are the sockets that own the tables, by network namespace. An open socket keeps its namespace alive.
	owners map[netns]*netlink.Conn
	// unownable says that the kernel knows no tables with an owner that outlive him (Linux 6.9).
	unownable bool
	// covered are the other namespaces this process armed; complained is what was last said about one that could not be.
	covered    map[netns]bool
	complained map[netns]string
}

func (p *platform) owner(id netns) *netlink.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.owners[id]
}

// letGo forgets all namespaces keep does not want, and closes their owners' sockets.
func (p *platform) letGo(keep func(netns) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.covered, func(id netns, _ bool) bool { return !keep(id) })
	maps.DeleteFunc(p.complained, func(id netns, _ string) bool { return !keep(id) })
	maps.DeleteFunc(p.owners, func(id netns, c *netlink.Conn) bool {
		if keep(id) {
			return false
		}
		_ = c.Close()
		return true
	})
}

// possible says, before anything else is done, whether machines of this kind can be isolated.
func (w *Firewall) possible() error { return nil }

// arm replaces whatever isolation stands, without a gap, by one that lasts for left; 0 = permanent. It answers an
// error that wraps errOwned when another process owns it; nothing has changed after an error. Other network namespaces
// that could not be covered are no error: stands names them.
func (w *Firewall) arm(ctx context.Context, passes []pass, left time.Duration) error {
	own, err := nsOf("self")
	if err != nil {
		return verdict.Hopeless("%w", err)
	}
	if err := w.armIn(own, passes, left); err != nil {
		return err
	}
	places, err := w.elsewhere()
	if err != nil {
		return verdict.Undecided("%w", err)
	}
	w.armAll(ctx, places, passes, left)
	return nil
}

// cover arms the other network namespaces in which it does not stand.
func (w *Firewall) cover(ctx context.Context, passes []pass, left time.Duration) error {
	places, err := w.elsewhere()
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var bare []place
	each(ctx, places, func(p place) error {
		if st, err := w.glance(); err != nil || !st.lasts(left) {
			mu.Lock()
			defer mu.Unlock()
			bare = append(bare, p)
		}
		return nil
	})
	w.armAll(ctx, bare, passes, left)
	each(ctx, bare, func(place) error { return w.cutHere(ctx, passes, new(int)) })
	return nil
}

func (w *Firewall) armAll(ctx context.Context, places []place, passes []pass, left time.Duration) {
	errs := each(ctx, places, func(p place) error { return w.armIn(p.id, passes, left) })
	w.platform.mu.Lock()
	defer w.platform.mu.Unlock()
	if w.platform.covered == nil {
		w.platform.covered, w.platform.complained = make(map[netns]bool), make(map[netns]string)
	}
	for _, p := range places {
		err := errs[p]
		if w.platform.covered[p.id] = err == nil; err == nil {
			delete(w.platform.complained, p.id)
			w.log.Info("network namespace is isolated", "namespace", p.String())
			continue
		}
		if text := err.Error(); w.platform.complained[p.id] != text {
			w.platform.complained[p.id] = text
			w.log.Warn("network namespace cannot be isolated", "namespace", p.String(), "err", text)
		}
	}
}

// armIn arms the network namespace of the calling thread, which is id.
func (w *Firewall) armIn(id netns, passes []pass, left time.Duration) error {
	rules := newIsolationRules(passes, &w.cfg)
	var err error
	for range armTries {
		if err = w.tryArm(id, rules, left); !errors.Is(err, errAgain) {
			break
		}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errOwned):
		return err
	case errors.Is(err, unix.ENOENT):
		return verdict.Hopeless("isolate: %w: the kernel lacks a part of nf_tables (CONFIG_NFT_CT, CONFIG_NFT_REJECT_INET)", err)
	default:
		return netfilterVerdict("isolate", err)
	}
}

// errAgain says that another try may work: somebody made or deleted the table in between, or the kernel knows no table
// owners and the next try does without.
var errAgain = errors.New("another try may work")

// tryArm sends the table once.
func (w *Firewall) tryArm(id netns, rules *isolationRules, left time.Duration) error {
	table, err := findTable()
	if err != nil {
		return err
	}
	flags := uint32(0)
	if w.wantsToOwn() {
		flags = tableOwner | tablePersist
	}
	msgs, err := rules.messages(left, table != nil, flags)
	if err != nil {
		return err
	}
	err = w.send(id, msgs, flags != 0)
	switch {
	case errors.Is(err, unix.EPERM) && table != nil && flagsOf(table)&tableOwner != 0:
		return fmt.Errorf("%w: %w", errOwned, err)
	case (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL)) && flags != 0:
		w.platform.mu.Lock()
		defer w.platform.mu.Unlock()
		w.platform.unownable = true
		return fmt.Errorf("%w: %w", errAgain, err)
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EEXIST):
		return fmt.Errorf("%w: %w", errAgain, err)
	}
	return err
}

func (w *Firewall) wantsToOwn() bool {
	w.platform.mu.Lock()
	defer w.platform.mu.Unlock()
	return w.guarding && !w.platform.unownable
}

// send commits messages through the socket that owns the table of id. With own a socket that had none becomes the owner's.
func (w *Firewall) send(id netns, msgs []netlink.Message, own bool) error {
	if c := w.platform.owner(id); c != nil {
		return commit(c, msgs)
	}
	c, err := dialFilter()
	if err != nil {
		return err
	}
	if err := commit(c, msgs); err != nil || !own {
		_ = c.Close()
		return err
	}
	w.platform.mu.Lock()
	defer w.platform.mu.Unlock()
	if w.platform.owners == nil {
		w.platform.owners = make(map[netns]*netlink.Conn)
	}
	w.platform.owners[id] = c
	return nil
}

// everywhere runs work in the own network namespace and then in the others. Only what fails in the own one, or because of an
// owner, is an error.
func (w *Firewall) everywhere(ctx context.Context, work func(id netns) error) error {
	own, err := nsOf("self")
	if err != nil {
		return verdict.Hopeless("%w", err)
	}
	if err := work(own); err != nil {
		return err
	}
	places, err := w.elsewhere()
	if err != nil {
		return err
	}
	for p, err := range each(ctx, places, func(p place) error { return work(p.id) }) {
		if errors.Is(err, errOwned) {
			return err
		}
		w.log.Warn("network namespace cannot be changed", "namespace", p.String(), "err", err)
	}
	return nil
}

// renew sets the timers of a standing isolation anew.
func (w *Firewall) renew(ctx context.Context, left time.Duration) error {
	rules := newIsolationRules(nil, &w.cfg)
	els := armedElements(left)
	return w.everywhere(ctx, func(id netns) error {
		// Adding before deleting makes the deletion safe when the timer has just run out.
		msgs, err := encode(func(c *nftables.Conn) error {
			return errors.Join(c.SetAddElements(rules.sets[0], els), c.SetDeleteElements(rules.sets[0], els), c.SetAddElements(rules.sets[0], els))
		})
		if err != nil {
			return err
		}
		return w.change(id, "renew the isolation", msgs)
	})
}

// disarm takes the isolation away; nothing to take away is no error.
func (w *Firewall) disarm(ctx context.Context) error {
	rules := newIsolationRules(nil, &w.cfg)
	err := w.everywhere(ctx, func(id netns) error {
		table, err := findTable()
		if err != nil || table == nil {
			return err
		}
		msgs, err := encode(func(c *nftables.Conn) error { c.DelTable(rules.table); return nil })
		if err != nil {
			return err
		}
		if err := w.change(id, "release", msgs); !errors.Is(err, unix.ENOENT) {
			return err
		}
		return nil
	})
	if err == nil {
		w.platform.letGo(func(netns) bool { return false })
	}
	return err
}

// change commits messages about a table that stands.
func (w *Firewall) change(id netns, doing string, msgs []netlink.Message) error {
	err := w.send(id, msgs, false)
	if errors.Is(err, unix.EPERM) {
		if table, ferr := findTable(); ferr == nil && table != nil && flagsOf(table)&tableOwner != 0 {
			return fmt.Errorf("%w: %w", errOwned, err)
		}
	}
	if err != nil {
		return netfilterVerdict(doing, err)
	}
	return nil
}

// owns reports whether nobody but this process can change the isolation.
func (w *Firewall) owns() bool {
	own, err := nsOf("self")
	return err == nil && w.platform.owner(own) != nil
}

// disown gives ownership up; the isolation stands on.
func (w *Firewall) disown() { w.platform.letGo(func(netns) bool { return false }) }

// wasCovered reports whether this process armed a namespace.
func (p *platform) wasCovered(id netns) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.covered[id]
}

// findTable returns the table of the calling thread's network namespace; nil = there is none.
func findTable() (*nftables.Table, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, err
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	i := slices.IndexFunc(tables, func(t *nftables.Table) bool { return t.Name == isolationTable })
	if i < 0 {
		return nil, nil //nolint:nilnil // no table is an answer, not an error
	}
	return tables[i], nil
}
