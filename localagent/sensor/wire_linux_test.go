package sensor

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// message makes a message of the connector with these words of data.
func message(kind uint32, words ...uint32) []byte {
	o := binary.NativeEndian
	b := make([]byte, dataAt)
	o.PutUint16(b[4:], unix.NLMSG_DONE)
	o.PutUint32(b[16:], connectorIndex)
	o.PutUint32(b[20:], connectorValue)
	o.PutUint32(b[eventAt:], kind)
	o.PutUint64(b[eventAt+8:], 77)
	for _, w := range words {
		b = o.AppendUint32(b, w)
	}
	o.PutUint32(b, uint32(len(b)))
	return b
}

func TestMessagesOfTheConnectorAreRead(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		b    []byte
		want []event
	}{
		{"fork", message(eventFork, 1, 2, 3, 4, 0, 0), []event{{kind: eventFork, parent: 2, thread: 3, pid: 4, when: 77}}},
		{"exec", message(eventExec, 5, 6, 0, 0, 0, 0), []event{{kind: eventExec, thread: 5, pid: 6, when: 77}}},
		{"user", message(eventUID, 5, 6, 1000, 33, 0, 0), []event{{kind: eventUID, thread: 5, pid: 6, uid: 33, when: 77}}},
		{"exit", message(eventExit, 5, 5, 9, 17, 0, 0), []event{{kind: eventExit, thread: 5, pid: 5, when: 77}}},
		{"two", append(message(eventExec, 1, 1), message(eventExec, 2, 2)...), []event{
			{kind: eventExec, thread: 1, pid: 1, when: 77}, {kind: eventExec, thread: 2, pid: 2, when: 77},
		}},
		{"another kind", message(0x40, 5, 5, 5, 5), nil},
		{"no process", message(eventExec, 0, 0), nil},
		{"negative", message(eventExec, 1, 1<<31), nil},
		{"cut", message(eventFork, 1, 2, 3)[:60], nil},
		{"too short a fork", message(eventFork, 1, 2, 3), nil},
		{"nothing", nil, nil},
	} {
		var got []event
		eachEvent(tt.b, func(e event) { got = append(got, e) })
		if len(got) != len(tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
			continue
		}
		for i := range got {
			if got[i] != tt.want[i] {
				t.Errorf("%s: %+v, want %+v", tt.name, got[i], tt.want[i])
			}
		}
	}
	other := message(eventExec, 1, 1)
	other[16] = 9
	eachEvent(other, func(e event) { t.Errorf("message of another connector: %+v", e) })
}

func TestSubscriptionHasTheTwoForms(t *testing.T) {
	t.Parallel()
	if n := len(subscription(opListen, 0, 5)); n != 40 {
		t.Errorf("short form has %d bytes, want 40", n)
	}
	b := subscription(opListen, startMask, 5)
	o := binary.NativeEndian
	if len(b) != 44 || o.Uint32(b) != 44 || o.Uint16(b[32:]) != 8 || o.Uint32(b[36:]) != opListen || o.Uint32(b[40:]) != startMask || o.Uint32(b[12:]) != 5 {
		t.Errorf("long form % x", b)
	}
}

func FuzzEachEvent(f *testing.F) {
	f.Add(message(eventFork, 1, 2, 3, 4))
	f.Add(append(message(eventExec, 1, 1), message(eventExit, 2, 2)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		eachEvent(b, func(e event) {
			if n++; e.pid <= 0 || e.parent < 0 {
				t.Fatalf("event %+v", e)
			}
		})
		if n > len(b)/dataAt {
			t.Fatalf("%d events in %d bytes", n, len(b))
		}
	})
}

// diagAnswer is one connection as sock_diag tells it.
func diagAnswer(family byte, remote netip.Addr, inode uint32) []byte {
	b := make([]byte, netlinkHeader+diagAnswerSize)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], diagByFamily)
	m := b[netlinkHeader:]
	m[0] = family
	binary.BigEndian.PutUint16(m[4:], 1234)
	binary.BigEndian.PutUint16(m[6:], 443)
	copy(m[24:40], remote.AsSlice())
	binary.NativeEndian.PutUint32(m[68:], inode)
	return b
}

func TestAnswersOfSockDiagAreRead(t *testing.T) {
	t.Parallel()
	done := make([]byte, 20)
	binary.NativeEndian.PutUint32(done, 20)
	binary.NativeEndian.PutUint16(done[4:], unix.NLMSG_DONE)
	text := append(diagAnswer(unix.AF_INET, netip.MustParseAddr("203.0.113.7"), 5), diagAnswer(unix.AF_INET6, netip.MustParseAddr("::ffff:203.0.113.8"), 6)...)
	var got []connection
	end, err := eachConnection(append(text, done...), func(c connection) { got = append(got, c) })
	if !end || err != nil || len(got) != 2 {
		t.Fatalf("%v %v %+v", end, err, got)
	}
	if got[0].remote != netip.MustParseAddrPort("203.0.113.7:443") || got[0].inode != 5 || got[0].local.Port() != 1234 ||
		got[1].remote != netip.MustParseAddrPort("203.0.113.8:443") {
		t.Errorf("%+v", got)
	}
	if end, err := eachConnection(text, func(connection) {}); end || err != nil {
		t.Errorf("more follows: %v %v", end, err)
	}
	bad := make([]byte, 20)
	binary.NativeEndian.PutUint32(bad, 20)
	binary.NativeEndian.PutUint16(bad[4:], unix.NLMSG_ERROR)
	binary.NativeEndian.PutUint32(bad[16:], ^uint32(unix.EPERM)+1)
	if end, err := eachConnection(bad, func(connection) {}); !end || err != unix.EPERM { //nolint:errorlint // exactly this one
		t.Errorf("%v %v", end, err)
	}
}

func FuzzEachConnection(f *testing.F) {
	f.Add(diagAnswer(unix.AF_INET, netip.MustParseAddr("203.0.113.7"), 5))
	f.Add(diagAnswer(unix.AF_INET6, netip.MustParseAddr("2001:db8::1"), 5))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = eachConnection(b, func(c connection) {
			if !c.remote.IsValid() {
				t.Fatalf("connection %+v", c)
			}
		})
	})
}
