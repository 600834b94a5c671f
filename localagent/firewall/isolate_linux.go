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
	// ours are the namespaces an isolation was put into, by inode number, in this boot of the machine.
	ours map[uint64]bool
	// recalled says that the record of an earlier process was asked for them.
	recalled bool
	// hiddenPlaces are the namespaces no process shows, as they were at hiddenAt.
	hiddenPlaces []place
	hiddenAt     time.Time
	// pinless says that the mounts could not be looked through, which was said.
	pinless bool
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
	w.platform.claim(places)
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
		if st, err := glance(); err != nil || !st.lasts(left) {
			mu.Lock()
			defer mu.Unlock()
			bare = append(bare, p)
		}
		return nil
	})
	if slices.ContainsFunc(bare, func(p place) bool { return !w.platform.isOurs(p.id) }) {
		w.platform.claim(bare)
		if err := w.saveRecord(w.current); err != nil {
			w.log.Warn("namespaces that were isolated are not in the record", "err", err)
		}
	}
	w.armAll(ctx, bare, passes, left)
	bare = slices.DeleteFunc(bare, func(p place) bool { return !w.platform.wasCovered(p.id) })
	each(ctx, bare, func(place) error { return w.cutHere(ctx, passes, new(int)) })
	return nil
}

func (w *Firewall) armAll(ctx context.Context, places []place, passes []pass, left time.Duration) {
	errs := each(ctx, places, func(p place) error { return w.armIn(p.id, passes, left) })
	w.platform.mu.Lock()
	defer w.platform.mu.Unlock()
	if w.platform.covered == nil {
		w.platform.covered = make(map[netns]bool)
	}
	for _, p := range places {
		err := errs[p]
		if w.platform.covered[p.id] = err == nil; err == nil {
			delete(w.platform.complained, p.id)
			w.log.Info("network namespace is isolated", "namespace", p.String())
			continue
		}
		w.complain(p, "network namespace cannot be isolated", err)
	}
}

// complain says once what is wrong with a namespace. It needs platform.mu.
func (w *Firewall) complain(p place, what string, err error) {
	if w.platform.complained == nil {
		w.platform.complained = make(map[netns]string)
	}
	if text := what + err.Error(); w.platform.complained[p.id] != text {
		w.platform.complained[p.id] = text
		w.log.Warn("network namespace", "namespace", p.String(), "what", what, "err", err)
	}
}

// armIn arms the network namespace of the calling thread, which is id.
func (w *Firewall) armIn(id netns, passes []pass, left time.Duration) error {
	rules := newIsolationRules(passes, &w.cfg)
	own, tried := w.wantsToOwn(), false
	var err error
	for range armTries {
		if err = w.tryArm(id, rules, left, own); own && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL)) {
			own, tried = false, true
			continue
		}
		if !errors.Is(err, errAgain) {
			break
		}
	}
	if err == nil && tried {
		// The same without an owner works.
		w.platform.mu.Lock()
		defer w.platform.mu.Unlock()
		w.platform.unownable = true
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

// errAgain says that another try may work: somebody made or deleted the table in between.
var errAgain = errors.New("another try may work")

// tryArm sends the table once.
func (w *Firewall) tryArm(id netns, rules *isolationRules, left time.Duration, own bool) error {
	table, err := findTable(isolationTable)
	if err != nil {
		return err
	}
	flags := uint32(0)
	if own {
		flags = tableOwner | tablePersist
	}
	msgs, err := rules.messages(left, table.exists, flags)
	if err != nil {
		return err
	}
	err = w.send(id, msgs, own)
	switch {
	case errors.Is(err, unix.EPERM) && table.is(tableOwner):
		return fmt.Errorf("%w: %w", errOwned, err)
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

// everywhere runs work in the own network namespace and then in the others. Only what fails in the own one is an error: the
// others may belong to people who do not want to be helped.
func (w *Firewall) everywhere(ctx context.Context, doing string, work func(id netns) error) error {
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
	w.among(ctx, doing, places, work)
	return nil
}

func (w *Firewall) among(ctx context.Context, doing string, places []place, work func(id netns) error) {
	errs := each(ctx, places, func(p place) error { return work(p.id) })
	w.platform.mu.Lock()
	defer w.platform.mu.Unlock()
	for p, err := range errs {
		w.complain(p, doing, err)
	}
}

// renew sets the timers of a standing isolation anew.
func (w *Firewall) renew(ctx context.Context, left time.Duration) error {
	rules := newIsolationRules(nil, &w.cfg)
	els := armedElements(left)
	return w.everywhere(ctx, "the end of the isolation cannot be set", func(id netns) error {
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
	err := w.everywhere(ctx, "the isolation cannot be taken away", w.disarmIn)
	if err == nil {
		w.platform.letGo(func(netns) bool { return false })
	}
	return err
}

// disarmIn is disarm for the network namespace of the calling thread, which is id.
func (w *Firewall) disarmIn(id netns) error {
	table, err := findTable(isolationTable)
	if err != nil || !table.exists {
		return err
	}
	rules := newIsolationRules(nil, &w.cfg)
	msgs, err := encode(func(c *nftables.Conn) error { c.DelTable(rules.table); return nil })
	if err != nil {
		return err
	}
	if err := w.change(id, "release", msgs); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	w.platform.mu.Lock()
	defer w.platform.mu.Unlock()
	delete(w.platform.ours, id.ino)
	return nil
}

// sweep takes away what an isolation that is over left behind in other network namespaces, as far as it was put there by us: an
// agent inside a container has an isolation of its own.
func (w *Firewall) sweep(ctx context.Context) error {
	places, err := w.elsewhere()
	if err != nil {
		return err
	}
	places = slices.DeleteFunc(places, func(p place) bool { return !w.platform.isOurs(p.id) })
	w.among(ctx, "the isolation cannot be taken away", places, w.disarmIn)
	return nil
}

// change commits messages about a table that stands.
func (w *Firewall) change(id netns, doing string, msgs []netlink.Message) error {
	err := w.send(id, msgs, false)
	if errors.Is(err, unix.EPERM) {
		if table, ferr := findTable(isolationTable); ferr == nil && table.is(tableOwner) {
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
