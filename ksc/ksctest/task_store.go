package ksctest

import (
	"container/heap"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// maxHostTasks is how many response tasks Kaspersky Endpoint Security keeps; then the oldest goes,
	// finished or not (support.kaspersky.com/help/KUMA/3.4, 300229).
	maxHostTasks = 100
	taskLife     = 30 * 24 * time.Hour
	firstTaskID  = 101
	maxTaskName  = 100 // characters of DisplayName
	maxChanges   = 100_000
	taskNameTime = "2006-01-02 15:04:05"
)

// HostState is the state of a task on a host: one bit
// (support.kaspersky.com/help/KSC/16/KSCAPI/a00181.html).
type HostState int

// The states of a task on a host.
const (
	StatePending   HostState = 0x01
	StateRunning   HostState = 0x02
	StateOK        HostState = 0x04
	StateWarning   HostState = 0x08
	StateFailed    HostState = 0x10
	StateScheduled HostState = 0x20
	StatePaused    HostState = 0x40
)

// String returns the word of the vendor's page.
func (st HostState) String() string {
	switch st {
	case StatePending:
		return "pending"
	case StateRunning:
		return "running"
	case StateOK:
		return "ok"
	case StateWarning:
		return "warning"
	case StateFailed:
		return "failed"
	case StateScheduled:
		return "scheduled"
	case StatePaused:
		return "paused"
	default:
		return "state " + strconv.Itoa(int(st))
	}
}

// Task is one response task that the background connection made of an incident.
type Task struct {
	// ID is a decimal number, as strTask wants it.
	ID string
	// Name is DisplayName: "[Response][KUMA] <kind> - <date> <time> - <incident id>".
	Name string
	// Kind is the task key of the body, such as "isolateHost".
	Kind string
	// Host is the id of the computer, IncidentID the incident the task came from, Body its KLINCDT_BODY.
	Host       string
	IncidentID int
	Body       string
	// State and Description say how far the task is on its host.
	State       HostState
	Description string
	// Created, Started and Finished are the server's times, zero before they come.
	Created  time.Time
	Started  time.Time
	Finished time.Time

	number int
	host   *Host
	gone   bool // rotated, expired or deleted
}

// taskStore keeps response tasks and moves them through their states when their time comes.
type taskStore struct {
	delay   time.Duration
	keep    int // 0 = all
	outcome func(Task) (HostState, string)
	wake    chan struct{} // one token: a step was planned or a change waits to be told
	tell    bool          // somebody wants changes

	// turn lets one caller at a time do what is due; it is taken before mu.
	turn sync.Mutex
	// mu guards the fields below and every task.
	mu      sync.Mutex
	nextID  int
	seq     int
	byID    map[int]*Task
	byHost  map[string][]*Task // oldest first; by lower-case host id
	byAge   []*Task            // oldest first, with gone ones until they reach the front
	plan    stepHeap
	changes []Task // for OnTask
	rotated int64
}

func newTaskStore(cfg *Config) *taskStore {
	return &taskStore{
		delay: cfg.TaskDelay, keep: cfg.KeepIncidents, outcome: cfg.TaskOutcome, tell: cfg.OnTask != nil,
		wake: make(chan struct{}, 1), nextID: firstTaskID,
		byID: make(map[int]*Task), byHost: make(map[string][]*Task),
	}
}

// expect plans to read an incident that was stored at a time.
func (ts *taskStore) expect(incidentID int, stored time.Time) {
	ts.mu.Lock()
	ts.schedule(step{due: stored.Add(ts.delay), incidentID: incidentID})
	ts.mu.Unlock()
	ts.nudge()
}

func (ts *taskStore) nudge() {
	select {
	case ts.wake <- struct{}{}:
	default:
	}
}

// advance does every step that is due, in order of time. The function read gives the task of an incident,
// or nil when there is none to make. It returns how long nothing is due, negative when nothing is planned.
func (ts *taskStore) advance(now time.Time, read func(incidentID int) *Task) time.Duration {
	ts.turn.Lock()
	defer ts.turn.Unlock()
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for len(ts.plan) > 0 && !ts.plan[0].due.After(now) {
		next := heap.Pop(&ts.plan).(step)
		if next.task != nil {
			ts.proceed(next.task, next.due)
			continue
		}
		ts.mu.Unlock() // reading a body takes its time, and AddIncident must not wait for it
		t := read(next.incidentID)
		ts.mu.Lock()
		if t != nil {
			ts.create(t, next.due)
		}
	}
	ts.expire(now)
	if len(ts.changes) > 0 {
		ts.nudge()
	}
	if len(ts.plan) == 0 {
		return -1
	}
	return ts.plan[0].due.Sub(now)
}

