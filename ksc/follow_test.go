package ksc

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func TestResponseTaskIsRecognisedByItsName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		kind, ref string
		ok        bool
	}{
		"[Response][KUMA] isolateHost - 2026-11-20 17:07:06 - 17":   {"isolateHost", "17", true},
		"[response][kuma] ISOLATEHOST - 20.11.2026 17:07 - 17 ":     {"ISOLATEHOST", "17", true},
		"[Response] [Kuma] getFile - 2026-11-20 17:07:06 - a-b - 8": {"getFile", "8", true},
		"[Response][KUMA] getFile - 2026-11-20 17:07:06":            {"getFile", "", true},
		"[Response][KUMA] getFile":                                  {},
		"[Response][EDR] getFile - 2026-11-20 17:07:06 - 17":        {},
		"my [Response][KUMA] getFile - 2026-11-20 17:07:06 - 17":    {},
		"Install updates": {},
		"":                {},
		"[Response][KUMA] isolateHost - x\n - 17":                      {},
		"[Response][KUMA] isolateHost; rm - 2026-11-20 17:07:06 - 17":  {},
		"[Response][KUMA] isolateHost - 2026-11-20 17:07:06 - 17 - 99": {"isolateHost", "99", true},
	} {
		got, ok := sight(Task{DisplayName: name})
		if ok != want.ok || got.kind != want.kind || got.ref != want.ref {
			t.Errorf("%q: got %q %q %v", name, got.kind, got.ref, ok)
		}
	}
}

