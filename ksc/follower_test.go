package ksc_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/ksc"
	"github.com/edr-bridge/edr-bridge/ksc/ksctest"
)

// settableClock is the time of server and executor together.
type settableClock struct {
	mu sync.Mutex // guards t
	t  time.Time
}

func (c *settableClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *settableClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// following is a mock whose tasks take 10 s a step, and an executor that follows them.
type following struct {
	*settableClock
	t *testing.T
	s *ksctest.Server
	e *ksc.Executor
	n int
}

func startFollowing(t *testing.T, change ...func(*ksctest.Config)) *following {
	t.Helper()
	f := &following{settableClock: &settableClock{t: start}, t: t}
	f.s = startMock(t, append([]func(*ksctest.Config){func(c *ksctest.Config) {
		c.Now, c.BackgroundConnection, c.TaskDelay = f.now, true, 10*time.Second
	}}, change...)...)
	f.e = f.executor()
	return f
}

// executor is one that remembers nothing.
func (f *following) executor() *ksc.Executor {
	f.t.Helper()
	return newExecutor(f.t, newClient(f.t, f.s), func(c *ksc.ExecutorConfig) { c.Now = f.now })
}

// accept has an order accepted on a host.
func (f *following) accept(host string, task bridge.Task) bridge.Order {
	f.t.Helper()
	f.n++
	o := bridge.Order{ID: fmt.Sprintf("o%024d", f.n), Host: host, Task: task, State: bridge.StateAccepted}
	in, _, err := f.e.Intend(f.t.Context(), o, true)
	if err != nil {
		f.t.Fatal(err)
	}
	o.Intent = in
	r, err := f.e.Execute(f.t.Context(), o)
	if err != nil {
		f.t.Fatal(err)
	}
	o.Ref = r.Ref
	return o
}

func (f *following) follow(orders ...bridge.Order) []bridge.Progress {
	f.t.Helper()
	p, err := f.e.Follow(f.t.Context(), orders)
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

// requests counts what was asked while do ran, logins aside.
func (f *following) requests(do func()) (n int64) {
	before := f.s.Requests()
	do()
	for name, count := range f.s.Requests() {
		if !strings.HasPrefix(name, "Session.") {
			n += count - before[name]
		}
	}
	return n
}

var isolation = bridge.IsolateHost{Action: bridge.IsolationOn}

// sources are the places where a server may list response tasks.
func sources() map[string]func(*testing.T, *following) {
	refuse := func(t *testing.T, f *following, method string) {
		addFault(t, f.s, ksctest.Fault{Kind: ksctest.FaultApplication, Method: method})
	}
	return map[string]func(*testing.T, *following){
		"tasks of the host": func(*testing.T, *following) {},
		"iterator":          func(t *testing.T, f *following) { refuse(t, f, "Tasks.GetAllTasksOfHost") },
		"host tasks": func(t *testing.T, f *following) {
			refuse(t, f, "Tasks.GetAllTasksOfHost")
			refuse(t, f, "Tasks.ResetTasksIterator")
		},
		"not listed with the host": func(t *testing.T, f *following) {
			addFault(t, f.s, ksctest.Fault{Kind: ksctest.FaultServerError, Method: "Tasks.GetAllTasksOfHost", Text: "no such method"})
			f.s.Faults().Clear()
			addFault(t, f.s, ksctest.Fault{Kind: ksctest.FaultHTML, Status: http.StatusNotFound, Method: "Tasks.GetAllTasksOfHost"})
		},
	}
}

func TestFollowTellsWhatTheHostDoesAboutAnOrder(t *testing.T) {
	t.Parallel()
	ends := map[string]struct {
		state ksctest.HostState
		words string
		want  bridge.Progress
	}{
		"done":    {ksctest.StateOK, "", bridge.Progress{State: bridge.StateDone, Detail: "task 101 ended well"}},
		"warning": {ksctest.StateWarning, "reboot needed", bridge.Progress{State: bridge.StateDone, Detail: "task 101 ended with a warning: reboot needed"}},
		"failed":  {ksctest.StateFailed, "no\x1b[31m such\nfile", bridge.Progress{State: bridge.StateFailed, Detail: "task 101 failed: no [31m such file"}},
	}
	for source, prepare := range sources() {
		for end, c := range ends {
			t.Run(source+" "+end, func(t *testing.T) {
				t.Parallel()
				f := startFollowing(t, func(cfg *ksctest.Config) {
					cfg.TaskOutcome = func(ksctest.Task) (ksctest.HostState, string) { return c.state, c.words }
				})
				o := f.accept("WS-01", isolation)
				prepare(t, f)
				c.want.OrderID = o.ID
				for step, want := range []*bridge.Progress{
					nil, nil, {OrderID: o.ID, State: bridge.StateRunning, Detail: "task 101 runs on the host"}, &c.want, &c.want,
				} {
					var got []bridge.Progress
					asked := f.requests(func() { got = f.follow(o) })
					var all []bridge.Progress
					if want != nil {
						all = []bridge.Progress{*want}
					}
					if diff := cmp.Diff(all, got); diff != "" {
						t.Fatalf("step %d: %s", step, diff)
					}
					if step == 2 && asked != 1 || step == 4 && asked != 0 {
						t.Errorf("step %d took %d requests although the task is known", step, asked)
					}
					f.add(10 * time.Second)
				}
				if n := f.s.OpenAccessors(); n > 1 { // the handle of HostTasks cannot be released; it is used again
					t.Errorf("%d iterators were left behind", n)
				}
			})
		}
	}
}

func TestFollowTellsOrdersOfOneHostApart(t *testing.T) {
	t.Parallel()
	for _, hostTasksOnly := range []bool{false, true} {
		f := startFollowing(t, func(c *ksctest.Config) {
			c.HostTasksOnly = hostTasksOnly
			c.TaskOutcome = func(task ksctest.Task) (ksctest.HostState, string) {
				if task.IncidentID%2 == 0 {
					return ksctest.StateFailed, "even"
				}
				return ksctest.StateOK, ""
			}
		})
		var orders []bridge.Order
		for range 6 {
			for _, host := range []string{"WS-01", "WS-02"} {
				orders = append(orders, f.accept(host, isolation))
			}
			f.add(time.Second)
		}
		f.add(time.Minute)
		slices.Reverse(orders)
		got := f.follow(orders...)
		if len(got) != len(orders) {
			t.Fatalf("host tasks only %v: %d of %d orders answered", hostTasksOnly, len(got), len(orders))
		}
		for _, p := range got {
			at := slices.IndexFunc(orders, func(o bridge.Order) bool { return o.ID == p.OrderID })
			want := bridge.StateDone
			if id := orders[at].Ref; (id[len(id)-1]-'0')%2 == 0 {
				want = bridge.StateFailed
			}
			if p.State != want {
				t.Errorf("order with incident %s: %+v", orders[at].Ref, p)
			}
		}
	}
}

func TestFollowAsksLittleForManyOrders(t *testing.T) {
	t.Parallel()
	const hosts, page = 1000, 200
	for source, first := range map[string]int64{"tasks of the host": 3 * page, "iterator": hosts + 5*page} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			f := startFollowing(t, func(c *ksctest.Config) {
				for i := range hosts {
					c.Hosts = append(c.Hosts, ksctest.Host{ID: fmt.Sprintf("00000000-0000-0000-0000-%012d", i), NetBIOS: fmt.Sprintf("PC-%04d", i)})
				}
			})
			var orders []bridge.Order
			for i := range hosts {
				orders = append(orders, f.accept(fmt.Sprintf("00000000-0000-0000-0000-%012d", i), isolation))
			}
			f.add(20 * time.Second)
			sources()[source](t, f)
			for round := range 2 {
				most := first // the first page bears the walk over all tasks of the server and the sources that do not answer
				for part := range slices.Chunk(orders, page) {
					var got []bridge.Progress
					n := f.requests(func() { got = f.follow(part...) })
					if len(got) != page || got[0].State != bridge.StateRunning {
						t.Fatalf("%d of %d orders answered: %+v", len(got), page, got[:min(1, len(got))])
					}
					if round == 1 {
						most = page // the state alone
					}
					if n > most+10 {
						t.Errorf("round %d: %d requests for %d orders, want at most %d", round, n, page, most)
					}
					most = min(most, 4*page)
				}
			}
		})
	}
}

