package main

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/ksc/ksctest"
)

const (
	testHost  = "00000000-0000-4000-8000-000000000001"
	testLease = 3 * time.Second
)

// sampleRun is a small run in which everything went well: a process was ended, a host was isolated for two reasons
// and released when the second one lapsed.
type sampleRun struct {
	evidence
	start time.Time
}

func newSampleRun() *sampleRun {
	r := &sampleRun{start: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	kill := bridge.TerminateProcess{Path: "/opt/x"}
	r.want("a1", bridge.KindTerminateProcess, "/opt/x")
	r.want("a2", bridge.KindIsolateHost, "")
	r.want("a3", bridge.KindIsolateHost, "")
	r.order(bridge.Order{ID: "o1", AlertID: "a1", Host: "WS-1", Task: kill}, 0, "queued 1", "sending 2", "accepted 4", "running 5", "done 6")
	r.order(bridge.Order{ID: "o2", AlertID: "a2", Host: "WS-1", Task: bridge.IsolateHost{Action: bridge.IsolationOn}, For: testLease}, 0,
		"sending 10", "accepted 12")
	r.order(bridge.Order{
		ID: "o3", AlertID: "a3", Host: "WS-1", Task: bridge.IsolateHost{Action: bridge.IsolationOn}, For: testLease, Reason: bridge.ReasonLease, Covers: "o2",
	}, 0, "duplicate 20")
	r.order(bridge.Order{ID: "o4", Actor: bridge.ActorLease, Host: "WS-1", Task: bridge.IsolateHost{Action: bridge.IsolationOff}}, 0,
		"sending 3025", "accepted 3027")
	r.incident("o1", 3)
	r.incident("o2", 11)
	r.incident("o4", 3026)
	r.seal()
	return r
}

func (r *sampleRun) want(alert string, task bridge.Kind, path string) {
	r.wants = append(r.wants, want{alert: alert, task: task, name: "WS-1", host: testHost, path: path})
}

// at is a moment of the run, in milliseconds.
func (r *sampleRun) at(ms int) time.Time { return r.start.Add(time.Duration(ms) * time.Millisecond) }

// order adds an order and its audit records, "state millisecond" each. shift is added to its second.
func (r *sampleRun) order(o bridge.Order, shift int, states ...string) {
	from := bridge.State("")
	for _, s := range states {
		rec := r.record(o.ID, from, s)
		if rec.To == bridge.StateSending {
			params, err := bridge.EncodeParams(o.Task)
			if err != nil {
				panic(err)
			}
			o.Intent = bridge.Intent{
				Target: testHost, Second: rec.Time.Truncate(time.Second).Add(time.Duration(shift) * time.Second),
				Body: fmt.Sprintf(`{"targetHost":%q,"task":%q,"params":%s}`, testHost, o.Task.Kind(), params),
			}
		}
		r.audit = append(r.audit, rec)
		from = rec.To
	}
	o.State = from
	r.orders = append(r.orders, o)
}

func (r *sampleRun) record(order string, from bridge.State, text string) bridge.AuditRecord {
	var state string
	var ms int
	if _, err := fmt.Sscan(text, &state, &ms); err != nil {
		panic(err)
	}
	rec := bridge.AuditRecord{What: bridge.AuditMove, Order: order, From: from, To: bridge.State(state), Time: r.at(ms)}
	if from == "" {
		rec.What = bridge.AuditAdmit
	}
	return rec
}

// incident adds the incident of an order.
func (r *sampleRun) incident(order string, ms int) {
	o := r.byID(order)
	i := ksctest.Incident{ID: len(r.incidents) + 1, Host: o.Intent.Target, Body: o.Intent.Body, Added: o.Intent.Second, Stored: r.at(ms)}
	r.incidents = append(r.incidents, i)
	o.Ref = fmt.Sprint(i.ID)
}

func (r *sampleRun) byID(order string) *bridge.Order {
	i := slices.IndexFunc(r.orders, func(o bridge.Order) bool { return o.ID == order })
	return &r.orders[i]
}

// move puts records of an order at the end of its own, in place of those from the given state on.
func (r *sampleRun) move(order string, instead bridge.State, states ...string) {
	at := slices.IndexFunc(r.audit, func(a bridge.AuditRecord) bool { return a.Order == order && a.To == instead })
	from := r.audit[at].From
	r.audit = slices.DeleteFunc(r.audit, func(a bridge.AuditRecord) bool {
		return a.Order == order && a.To != from && !a.Time.Before(r.audit[at].Time)
	})
	for i, s := range states {
		rec := r.record(order, from, s)
		r.audit = slices.Insert(r.audit, at+i, rec)
		from = rec.To
	}
	r.byID(order).State = from
	r.seal()
}

// seal numbers and links the records.
func (r *sampleRun) seal() {
	var prev [32]byte
	for i := range r.audit {
		rec := &r.audit[i]
		rec.Seq, rec.Prev = int64(i)+1, prev
		binary.BigEndian.PutUint64(rec.Hash[:], uint64(rec.Seq))
		prev = rec.Hash
	}
	n := int64(len(r.audit))
	r.chain = bridge.AuditReport{Records: n, Head: bridge.Anchor{Seq: n, Hash: prev}}
}

func TestCheckerAgreesWithARunInWhichAllWentWell(t *testing.T) {
	t.Parallel()
	if f := check(newSampleRun().evidence); f.missing != 0 || f.duplicated != 0 || len(f.disagreements) != 0 {
		t.Errorf("got %d missing, %d duplicated: %q; want nothing", f.missing, f.duplicated, f.disagreements)
	}
}

func TestCheckerFindsWhatIsMissingDoubledOrContradicts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		edit                func(r *sampleRun)
		missing, duplicated int
		text                string
	}{
		"an incident is gone": {
			func(r *sampleRun) { r.incidents = slices.Delete(r.incidents, 0, 1) }, 1, 0, "order o1 was accepted and has no incident",
		},
		"the isolation is gone": {
			// The second reason rests on the first order, so both came to nothing.
			func(r *sampleRun) { r.incidents = slices.Delete(r.incidents, 1, 2) }, 2, 0, "order o2 was accepted and has no incident",
		},
		"an alert was never stored": {
			func(r *sampleRun) { r.want("a9", bridge.KindIsolateHost, "") }, 1, 0, "isolateHost of alert a9",
		},
		"an incident was added twice": {
			func(r *sampleRun) {
				again := r.incidents[0]
				again.ID = 9
				r.incidents = append(r.incidents, again)
			}, 0, 1, "incidents 1 and 9 are equal in host, second and body",
		},
		"the same was added again with another second": {
			func(r *sampleRun) {
				again := r.incidents[0]
				again.ID, again.Added = 9, again.Added.Add(5*time.Second)
				r.incidents = append(r.incidents, again)
			}, 0, 1, "incident 9 belongs to no order",
		},
		"an isolation was added again with another second": {
			func(r *sampleRun) {
				again := r.incidents[1]
				again.ID, again.Added = 9, again.Added.Add(5*time.Second)
				r.incidents = append(r.incidents, again)
			}, 0, 1, "incident 9 belongs to no order",
		},
		"an order failed and its incident is there": {
			func(r *sampleRun) { r.move("o1", bridge.StateAccepted, "failed 4") }, 0, 1, "which is failed and was never accepted",
		},
		"an order expired": {
			func(r *sampleRun) {
				r.move("o1", bridge.StateAccepted, "queued 4", "expired 900")
				r.byID("o1").Intent = bridge.Intent{}
				r.incidents = slices.Delete(r.incidents, 0, 1)
			}, 1, 0, "order o1 is expired",
		},
		"an order is held": {
			func(r *sampleRun) {
				r.want("a9", bridge.KindTerminateProcess, "/opt/y")
				r.order(bridge.Order{ID: "o9", AlertID: "a9", Host: "WS-1", Task: bridge.TerminateProcess{Path: "/opt/y"}}, 0, "held 5000")
				r.seal()
			}, 1, 0, "order o9 is held",
		},
		"an order is unknown": {
			func(r *sampleRun) { r.move("o1", bridge.StateAccepted, "unknown 4") }, 0, 0, "has an incident although order o1 is unknown",
		},
		"the reference is another incident": {
			func(r *sampleRun) { r.byID("o1").Ref = "2" }, 0, 0, `says that incident "2" is its own, the mock says 1`,
		},
		"two orders have one intent": {
			func(r *sampleRun) {
				r.want("a9", bridge.KindIsolateHost, "")
				r.order(bridge.Order{ID: "o9", AlertID: "a9", Host: "WS-1", Task: bridge.IsolateHost{Action: bridge.IsolationOn}, For: testLease}, -3,
					"sending 3030", "accepted 3040")
				r.seal()
			}, 1, 0, "have the same host, second and body",
		},
		"an order nobody asked for": {
			func(r *sampleRun) { r.wants = r.wants[1:] }, 0, 0, "order o1 was never asked for",
		},
		"an order from nowhere": {
			func(r *sampleRun) { r.byID("o4").Actor = "cli:root" }, 0, 0, "comes from no alert and from no lease",
		},
		"one alert has two orders": {
			func(r *sampleRun) {
				r.order(bridge.Order{
					ID: "o9", AlertID: "a3", Host: "WS-1", Task: bridge.IsolateHost{Action: bridge.IsolationOn}, Reason: bridge.ReasonLease, Covers: "o2",
				}, 0, "duplicate 21")
				r.seal()
			}, 0, 0, "are the same isolateHost of alert a3",
		},
		"a reason rests on an order for another host": {
			func(r *sampleRun) { r.byID("o3").Covers = "o1" }, 1, 0, "which isolates another host",
		},
		"a reason rests on nothing": {
			func(r *sampleRun) { r.byID("o3").Covers = "o8" }, 1, 0, "which the store does not have",
		},
		"an isolation was cancelled before its time": {
			func(r *sampleRun) {
				r.want("a9", bridge.KindIsolateHost, "")
				r.order(bridge.Order{ID: "o9", AlertID: "a9", Host: "WS-1", Task: bridge.IsolateHost{Action: bridge.IsolationOn}, For: testLease}, 0,
					"queued 3020", "cancelled 3026")
				r.seal()
			}, 1, 0, "order o9 is cancelled",
		},
		"the intent came after the incident": {
			func(r *sampleRun) { r.incidents[0].Stored = r.at(1) }, 0, 0, `when order o1 was "queued" and not sending`,
		},
		"the incident came after its end": {
			func(r *sampleRun) { r.incidents[0].Stored = r.at(5) }, 0, 0, `when order o1 was "running" and not sending`,
		},
		"a state was skipped": {
			func(r *sampleRun) { r.move("o1", bridge.StateRunning, "held 5") }, 0, 0, "order o1 goes from accepted to held",
		},
		"a record is missing": {
			func(r *sampleRun) { r.audit = slices.Delete(r.audit, 1, 2); r.seal() }, 0, 0, "then moves from sending",
		},
		"the numbers have a gap": {
			func(r *sampleRun) { r.audit = slices.Delete(r.audit, 1, 2) }, 0, 0, "record 3 stands in the place of record 2",
		},
		"a link is broken": {
			func(r *sampleRun) { r.audit[3].Prev[5] = 1 }, 0, 0, "record 4 does not follow from record 3",
		},
		"the head is another one": {
			func(r *sampleRun) { r.chain.Head.Hash[5] = 1 }, 0, 0, "not the head that was verified",
		},
		"the store found a bad record": {
			func(r *sampleRun) { r.chain.FirstBad, r.chain.Problem = 3, "edited" }, 0, 0, "breaks at record 3: edited",
		},
		"fewer records were verified": {
			func(r *sampleRun) { r.chain.Records-- }, 0, 0, "were verified and",
		},
		"the store says otherwise": {
			func(r *sampleRun) { r.byID("o1").State = bridge.StateRunning }, 0, 0, "is running in the store and done in the audit records",
		},
		"an order has no records": {
			func(r *sampleRun) {
				r.audit = slices.DeleteFunc(r.audit, func(a bridge.AuditRecord) bool { return a.Order == "o3" })
				r.seal()
			}, 0, 0, "order o3 is in the store and not in the audit records",
		},
		"an order was admitted twice": {
			func(r *sampleRun) { r.audit[1].What = bridge.AuditAdmit }, 0, 0, "a second record of its admission",
		},
		"an order enters as accepted": {
			func(r *sampleRun) { r.move("o3", bridge.StateDuplicate, "accepted 20") }, 1, 0, "order o3 enters as",
		},
		"an order was forgotten by the store": {
			func(r *sampleRun) {
				r.orders = slices.DeleteFunc(r.orders, func(o bridge.Order) bool { return o.ID == "o3" })
			}, 1, 0, "order o3 is in the audit records and not in the store",
		},
		"time runs backwards": {
			func(r *sampleRun) { r.audit[4].Time = r.at(4).Add(-time.Millisecond / 2) }, 0, 0, "is older than record",
		},
		"a lease still holds": {
			func(r *sampleRun) { r.leases = []bridge.Lease{{Order: "o2", Host: "WS-1"}} }, 0, 0, "still holds",
		},
		"a host stays isolated": {
			func(r *sampleRun) {
				r.orders, r.incidents = r.orders[:3], r.incidents[:2]
				r.audit = slices.DeleteFunc(r.audit, func(a bridge.AuditRecord) bool { return a.Order == "o4" })
				r.seal()
			}, 0, 0, "stays isolated",
		},
		"a host was released too early": {
			func(r *sampleRun) { r.byID("o3").For = time.Minute }, 0, 0, "before the reason of order o3 lapsed",
		},
		"an incident is for another host": {
			func(r *sampleRun) { r.incidents[0].Host = "00000000-0000-4000-8000-000000000002" }, 1, 1, "is no task for its host",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newSampleRun()
			test.edit(r)
			f := check(r.evidence)
			if f.missing != test.missing || f.duplicated != test.duplicated {
				t.Errorf("got %d missing, %d duplicated, want %d and %d: %q", f.missing, f.duplicated, test.missing, test.duplicated, f.disagreements)
			}
			if !slices.ContainsFunc(f.disagreements, func(d string) bool { return strings.Contains(d, test.text) }) {
				t.Errorf("no disagreement has %q: %q", test.text, f.disagreements)
			}
		})
	}
}

func TestCheckerLetsGoOfAnIsolationThatItsOwnTimeOvertook(t *testing.T) {
	t.Parallel()
	r := newSampleRun()
	// Its request was lost; while it was looked for its time passed, and the release went first.
	r.want("a9", bridge.KindIsolateHost, "")
	r.order(bridge.Order{ID: "o9", AlertID: "a9", Host: "WS-1", Task: bridge.IsolateHost{Action: bridge.IsolationOn}, For: testLease}, 0,
		"sending 4000", "cancelled 7500")
	r.order(bridge.Order{ID: "o10", Actor: bridge.ActorLease, Host: "WS-1", Task: bridge.IsolateHost{Action: bridge.IsolationOff}}, 0,
		"sending 7001", "accepted 7100")
	r.incident("o10", 7050)
	r.seal()
	if f := check(r.evidence); f.missing != 0 || f.duplicated != 0 || len(f.disagreements) != 0 {
		t.Errorf("got %d missing, %d duplicated: %q; want nothing", f.missing, f.duplicated, f.disagreements)
	}
}