func TestMatchPairsOrdersWithTheirTasks(t *testing.T) {
	t.Parallel()
	order := func(id, ref string, second int) wanted {
		return wanted{order: id, host: "A", kind: "isolateHost", ref: ref, added: noon.Add(time.Duration(second) * time.Second), guess: true}
	}
	task := func(id, ref string, second int) sighted {
		return sighted{
			Task: Task{ID: id, Created: noon.Add(time.Duration(second) * time.Second)}, kind: "IsolateHost", ref: ref, hosts: []string{"a"},
		}
	}
	with := func(s sighted, change func(*sighted)) sighted { change(&s); return s }
	sure := func(w wanted) wanted { w.guess = false; return w }
	for name, c := range map[string]struct {
		wants []wanted
		tasks []sighted
		want  map[string]string
	}{
		"nothing":                          {nil, nil, map[string]string{}},
		"by the incident":                  {[]wanted{order("o1", "17", 0)}, []sighted{task("9", "17", 1)}, map[string]string{"o1": "9 exact"}},
		"the incident wins over age":       {[]wanted{order("o1", "18", 0)}, []sighted{task("8", "x", 1), task("9", "18", 2)}, map[string]string{"o1": "9 exact"}},
		"part of the incident is not it":   {[]wanted{sure(order("o1", "7", 0))}, []sighted{task("9", "17", 1)}, map[string]string{}},
		"by time":                          {[]wanted{order("o1", "17", 0)}, []sighted{task("9", "x", 1)}, map[string]string{"o1": "9"}},
		"nothing is guessed too early":     {[]wanted{sure(order("o1", "17", 0))}, []sighted{task("9", "x", 1)}, map[string]string{}},
		"a slow clock is forgiven":         {[]wanted{order("o1", "17", 0)}, []sighted{task("9", "x", -60)}, map[string]string{"o1": "9"}},
		"older than the order":             {[]wanted{order("o1", "17", 0)}, []sighted{task("9", "x", -61)}, map[string]string{}},
		"older than the order, incident":   {[]wanted{order("o1", "17", 0)}, []sighted{task("9", "17", -61)}, map[string]string{}},
		"age not told":                     {[]wanted{order("o1", "17", 0)}, []sighted{with(task("9", "x", 0), func(s *sighted) { s.Created = time.Time{} })}, map[string]string{}},
		"age not told, incident":           {[]wanted{order("o1", "17", 0)}, []sighted{with(task("9", "17", 0), func(s *sighted) { s.Created = time.Time{} })}, map[string]string{"o1": "9 exact"}},
		"other host":                       {[]wanted{order("o1", "17", 0)}, []sighted{with(task("9", "17", 1), func(s *sighted) { s.hosts = []string{"b"} })}, map[string]string{}},
		"host not told":                    {[]wanted{order("o1", "17", 0)}, []sighted{with(task("9", "x", 1), func(s *sighted) { s.hosts = nil })}, map[string]string{}},
		"host not told, incident":          {[]wanted{order("o1", "17", 0)}, []sighted{with(task("9", "17", 1), func(s *sighted) { s.hosts = nil })}, map[string]string{"o1": "9 exact"}},
		"other kind":                       {[]wanted{order("o1", "17", 0)}, []sighted{with(task("9", "17", 1), func(s *sighted) { s.kind = "getFile" })}, map[string]string{}},
		"no ref matches no empty end":      {[]wanted{sure(order("o1", "", 0))}, []sighted{task("9", "", 1)}, map[string]string{}},
		"one task answers once":            {[]wanted{order("o2", "18", 5), order("o1", "17", 0)}, []sighted{task("9", "x", 6)}, map[string]string{"o1": "9"}},
		"oldest takes oldest":              {[]wanted{order("o2", "18", 5), order("o1", "17", 0)}, []sighted{task("10", "x", 6), task("9", "x", 6)}, map[string]string{"o1": "9", "o2": "10"}},
		"another order's task is not free": {[]wanted{order("o1", "17", 0), order("o2", "18", 5)}, []sighted{task("9", "18", 6)}, map[string]string{"o2": "9 exact"}},
		"a guessed task is not guessed":    {[]wanted{order("o1", "17", 0)}, []sighted{with(task("9", "x", 1), func(s *sighted) { s.taken = true })}, map[string]string{}},
		"a guessed task is taken back":     {[]wanted{order("o1", "17", 0)}, []sighted{with(task("9", "17", 1), func(s *sighted) { s.taken = true })}, map[string]string{"o1": "9 exact"}},
		"two tasks of one incident":        {[]wanted{order("o1", "17", 0), order("o2", "18", 0)}, []sighted{task("9", "17", 1), task("8", "17", 2)}, map[string]string{"o1": "9 exact"}},
	} {
		got := map[string]string{}
		for id, p := range match(c.wants, c.tasks) {
			got[id] = p.task.ID
			if p.exact {
				got[id] += " exact"
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestPairingsNeverLetOneTaskAnswerForTwoOrders(t *testing.T) {
	t.Parallel()
	clock := noon
	l := newPairings(func() time.Time { return clock })
	guess := followed{order: "o1", host: "A", task: "9", source: byHost}
	if !l.add(guess) || l.add(guess) {
		t.Fatal("an order is entered once")
	}
	second := followed{order: "o2", host: "A", task: "9", source: byHost}
	if l.add(second) {
		t.Fatal("a guess took the task of another order")
	}
	if old := noon.Add(-time.Hour); !l.guessing(old) || l.guessing(clock) {
		t.Error("guessing waits for the task that names its incident, and then goes on")
	}
	second.exact = true
	if !l.add(second) {
		t.Fatal("the incident does not win over a guess")
	}
	if _, known := l.get("o1"); known {
		t.Error("the guess stands besides")
	}
	if l.guessing(noon.Add(-time.Hour)) {
		t.Error("guessing goes on although this server names incidents")
	}
	if clock = clock.Add(exactFor + time.Second); !l.guessing(noon.Add(-time.Hour)) {
		t.Error("guessing never comes back")
	}
	l.ended(bridge.Progress{OrderID: "o2", State: bridge.StateDone})
	if l.add(followed{order: "o3", host: "A", task: "9", source: byServer, exact: true}) {
		t.Error("the task of an order that ended answered for another")
	}
	if l.add(followed{order: "o4", host: "a", task: "9", source: byOne, exact: true}) {
		t.Error("told by another source, the task answered for another order")
	}
	if !l.add(followed{order: "o5", host: "B", task: "9", source: byOne}) {
		t.Error("tasks of single hosts have ids of their own")
	}
}

func TestPairingsForgetTheOldestOrderWhenItIsFull(t *testing.T) {
	t.Parallel()
	l := newPairings(time.Now)
	for i := range maxFollowed + 3 {
		if !l.add(followed{order: fmt.Sprint("o", i), task: fmt.Sprint(i), source: byHost}) {
			t.Fatal(i)
		}
	}
	if len(l.byOrder) != maxFollowed || len(l.byTask) != maxFollowed || len(l.ages) != maxFollowed {
		t.Errorf("%d orders, %d tasks, %d ages", len(l.byOrder), len(l.byTask), len(l.ages))
	}
	if _, known := l.get("o2"); known {
		t.Error("the oldest is still there")
	}
	if _, known := l.get("o3"); !known {
		t.Error("too much was forgotten")
	}
}

func TestTaskIsReadFromBothShapesAndFromOddOnes(t *testing.T) {
	t.Parallel()
	created := time.Date(2026, 11, 20, 17, 7, 6, 0, time.UTC)
	for raw, want := range map[string]Task{
		`{"TASK_UNIQUE_ID":"195","DisplayName":"n","PRTS_TASK_CREATION_DATE":{"type":"datetime","value":"2026-11-20T17:07:06Z"}}`:                                              {"195", "n", created},
		`{"TASK_UNIQUE_ID":195,"TASK_INFO_PARAMS":{"type":"params","value":{"DisplayName":"n","PRTS_TASK_CREATION_DATE":{"type":"datetime","value":"2026-11-20T17:07:06Z"}}}}`: {"195", "n", created},
		`{"TASK_UNIQUE_ID":"195","TASK_INFO_PARAMS":{"DisplayName":"n"}}`:                                                                                                      {"195", "n", time.Time{}},
		`{"TASK_UNIQUE_ID":"195","TASK_INFO_PARAMS":7,"DisplayName":"n","PRTS_TASK_CREATION_DATE":"yesterday"}`:                                                                {"195", "n", time.Time{}},
		`{"TASK_UNIQUE_ID":"1\u001b[31m"}`:                     {},
		`{"TASK_UNIQUE_ID":null,"DisplayName":["[Response]"]}`: {"", `["[Response]"]`, time.Time{}},
		`7`: {},
	} {
		if diff := cmp.Diff(want, readTask([]byte(raw))); diff != "" {
			t.Errorf("%s: %s", raw, diff)
		}
	}
}
