package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// elementsAtOnce keeps a list of elements below the 64 KiB of one netlink attribute.
	elementsAtOnce = 1000
	// socketBuffer lets one transaction hold thousands of elements: netlink(7) refuses what does not fit.
	socketBuffer = 8 << 20
	// drainWait bounds the wait for the rest of the answers after an error; they are there before the request returns.
	drainWait = 5 * time.Millisecond
	// The flags of NFTA_TABLE_FLAGS in linux/netfilter/nf_tables.h: the table dies with, or is orphaned by, the socket that made it.
	// A dormant table is there and does nothing.
	tableDormant, tableOwner, tablePersist = 0x1, 0x2, 0x4
)

// errRecorded stops a Conn that only encodes from waiting for answers.
var errRecorded = errors.New("recorded")

// encode returns the messages build queues, without sending them. The library sends what it encodes itself, asks for an answer
// to every message, which overflows the socket from some 300 on, and always writes table flags of zero.
func encode(build func(c *nftables.Conn) error) ([]netlink.Message, error) {
	var msgs []netlink.Message
	c, err := nftables.New(nftables.WithTestDial(func(req []netlink.Message) ([]netlink.Message, error) {
		// The first and last message open and close the transaction.
		msgs = append(msgs, req[1:len(req)-1]...)
		return nil, errRecorded
	}))
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	if err := build(c); err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	if err := c.Flush(); err != nil && !errors.Is(err, errRecorded) {
		return nil, fmt.Errorf("encode: %w", err)
	}
	for i := range msgs {
		msgs[i].Header.Length, msgs[i].Header.Sequence, msgs[i].Header.PID = 0, 0, 0
	}
	return msgs, nil
}

// addElements queues any number of elements.
func addElements(c *nftables.Conn, s *nftables.Set, els []nftables.SetElement) error {
	for chunk := range slices.Chunk(els, elementsAtOnce) {
		if err := c.SetAddElements(s, chunk); err != nil {
			return fmt.Errorf("set %s: %w", s.Name, err)
		}
	}
	return nil
}

// change carries out what build queues, in one transaction of the calling thread's network namespace.
func change(build func(c *nftables.Conn) error) error {
	msgs, err := encode(build)
	if err != nil {
		return err
	}
	c, err := dialFilter()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	return commit(c, msgs)
}

// newTable is the message that makes table with flags.
func newTable(table *nftables.Table, flags uint32) (netlink.Message, error) {
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_TABLE_NAME, Data: []byte(table.Name + "\x00")},
		{Type: unix.NFTA_TABLE_FLAGS, Data: binary.BigEndian.AppendUint32(nil, flags)},
	})
	if err != nil {
		return netlink.Message{}, fmt.Errorf("encode: %w", err)
	}
	return netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWTABLE),
			Flags: netlink.Request | netlink.Create,
		},
		Data: append(genMessage(byte(table.Family), 0), attrs...),
	}, nil
}

// flagsOf undoes the byte order in which the library reads table flags.
func flagsOf(t *nftables.Table) uint32 {
	return binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, t.Flags))
}

// tableState is what the kernel says about a table.
type tableState struct {
	exists bool
	flags  uint32
}

func (t tableState) is(flag uint32) bool { return t.flags&flag != 0 }

// findTable asks for one table of the calling thread's network namespace. It never lists: the others may be a stranger's.
func findTable(name string) (tableState, error) {
	c, err := dialFilter()
	if err != nil {
		return tableState{}, err
	}
	defer func() { _ = c.Close() }()
	return tableOf(c, name)
}

func tableOf(c *netlink.Conn, name string) (tableState, error) {
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_TABLE_NAME, Data: []byte(name + "\x00")}})
	if err != nil {
		return tableState{}, fmt.Errorf("encode: %w", err)
	}
	got, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETTABLE), Flags: netlink.Request},
		Data:   append(genMessage(unix.NFPROTO_INET, 0), attrs...),
	})
	if errors.Is(err, unix.ENOENT) {
		return tableState{}, nil
	}
	if err != nil {
		return tableState{}, fmt.Errorf("look for table %s: %w", name, err)
	}
	for _, m := range got {
		if len(m.Data) < len(genMessage(0, 0)) {
			continue
		}
		ad, err := netlink.NewAttributeDecoder(m.Data[len(genMessage(0, 0)):])
		if err != nil {
			return tableState{}, fmt.Errorf("table %s: %w", name, err)
		}
		ad.ByteOrder = binary.BigEndian
		st := tableState{exists: true}
		for ad.Next() {
			if ad.Type() == unix.NFTA_TABLE_FLAGS {
				st.flags = ad.Uint32()
			}
		}
		return st, ad.Err()
	}
	return tableState{}, fmt.Errorf("table %s: the kernel does not answer", name)
}

// genMessage is struct nfgenmsg of linux/netfilter/nfnetlink.h.
func genMessage(family byte, resource uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{family, unix.NFNETLINK_V0}, resource)
}

// dialFilter opens a socket to the packet filter of the calling thread's network namespace.
func dialFilter() (*netlink.Conn, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	// Without the right to exceed the system's limits small changes still fit in.
	_ = c.SetWriteBuffer(socketBuffer)
	_ = c.SetReadBuffer(socketBuffer)
	return c, nil
}

// commit has the kernel carry out all messages or none of them (nfnetlink batch).
func commit(c *netlink.Conn, msgs []netlink.Message) error { return commitAt(c, msgs, 0) }

// commitAt is commit for a known count of changes: ERESTART = there were others since. Zero = any.
func commitAt(c *netlink.Conn, msgs []netlink.Message, generation uint32) error {
	if len(msgs) == 0 {
		return nil
	}
	batch := make([]netlink.Message, 0, len(msgs)+2)
	frame := func(kind netlink.HeaderType) netlink.Message {
		return netlink.Message{Header: netlink.Header{Type: kind, Flags: netlink.Request}, Data: genMessage(0, unix.NFNL_SUBSYS_NFTABLES)}
	}
	begin := frame(unix.NFNL_MSG_BATCH_BEGIN)
	if generation != 0 {
		attrs, err := netlink.MarshalAttributes([]netlink.Attribute{
			{Type: unix.NFNL_BATCH_GENID, Data: binary.BigEndian.AppendUint32(nil, generation)},
		})
		if err != nil {
			return fmt.Errorf("encode: %w", err)
		}
		begin.Data = append(begin.Data, attrs...)
	}
	batch = append(batch, begin)
	batch = append(batch, msgs...)
	for i := range batch {
		batch[i].Header.Flags &^= netlink.Acknowledge
	}
	// The answer to the last message comes after the transaction is over, errors of others come before it.
	batch[len(batch)-1].Header.Flags |= netlink.Acknowledge
	sent, err := c.SendMessages(append(batch, frame(unix.NFNL_MSG_BATCH_END)))
	if err != nil {
		return err
	}
	last := sent[len(sent)-2].Header.Sequence
	// The first error is the cause; the others come from what it left out.
	var cause error
	for range batch {
		got, err := c.Receive()
		if cause != nil && isTimeout(err) {
			break
		}
		if err != nil && cause == nil {
			cause = err
			_ = c.SetReadDeadline(time.Now().Add(drainWait))
		}
		if slices.ContainsFunc(got, func(m netlink.Message) bool { return m.Header.Sequence == last }) {
			break
		}
	}
	_ = c.SetReadDeadline(time.Time{})
	return cause
}

// isOverrun reports that the kernel had more to say than the socket could hold.
func isOverrun(err error) bool { return errors.Is(err, unix.ENOBUFS) }

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
