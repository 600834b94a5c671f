package redisbus

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestDocumentIsTheNamedFieldElseTheOnlyOneElseAll(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		fields map[string]any
		want   string
	}{
		{"named", map[string]any{"alert": "{}", "alert_id": "7"}, "{}"},
		{"only one", map[string]any{"payload": "{}"}, "{}"},
		{"several", map[string]any{"b": "2", "a": "<&>"}, `{"a":"\u003c\u0026\u003e","b":"2"}`},
		{"empty document", map[string]any{"alert": "", "x": "y"}, ""},
	} {
		if got := document(c.fields, "alert"); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestEntryIDsCompareAsNumbers(t *testing.T) {
	t.Parallel()
	order := []string{"0-0", "0-9", "0-10", "9-0", "10-0", "10-18446744073709551615", "11"}
	for i := 1; i < len(order); i++ {
		a, errA := parseID(order[i-1])
		b, errB := parseID(order[i])
		if errA != nil || errB != nil || !a.less(b) || b.less(a) || a.less(a) {
			t.Errorf("%s is not below %s (%v, %v)", order[i-1], order[i], errA, errB)
		}
	}
	for id, want := range map[string]string{"5-3": "5-2", "5-0": "4-18446744073709551615", "0-0": "0-0"} {
		p, err := parseID(id)
		if err != nil || p.before().String() != want {
			t.Errorf("before %s comes %s (%v), want %s", id, p.before(), err, want)
		}
	}
	for _, bad := range []string{"", "-", "x-1", "1-x", "1-2-3", "-1-0", "18446744073709551616-0"} {
		if _, err := parseID(bad); err == nil {
			t.Errorf("%q is read as an id", bad)
		}
	}
}

func TestPositionSurvivesItsText(t *testing.T) {
	t.Parallel()
	want := position{id: entryID{ms: 1763650000000, seq: 4}, lost: 7}
	got, err := parsePosition(want.String())
	if err != nil || got != want {
		t.Errorf("%v becomes %v (%v)", want, got, err)
	}
	if p, err := parsePosition("5-1"); err != nil || p.id != (entryID{5, 1}) || p.lost != 0 {
		t.Errorf("a bare id is read as %v (%v)", p, err)
	}
	for _, bad := range []string{"x", "1-1/x", "/3"} {
		if _, err := parsePosition(bad); err == nil {
			t.Errorf("%q is read as a position", bad)
		}
	}
}

func TestStreamAcksOnlyAfterSettle(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	s, _ := newTestStream(t, srv.addr, nil)
	run(t, s)
	awaitReady(t, s)
	srv.add(t, "alerts", "1")
	d := receive(t, s, 5*time.Second)
	nothing(t, s, time.Second)
	if n := srv.pending(t, "alerts", "edr-bridge"); n != 1 {
		t.Fatalf("%d pending before settle, want 1", n)
	}
	settle(t, d, nil)
	eventually(t, 5*time.Second, "it is acknowledged", func() bool { return srv.pending(t, "alerts", "edr-bridge") == 0 })
}

func TestStreamStopsReadingWhenTooMuchIsUnsettled(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	s, _ := newTestStream(t, srv.addr, func(c *StreamConfig) { c.MaxPending, c.Count = 5, 3 })
	run(t, s)
	awaitReady(t, s)
	for i := range 50 {
		srv.add(t, "alerts", fmt.Sprint(i))
	}
	var held []bridge.Delivery
	for range 5 {
		held = append(held, receive(t, s, 5*time.Second))
	}
	nothing(t, s, time.Second)
	if n := srv.pending(t, "alerts", "edr-bridge"); n != 5 {
		t.Fatalf("%d entries taken from the stream, want 5", n)
	}
	for _, d := range held {
		settle(t, d, nil)
	}
	for i := 5; i < 50; i++ {
		d := receive(t, s, 5*time.Second)
		if string(d.Alert.Raw) != fmt.Sprint(i) {
			t.Fatalf("received %q, want %d", d.Alert.Raw, i)
		}
		settle(t, d, nil)
	}
}

func TestStreamDeliversAFailedEntryAgainWithGrowingPausesAndWithoutRaisingItsCounter(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	s, _ := newTestStream(t, srv.addr, func(c *StreamConfig) { c.Rand = func() float64 { return 0.999 } })
	run(t, s)
	awaitReady(t, s)
	srv.add(t, "alerts", "1")
	last := time.Now()
	var pauses []time.Duration
	for range 5 {
		d := receive(t, s, 5*time.Second)
		pauses = append(pauses, time.Since(last))
		last = time.Now()
		settle(t, d, errors.New("the store is full"))
	}
	for i, want := range []time.Duration{0, 50, 100, 200, 400} {
		if got := pauses[i]; got < want*time.Millisecond*9/10 {
			t.Errorf("pause %d is %s, want %s at least", i, got, want*time.Millisecond)
		}
	}
	list, err := srv.c.XPendingExt(t.Context(), &redis.XPendingExtArgs{Stream: "alerts", Group: "edr-bridge", Start: "-", End: "+", Count: 1}).Result()
	if err != nil || len(list) != 1 || list[0].RetryCount != 1 {
		t.Errorf("redis counts %v (%v), want one delivery", list, err)
	}
}

func TestStreamSetsAsideWhatIsTooLarge(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	s, led := newTestStream(t, srv.addr, func(c *StreamConfig) { c.Sweep = 200 * time.Millisecond })
	defer func() { t.Log(s.Stats(), s.Err(), led.text()) }()
	// 40 entries of nearly 1 MiB do not fit into one answer, one of 40 MiB fits into none.
	for range 40 {
		srv.add(t, "alerts", strings.Repeat("a", maxDocument))
	}
	srv.add(t, "alerts", strings.Repeat("b", maxDocument+1), strings.Repeat("c", 40<<20), "small")
	run(t, s)
	for i := range 41 {
		d := receive(t, s, 20*time.Second)
		if want := maxDocument; i < 40 && len(d.Alert.Raw) != want {
			t.Fatalf("document %d has %d bytes, want %d", i, len(d.Alert.Raw), want)
		}
		settle(t, d, nil)
	}
	eventually(t, 20*time.Second, "both large ones are dead letters", func() bool { return led.count(bridge.NoteDeadLetter) == 2 })
	eventually(t, 5*time.Second, "nothing is pending", func() bool { return srv.pending(t, "alerts", "edr-bridge") == 0 })
	for _, want := range []string{"document of 1048577 bytes", "entry is larger than 32 MiB"} {
		if !strings.Contains(led.text(), want) {
			t.Errorf("no dead letter says %q: %s", want, led.text())
		}
	}
	list, err := srv.c.XRange(t.Context(), "alerts:dead", "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		if n := len(m.Values["document"].(string)); n > maxKept*4/3+4 {
			t.Errorf("a dead letter keeps %d bytes", n)
		}
	}
}