func TestFollowGuessesOnlyAfterAWhileAndSaysSo(t *testing.T) {
	t.Parallel()
	f := startFollowing(t)
	o := f.accept("WS-01", isolation)
	f.add(time.Second)
	o.Ref = "4711" // a server that names tasks by something else
	f.add(29 * time.Second)
	if got := f.follow(o); len(got) != 0 {
		t.Fatalf("guessed after 30 s: %+v", got)
	}
	f.add(time.Minute)
	want := []bridge.Progress{{OrderID: o.ID, State: bridge.StateDone, Detail: "task 101 (found by host, kind and time) ended well"}}
	if diff := cmp.Diff(want, f.follow(o)); diff != "" {
		t.Error(diff)
	}
}

func TestFollowLetsNoTaskAnswerTwiceThroughAnotherSource(t *testing.T) {
	t.Parallel()
	f := startFollowing(t)
	o := f.accept("WS-01", isolation)
	o.Ref = "4711"
	other := o
	other.ID, other.Ref = "o2", "4712"
	f.add(2 * time.Minute)
	if got := f.follow(o); len(got) != 1 {
		t.Fatalf("got %+v", got)
	}
	for range 3 { // the right source is known, then forgotten: every source is asked
		if got := f.follow(o, other); len(got) != 1 || got[0].OrderID != o.ID {
			t.Errorf("got %+v", got)
		}
		f.add(6 * time.Minute)
	}
	if f.s.Requests()["HostTasks.GetNextTask"] == 0 {
		t.Error("the other sources were not asked")
	}
}