// create gives t a number and a name and makes room for it. The caller holds mu.
func (ts *taskStore) create(t *Task, at time.Time) {
	t.number = ts.nextID
	ts.nextID++
	t.ID = strconv.Itoa(t.number)
	t.Created, t.State = at.UTC(), StatePending
	t.Name = "[Response][KUMA] " + t.Kind + " - " + t.Created.Format(taskNameTime) + " - " + strconv.Itoa(t.IncidentID)
	t.Name = t.Name[:min(len(t.Name), maxTaskName)]
	key := strings.ToLower(t.Host)
	if list := ts.byHost[key]; len(list) >= maxHostTasks {
		ts.rotated++
		ts.drop(list[0])
	}
	for ts.keep > 0 && len(ts.byID) >= ts.keep {
		ts.drop(ts.oldest())
	}
	ts.byID[t.number] = t
	ts.byHost[key] = append(ts.byHost[key], t)
	ts.byAge = append(ts.byAge, t)
	ts.note(t)
	ts.schedule(step{due: at.Add(ts.delay), task: t})
}

// proceed takes a task from pending to running and from running to its end. The caller holds mu.
func (ts *taskStore) proceed(t *Task, at time.Time) {
	if t.gone {
		return
	}
	if t.State == StatePending {
		t.State, t.Started = StateRunning, at.UTC()
		ts.note(t)
		ts.schedule(step{due: at.Add(ts.delay), task: t})
		return
	}
	t.State, t.Finished = StateOK, at.UTC()
	if ts.outcome != nil {
		t.State, t.Description = ts.outcome(*t)
	}
	ts.note(t)
}

// expire ends the life of tasks older than 30 days. The caller holds mu.
func (ts *taskStore) expire(now time.Time) {
	for t := ts.oldest(); t != nil && now.Sub(t.Created) > taskLife; t = ts.oldest() {
		ts.drop(t)
	}
}

// oldest returns the oldest task that is still there, or nil. The caller holds mu.
func (ts *taskStore) oldest() *Task {
	for len(ts.byAge) > 0 {
		if !ts.byAge[0].gone {
			return ts.byAge[0]
		}
		ts.byAge[0] = nil
		ts.byAge = ts.byAge[1:]
	}
	return nil
}

// drop forgets a task. The caller holds mu.
func (ts *taskStore) drop(t *Task) {
	t.gone = true
	delete(ts.byID, t.number)
	key := strings.ToLower(t.Host)
	list := ts.byHost[key]
	if at := slices.Index(list, t); at >= 0 {
		list = slices.Delete(list, at, at+1)
	}
	if len(list) == 0 {
		delete(ts.byHost, key)
	} else {
		ts.byHost[key] = list
	}
	if len(ts.byAge) > 1024 && len(ts.byAge) > 2*len(ts.byID) {
		ts.byAge = slices.DeleteFunc(ts.byAge, func(t *Task) bool { return t.gone })
	}
}

// note remembers a state for OnTask. The caller holds mu.
func (ts *taskStore) note(t *Task) {
	if ts.tell {
		ts.changes = append(ts.changes, *t)
		ts.changes = ts.changes[max(0, len(ts.changes)-maxChanges):]
	}
}

// takeChanges returns what OnTask has not been told.
func (ts *taskStore) takeChanges() []Task {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	changes := ts.changes
	ts.changes = nil
	return changes
}

// schedule plans a step. The caller holds mu.
func (ts *taskStore) schedule(st step) {
	ts.seq++
	st.seq = ts.seq
	heap.Push(&ts.plan, st)
}

// find returns a copy of a task by its decimal id.
func (ts *taskStore) find(id string) (*Task, bool) {
	number, err := strconv.Atoi(id)
	if err != nil {
		return nil, false
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t, ok := ts.byID[number]
	if !ok {
		return nil, false
	}
	c := *t
	return &c, true
}

// remove deletes a task; it is false when there is none.
func (ts *taskStore) remove(id string) bool {
	number, err := strconv.Atoi(id)
	if err != nil {
		return false
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t, ok := ts.byID[number]
	if ok {
		ts.drop(t)
	}
	return ok
}

// list returns copies of all tasks, or of those of one host, oldest first.
func (ts *taskStore) list(host string) []*Task {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	from := ts.byAge
	if host != "" {
		from = ts.byHost[strings.ToLower(host)]
	}
	var list []*Task
	for _, t := range from {
		if !t.gone {
			c := *t
			list = append(list, &c)
		}
	}
	return list
}