func TestStreamTrimsOnlyWhatEveryGroupHasAcknowledged(t *testing.T) {
	t.Parallel()
	srv := startRedis(t)
	srv.do(t, "CONFIG", "SET", "stream-node-max-entries", "1") // else "~" trims whole blocks of 100
	srv.do(t, "XGROUP", "CREATE", "alerts", "archive", "0", "MKSTREAM")
	s, led := newTestStream(t, srv.addr, func(c *StreamConfig) { c.Trim = true })
	run(t, s)
	awaitReady(t, s)
	srv.add(t, "alerts", "1", "2", "3", "4")
	for range 4 {
		settle(t, receive(t, s, 5*time.Second), nil)
	}
	sweeps(t, s, 2)
	if n := srv.do(t, "XLEN", "alerts").(int64); n != 4 {
		t.Fatalf("%d entries left although another group has read none, want 4", n)
	}
	srv.do(t, "XREADGROUP", "GROUP", "archive", "x", "COUNT", "3", "NOACK", "STREAMS", "alerts", ">")
	eventually(t, 5*time.Second, "what both have read is gone", func() bool { return srv.do(t, "XLEN", "alerts").(int64) == 2 })
	if led.count(bridge.NoteLoss) != 0 {
		t.Errorf("our own trimming counts as loss: %s", led.text())
	}
}