func TestFollowIsSilentAboutWhatIsNoneOfItsTasks(t *testing.T) {
	t.Parallel()
	f := startFollowing(t)
	f.accept("WS-01", bridge.GetFile{Path: `C:\a.exe`, MD5: md5Hash})
	f.accept("WS-02", isolation)
	f.add(10 * time.Minute)
	stranger := isolate(t, 0)
	stranger.Ref, stranger.Intent.Second = "99", f.now().Add(-5*time.Minute)
	never := bridge.Order{ID: "o1", Task: isolation}
	empty := bridge.Order{ID: "o2"}
	if got := f.follow(stranger, never, empty); len(got) != 0 {
		t.Errorf("got %+v", got)
	}
	if got := f.follow(); got != nil {
		t.Errorf("got %+v", got)
	}
}

func TestFollowReportsATaskThatWasRotatedOut(t *testing.T) {
	t.Parallel()
	for _, hostTasksOnly := range []bool{false, true} {
		f := startFollowing(t, func(c *ksctest.Config) { c.HostTasksOnly, c.TaskDelay = hostTasksOnly, time.Hour })
		o := f.accept("WS-01", isolation)
		other := f.accept("WS-02", isolation)
		f.add(90 * time.Minute)
		for range 100 { // KES keeps 100 and drops the oldest, finished or not
			f.accept("WS-01", isolation)
		}
		f.add(31 * time.Minute)
		if got := f.follow(o, other); len(got) != 2 || got[0].State != bridge.StateRunning {
			t.Fatalf("got %+v", got)
		}
		f.add(40 * time.Minute)
		f.s.Advance()
		if n := f.s.RotatedTasks(); n != 1 {
			t.Fatalf("%d tasks rotated", n)
		}
		want := []bridge.Progress{
			{OrderID: o.ID, State: bridge.StateRunning, Detail: "the task is not listed any more: rotated out or deleted"},
			{OrderID: other.ID, State: bridge.StateRunning, Detail: "task 102 runs on the host"},
		}
		for range 2 {
			if diff := cmp.Diff(want, f.follow(o, other)); diff != "" {
				t.Errorf("host tasks only %v: %s", hostTasksOnly, diff)
			}
		}
		// One that never saw the task has nothing to say about it.
		if got, err := f.executor().Follow(t.Context(), []bridge.Order{o}); err != nil || len(got) != 0 {
			t.Errorf("got %+v, %v", got, err)
		}
	}
}

func TestFollowSaysSoWhenTheStateCannotBeRead(t *testing.T) {
	t.Parallel()
	f := startFollowing(t)
	o := f.accept("WS-01", isolation)
	f.add(time.Minute)
	addFault(t, f.s, ksctest.Fault{Kind: ksctest.FaultApplication, Method: "Tasks.GetTaskStatistics"})
	want := []bridge.Progress{{OrderID: o.ID, State: bridge.StateRunning, Detail: "task 101 is listed, but its state cannot be read"}}
	if diff := cmp.Diff(want, f.follow(o)); diff != "" {
		t.Error(diff)
	}
}

