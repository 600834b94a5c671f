package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// blockMemory is the block table as it was read last. It holds as long as the kernel counts no further change of its packet
// filter; a transaction says which count it was made for, and is refused with ERESTART when that is not the count any more
// (NFNL_BATCH_GENID of linux/netfilter/nfnetlink.h). So an address is blocked without reading a long table twice.
type blockMemory struct {
	generation uint32
	// at is when it was read; what is left of the blocks counts from then.
	at     time.Time
	wide   []Block
	single map[netip.Prefix]Block
}

// remember keeps what was read of an intact table, unless something changed meanwhile. It needs mu.
func (w *Firewall) remember(before uint32, st *blockState) {
	w.platform.memory = nil
	if !st.intact {
		return
	}
	if after, err := generation(); err == nil && after == before {
		m := &blockMemory{generation: after, at: time.Now()}
		m.wide, m.single = split(st.blocks)
		w.platform.memory = m
	}
}

// blockFast blocks an address that nothing blocks yet. It reports false when that takes a closer look. It needs mu.
func (w *Firewall) blockFast(prefix netip.Prefix, d time.Duration) bool {
	m := w.platform.memory
	if m == nil || !prefix.IsSingleIP() || w.testOnlyApplied != nil {
		return false
	}
	age := time.Since(m.at)
	if b, ok := m.single[prefix]; ok && b.Left+timeoutSlack > age {
		return false
	}
	for _, b := range m.wide {
		if b.Prefix.Contains(prefix.Addr()) {
			return false
		}
	}
	w.platform.memory = nil
	rules := newBlockRules()
	set, els := rules.set(prefix), elements(prefix, d)
	msgs, err := encode(func(c *nftables.Conn) error { return c.SetAddElements(set, els) })
	if err != nil {
		return false
	}
	c, err := dialFilter()
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	if err := commitAt(c, msgs, m.generation); err != nil {
		return false
	}
	if got, err := getElement(c, msgs[0]); err != nil || got.timeout < d-timeoutSlack || got.expires <= 0 {
		return false
	}
	m.generation++
	m.single[prefix] = Block{prefix, d, d + age}
	w.platform.memory = m
	return true
}

// element is what the kernel says about an element of a set with timeouts.
type element struct{ timeout, expires time.Duration }

// getElement asks for the element that the message added.
func getElement(c *netlink.Conn, added netlink.Message) (element, error) {
	m := netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETSETELEM), Flags: netlink.Request},
		Data:   added.Data,
	}
	got, err := c.Execute(m)
	if err != nil {
		return element{}, err
	}
	for _, m := range got {
		if e, ok, err := parseElement(m.Data); err != nil || ok {
			return e, err
		}
	}
	return element{}, errors.New("the kernel does not show the element")
}

// parseElement reads the first element of a NFT_MSG_NEWSETELEM; times are milliseconds in network order.
func parseElement(b []byte) (e element, ok bool, err error) {
	if len(b) < len(genMessage(0, 0)) {
		return element{}, false, errors.New("short message")
	}
	ad, err := netlink.NewAttributeDecoder(b[len(genMessage(0, 0)):])
	if err != nil {
		return element{}, false, err
	}
	ad.ByteOrder = binary.BigEndian
	for ad.Next() {
		if ad.Type() != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			continue
		}
		ad.Nested(func(list *netlink.AttributeDecoder) error {
			for list.Next() {
				list.Nested(func(item *netlink.AttributeDecoder) error {
					item.ByteOrder = binary.BigEndian
					for item.Next() {
						switch item.Type() {
						case unix.NFTA_SET_ELEM_TIMEOUT:
							e.timeout = milliseconds(item.Uint64())
						case unix.NFTA_SET_ELEM_EXPIRATION:
							e.expires = milliseconds(item.Uint64())
						}
					}
					return item.Err()
				})
				ok = true
			}
			return list.Err()
		})
	}
	if err := ad.Err(); err != nil {
		return element{}, false, fmt.Errorf("element: %w", err)
	}
	return e, ok, nil
}

func milliseconds(n uint64) time.Duration {
	return time.Duration(min(n, uint64(maxIsolateFor/time.Millisecond))) * time.Millisecond
}

// generation asks how often the packet filter of the calling thread's network namespace was changed.
func generation() (uint32, error) {
	c, err := dialFilter()
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	got, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN), Flags: netlink.Request},
		Data:   genMessage(0, 0),
	})
	if err != nil {
		return 0, err
	}
	for _, m := range got {
		if len(m.Data) < len(genMessage(0, 0)) {
			continue
		}
		ad, err := netlink.NewAttributeDecoder(m.Data[len(genMessage(0, 0)):])
		if err != nil {
			return 0, err
		}
		ad.ByteOrder = binary.BigEndian
		for ad.Next() {
			if ad.Type() == unix.NFTA_GEN_ID {
				return ad.Uint32(), ad.Err()
			}
		}
	}
	return 0, errors.New("the kernel does not count changes")
}
