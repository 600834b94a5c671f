package sensor

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// The messages of the proc connector, linux/connector.h and linux/cn_proc.h: a netlink header of 16 bytes, a connector
// header of 20, and struct proc_event: what, cpu, the monotonic time in ns, and data by kind.
const (
	connectorIndex = 1 // CN_IDX_PROC
	connectorValue = 1 // CN_VAL_PROC
	opListen       = 1 // PROC_CN_MCAST_LISTEN
	opIgnore       = 2 // PROC_CN_MCAST_IGNORE

	netlinkHeader   = 16
	connectorHeader = 20
	eventAt         = netlinkHeader + connectorHeader
	dataAt          = eventAt + 16
	// maxMessage is more than any message of the connector, so that several that came at once would fit.
	maxMessage = 4096
)

// The kinds of events, enum proc_cn_event.
const (
	eventFork uint32 = 0x00000001
	eventExec uint32 = 0x00000002
	eventUID  uint32 = 0x00000004
	eventComm uint32 = 0x00000200
	eventExit uint32 = 0x80000000
)

// event is one message of the connector about a whole process.
type event struct {
	kind uint32
	// pid is the process, thread the one of its threads that did it; of a fork the child.
	pid, thread int
	// parent is the process that forked; of other kinds 0.
	parent int
	// uid is the effective user after the change; of other kinds 0.
	uid uint32
	// when is the monotonic clock of the kernel in ns.
	when uint64
}

// subscription is the message that begins or ends listening. A mask of 0 makes the form kernels before 6.6 take, without
// a filter; they ignore the longer one.
func subscription(op, mask, port uint32) []byte {
	body := 4
	if mask != 0 {
		body = 8
	}
	b := make([]byte, eventAt+body)
	o := binary.NativeEndian
	o.PutUint32(b[0:], uint32(len(b))) //nolint:gosec // 40 or 44
	o.PutUint16(b[4:], unix.NLMSG_DONE)
	o.PutUint32(b[12:], port)
	o.PutUint32(b[16:], connectorIndex)
	o.PutUint32(b[20:], connectorValue)
	o.PutUint16(b[32:], uint16(body))
	o.PutUint32(b[36:], op)
	if mask != 0 {
		o.PutUint32(b[40:], mask)
	}
	return b
}

// eachEvent calls do for every event in a datagram. What is no event of a known kind is passed over.
func eachEvent(b []byte, do func(event)) {
	for len(b) >= dataAt {
		size := int(binary.NativeEndian.Uint32(b))
		if size < netlinkHeader || size > len(b) {
			return
		}
		if e, ok := eventOf(b[:size]); ok {
			do(e)
		}
		next := (size + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1)
		if next >= len(b) {
			return
		}
		b = b[next:]
	}
}

func eventOf(m []byte) (event, bool) {
	o := binary.NativeEndian
	if len(m) < dataAt+8 || o.Uint32(m[16:]) != connectorIndex || o.Uint32(m[20:]) != connectorValue {
		return event{}, false
	}
	number := func(at int) int { return int(int32(o.Uint32(m[at:]))) } //nolint:gosec // pid_t is signed
	e := event{kind: o.Uint32(m[eventAt:]), when: o.Uint64(m[eventAt+8:])}
	switch e.kind {
	case eventFork:
		if len(m) < dataAt+16 {
			return event{}, false
		}
		e.parent, e.thread, e.pid = number(dataAt+4), number(dataAt+8), number(dataAt+12)
		return e, e.parent >= 0 && e.pid > 0
	case eventUID:
		if len(m) < dataAt+16 {
			return event{}, false
		}
		e.uid = o.Uint32(m[dataAt+12:])
	case eventExec, eventExit, eventComm:
	default:
		return event{}, false
	}
	e.thread, e.pid = number(dataAt), number(dataAt+4)
	return e, e.pid > 0
}

// socketFilter is a classic BPF program that lets through the events of mask about whole processes: the birth and end of
// threads would wake the sensor for nothing, and kernels before 6.6 cannot be told what not to send. Loads are in network byte order.
func socketFilter(mask uint32) []unix.SockFilter {
	const (
		asFork = 5 // compare thread and process of a child
		asRest = 9 // of any other event
		drop   = 14
	)
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	// is goes to target when the event is of that kind and wanted, else to otherwise; at is its own place.
	is := func(at uint8, kind uint32, target, otherwise uint8) unix.SockFilter {
		if mask&kind == 0 {
			target = drop
		}
		swapped := binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, kind))
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: target - at - 1, Jf: otherwise - at - 1, K: swapped}
	}
	return []unix.SockFilter{
		load(eventAt),
		is(1, eventFork, asFork, 2),
		is(2, eventExec, asRest, 3),
		is(3, eventUID, asRest, 4),
		is(4, eventExit, asRest, drop),
		load(dataAt + 8),
		{Code: unix.BPF_MISC | unix.BPF_TAX},
		load(dataAt + 12),
		{Code: unix.BPF_JMP | unix.BPF_JA, K: 3},
		load(dataAt),
		{Code: unix.BPF_MISC | unix.BPF_TAX},
		load(dataAt + 4),
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_X, Jt: 0, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
}