// leastACL is what the documentation asks for.
var leastACL = strings.Fields("~alerts* &high_severity_alerts +xreadgroup +xack +xclaim +xautoclaim +xpending +xrange +xinfo +xgroup|create +xadd +subscribe +ping +client|setname")

func TestSourcesNeedNoMoreThanTheDocumentedPermissions(t *testing.T) {
	t.Parallel()
	srv := startRedis(t, append([]string{"--user", "bridge", "on", ">secret"}, leastACL...)...)
	user := withPassword("bridge", "secret")
	srv.do(t, "XGROUP", "CREATE", "alerts", "edr-bridge", "0", "MKSTREAM")
	srv.add(t, "alerts", "own", "other", "fresh")
	for _, consumer := range []string{"one", "gone"} {
		srv.do(t, "XREADGROUP", "GROUP", "edr-bridge", consumer, "COUNT", "1", "STREAMS", "alerts", ">")
	}
	s, _ := newTestStream(t, srv.addr, func(c *StreamConfig) { user(&c.Options); c.ClaimAfter = 500 * time.Millisecond })
	run(t, s)
	for _, want := range []string{"own", "fresh", "other"} {
		d := receive(t, s, 10*time.Second)
		if string(d.Alert.Raw) != want {
			t.Errorf("received %q, want %q", d.Alert.Raw, want)
		}
		settle(t, d, bridge.ErrBadAlert)
	}
	srv.add(t, "alerts", "held long")
	d := receive(t, s, 5*time.Second)
	nothing(t, s, time.Second)
	settle(t, d, nil)
	eventually(t, 10*time.Second, "all is settled", func() bool {
		return srv.pending(t, "alerts", "edr-bridge") == 0 && s.Stats().DeadLetters == 3
	})
	p, _ := newTestPubSub(t, srv.addr, func(c *PubSubConfig) { user(&c.Options) })
	run(t, p)
	awaitReady(t, p)
	srv.publish(t, "hello")
	settle(t, receive(t, p, 5*time.Second), nil)
	if s.Err() != nil || p.Err() != nil {
		t.Errorf("errors: %v, %v", s.Err(), p.Err())
	}
}

// TestCluster runs a cluster of one node, which announces the proxy as its address.
func TestClusterRoutesEverythingAndRepeatsNoLostAdd(t *testing.T) {
	t.Parallel()
	addr := freeAddress(t)
	px := startProxy(t, addr)
	_, port, err := net.SplitHostPort(px.addr())
	if err != nil {
		t.Fatal(err)
	}
	srv := startRedisOn(t, addr, "--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1", "--cluster-announce-port", port)
	srv.do(t, "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
	eventually(t, 20*time.Second, "the cluster is up", func() bool {
		return strings.Contains(fmt.Sprint(srv.do(t, "CLUSTER", "INFO")), "cluster_state:ok")
	})
	o := Options{Addresses: []string{px.addr()}, Cluster: true}
	s, led := newTestStream(t, px.addr(), func(c *StreamConfig) { c.Options = o })
	run(t, s)
	awaitReady(t, s)
	pub, err := NewPublisher(PublisherConfig{Options: o})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pub.Close() }()
	if _, err := pub.Add(t.Context(), "alerts", []byte("first"), "a-0"); err != nil {
		t.Fatal(err)
	}
	px.loseAnswer("xadd")
	if _, err := pub.Add(t.Context(), "alerts", []byte("second"), "a-1"); err != nil {
		t.Fatal(err)
	}
	if !px.answerLost() {
		t.Fatal("no answer was lost")
	}
	if n := srv.do(t, "XLEN", "alerts").(int64); n != 2 {
		t.Errorf("%d entries, want 2", n)
	}
	settle(t, receive(t, s, 10*time.Second), nil)
	settle(t, receive(t, s, 10*time.Second), bridge.ErrBadAlert)
	eventually(t, 10*time.Second, "all is settled", func() bool {
		return srv.pending(t, "alerts", "edr-bridge") == 0 && led.count(bridge.NoteDeadLetter) == 1
	})
	p, _ := newTestPubSub(t, px.addr(), func(c *PubSubConfig) { c.Options = o })
	run(t, p)
	awaitReady(t, p)
	srv.publish(t, "hello")
	settle(t, receive(t, p, 5*time.Second), nil)
}