func TestFollowReturnsWhatItLearnedWithAnError(t *testing.T) {
	t.Parallel()
	f := startFollowing(t)
	a, b := f.accept("WS-01", isolation), f.accept("WS-02", isolation)
	f.add(20 * time.Second)
	if got := f.follow(a, b); len(got) != 2 {
		t.Fatalf("got %+v", got)
	}
	addFault(t, f.s, ksctest.Fault{Kind: ksctest.FaultServerError, Method: "Tasks.GetTaskStatistics", Skip: 1})
	got, err := f.e.Follow(t.Context(), []bridge.Order{a, b})
	ee := wantClass(t, err, bridge.Retry)
	if len(got) != 1 || got[0].OrderID != a.ID || ee.OrderID != b.ID {
		t.Errorf("got %+v, %v", got, ee)
	}
	f.s.Down()
	got, err = f.executor().Follow(t.Context(), []bridge.Order{a, b})
	wantClass(t, err, bridge.Retry) // never Unreachable: the order was accepted
	if len(got) != 0 {
		t.Errorf("got %+v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.e.Follow(ctx, []bridge.Order{a}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestFollowReportsAServerThatListsNoTasksToTheAccount(t *testing.T) {
	t.Parallel()
	f := startFollowing(t)
	o := f.accept("WS-01", isolation)
	for _, m := range []string{"Tasks.GetAllTasksOfHost", "Tasks.ResetTasksIterator", "HostGroup.GetHostTasks"} {
		addFault(t, f.s, ksctest.Fault{Kind: ksctest.FaultApplication, Method: m, Text: "no rights\x1b[2J"})
	}
	got, err := f.e.Follow(t.Context(), []bridge.Order{o})
	ee := wantClass(t, err, bridge.Unknown)
	if len(got) != 0 || ee.OrderID != o.ID || !strings.Contains(err.Error(), "no rights") || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("got %+v, %q", got, err)
	}
}

func TestFollowBeginsTheWalkAgainWhenTheSessionTookTheIteratorAlong(t *testing.T) {
	t.Parallel()
	f := startFollowing(t)
	o := f.accept("WS-01", isolation)
	f.add(20 * time.Second)
	sources()["iterator"](t, f)
	addFault(t, f.s, ksctest.Fault{Kind: ksctest.FaultApplication, Method: "HostGroup.GetHostTasks"})
	addFault(t, f.s, ksctest.Fault{Kind: ksctest.FaultExpire, Method: "Tasks.GetNextTask", Skip: 1, Count: 1})
	if got := f.follow(o); len(got) != 1 || got[0].State != bridge.StateRunning {
		t.Errorf("got %+v", got)
	}
}

func TestFollowNeverAsksForTheNextTaskTwice(t *testing.T) {
	t.Parallel()
	f := startFollowing(t)
	o := f.accept("WS-01", isolation)
	f.add(20 * time.Second)
	sources()["iterator"](t, f)
	addFault(t, f.s, ksctest.Fault{Kind: ksctest.FaultClose, Method: "Tasks.GetNextTask", Stored: true, Count: 1})
	_, err := f.e.Follow(t.Context(), []bridge.Order{o})
	wantClass(t, err, bridge.Retry)
	if n := f.s.Requests()["Tasks.GetNextTask"]; n != 1 {
		t.Errorf("%d requests: a repetition would skip a task", n)
	}
	if got := f.follow(o); len(got) != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestFollowGuessesNothingBeforeItHasSeenAllTasksOfAHost(t *testing.T) {
	t.Parallel()
	const tasks = 1100 // more than one call asks about
	ids := make([]string, tasks)
	for i := range ids {
		ids[i] = strconv.Quote(strconv.Itoa(i + 1))
	}
	raw := startRaw(t, func(w http.ResponseWriter, r *http.Request, method string) {
		switch method {
		case "Tasks.GetAllTasksOfHost":
			fmt.Fprintf(w, `{"PxgRetVal":[%s]}`, strings.Join(ids, ","))
		case "Tasks.GetTask":
			fmt.Fprint(w, `{"PxgRetVal":{"DisplayName":"[Response][KUMA] isolateHost - 2026-11-20 17:07:06 - x",`+
				`"PRTS_TASK_CREATION_DATE":{"type":"datetime","value":"2026-11-20T17:07:06Z"}}}`)
		case "Tasks.GetTaskStatistics":
			fmt.Fprint(w, `{"PxgRetVal":{"4":1}}`)
		default:
			http.Error(w, "no such method", http.StatusNotFound)
		}
	})
	e := newExecutor(t, rawClient(t, raw), func(c *ksc.ExecutorConfig) { c.Now = func() time.Time { return start.Add(time.Hour) } })
	o := isolate(t, 0)
	o.Ref = "17"
	got, err := e.Follow(t.Context(), []bridge.Order{o})
	if n := raw.count("Tasks.GetTask"); err != nil || len(got) != 0 || n > 1000 {
		t.Fatalf("got %+v, %v after %d reads", got, err, n)
	}
	got, err = e.Follow(t.Context(), []bridge.Order{o})
	want := []bridge.Progress{{OrderID: o.ID, State: bridge.StateDone, Detail: "task 1 (found by host, kind and time) ended well"}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil || raw.count("Tasks.GetTask") != tasks {
		t.Errorf("%s, %v after %d reads", diff, err, raw.count("Tasks.GetTask"))
	}
}

func TestHostileTasksAreSkippedAndDoNoHarm(t *testing.T) {
	t.Parallel()
	o := isolate(t, 0)
	o.Ref = "17"
	name := "[Response][KUMA] isolateHost - 2026-11-20 17:07:06 - 17"
	long := strings.Repeat("A", 100_000)
	for title, c := range map[string]struct{ ids, task, statistics, statuses string }{
		"odd ids":       {`["\u001b[31m",7,null,{},"` + long + `","5"]`, `{"DisplayName":"` + name + `"}`, `{"2":1}`, `[]`},
		"odd task":      {`["5"]`, `{"DisplayName":["` + long + `"],"PRTS_TASK_CREATION_DATE":7}`, `{"2":1}`, `[]`},
		"odd counts":    {`["5"]`, `{"DisplayName":"` + name + `"}`, `{"2":"many","4":-1,"16":1e99,"8":{}}`, `[]`},
		"all at once":   {`["5"]`, `{"DisplayName":"` + name + `"}`, `{"2":9,"4":9}`, `[{"type":"params","value":{"hostname":"` + hostB + `","state_code":4}}]`},
		"long words":    {`["5"]`, `{"DisplayName":"` + name + `"}`, `{"16":1}`, `[{"type":"params","value":{"hostname":"` + hostA + `","state_code":16,"state_descr":"` + long + `\u202e\r\nforged=1"}}]`},
		"empty answers": {`[]`, `{}`, `{}`, `[]`},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			raw := startRaw(t, func(w http.ResponseWriter, _ *http.Request, method string) {
				switch method {
				case "Tasks.GetAllTasksOfHost":
					fmt.Fprintf(w, `{"PxgRetVal":%s}`, c.ids)
				case "Tasks.GetTask":
					fmt.Fprintf(w, `{"PxgRetVal":%s}`, c.task)
				case "Tasks.GetTaskStatistics":
					fmt.Fprintf(w, `{"PxgRetVal":%s}`, c.statistics)
				case "Tasks.ResetHostIteratorForTaskStatusEx":
					fmt.Fprint(w, `{"strHostIteratorId":"x"}`)
				case "Tasks.GetHostStatusRecordRange":
					fmt.Fprintf(w, `{"PxgRetVal":1,"pParHostStatus":{"statuses":%s}}`, c.statuses)
				case "Tasks.ResetTasksIterator":
					fmt.Fprint(w, `{"strTaskIteratorId":"x"}`)
				case "HostGroup.GetHostTasks":
					fmt.Fprint(w, `{"PxgRetVal":"x"}`)
				default:
					fmt.Fprint(w, `{}`)
				}
			})
			got, err := newExecutor(t, rawClient(t, raw)).Follow(t.Context(), []bridge.Order{o})
			if err != nil || len(got) > 1 {
				t.Fatalf("got %+v, %v", got, err)
			}
			for _, p := range got {
				if len(p.Detail) > 1000 || strings.ContainsAny(p.Detail, "\n\r\x1b\u202e") {
					t.Errorf("detail is not fit for a log: %q", p.Detail)
				}
			}
		})
	}
}