func TestNotesOfOneKindAreAddedUpAndBounded(t *testing.T) {
	t.Parallel()
	led := &ledger{}
	n := newNotes(led.add)
	for i := range 10_000 {
		n.add(bridge.Note{What: bridge.NoteLoss, Count: 1, Detail: strings.Repeat("x", 1000)})
		n.add(bridge.Note{What: bridge.NoteDeadLetter, Count: 1, Detail: fmt.Sprint(i)})
	}
	n.flush()
	if led.count(bridge.NoteLoss) != 10_000 || led.count(bridge.NoteDeadLetter) != 10_000 {
		t.Errorf("counts do not add up: %d, %d", led.count(bridge.NoteLoss), led.count(bridge.NoteDeadLetter))
	}
	if len(led.list) > maxNotes {
		t.Errorf("%d notes, want at most %d", len(led.list), maxNotes)
	}
	for _, note := range led.list {
		if len(note.Detail) > maxNoteText+len("…") {
			t.Errorf("a note has %d bytes", len(note.Detail))
		}
	}
}

// TestSweep lets sweeps run without a pause while entries are acknowledged: their lists are out of date at once.
func TestSweepNeverBringsBackWhatWasAcknowledgedMeanwhile(t *testing.T) {
	t.Parallel()
	const total = 5000
	srv := startRedis(t)
	s, led := newTestStream(t, srv.addr, func(c *StreamConfig) {
		c.Sweep, c.Block, c.Count, c.MaxPending = time.Microsecond, time.Millisecond, 16, 64
	})
	run(t, s)
	awaitReady(t, s)
	pipe := srv.c.Pipeline()
	for i := range total {
		pipe.XAdd(t.Context(), &redis.XAddArgs{Stream: "alerts", Values: []any{"alert", fmt.Sprint(i)}})
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range total {
		d := receive(t, s, 10*time.Second)
		if string(d.Alert.Raw) != fmt.Sprint(i) {
			t.Fatalf("received %q, want %d", d.Alert.Raw, i)
		}
		settle(t, d, nil)
	}
	nothing(t, s, 200*time.Millisecond)
	if st := s.Stats(); st.Recovered != 0 || st.Delivered != total || led.text() != "" {
		t.Errorf("%+v, notes: %s", st, led.text())
	}
}

func TestAnOutdatedPendingListDoesNotNameWhatWasAcknowledgedSince(t *testing.T) {
	t.Parallel()
	s, _ := newTestStream(t, "127.0.0.1:1", nil)
	e := &entry{id: entryID{1, 1}, text: "1-1"}
	list := []redis.XPendingExt{{ID: "1-1"}, {ID: "1-2"}}
	s.hold([]*entry{e})
	s.bury(true)
	s.mu.Lock()
	s.release(e) // acknowledged after Redis made the list
	s.mu.Unlock()
	if got := s.missing(list); len(got) != 1 || got[0].ID != "1-2" {
		t.Errorf("missing are %v, want only 1-2", got)
	}
	s.bury(false)
	if got := s.missing(list); len(got) != 2 {
		t.Errorf("a later list must count again: %v", got)
	}
}
