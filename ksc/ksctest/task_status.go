package ksctest

import (
	"strconv"
	"time"
)

// stateEvent is the only type of task history the server keeps.
const stateEvent = "KLPRCI_TaskState"

// The values of task_new_state (support.kaspersky.com/help/KSC/14/KSCAPI/a00029.html).
const (
	historyRunning   = 1
	historyFailed    = 3
	historyCompleted = 4
)

// hostStatusSchema lists the attributes a host status may be sorted by.
var hostStatusSchema = schema{
	"hostname": {kind: kindString}, "hostdn": {kind: kindString}, "state_code": {kind: kindInt},
	"start_time": {kind: kindTime}, "finish_time": {kind: kindTime}, "completed_percent": {kind: kindInt},
}

// historySchema lists the attributes task history may be sorted by.
var historySchema = schema{
	"event_type": {kind: kindString}, "event_id": {kind: kindInt}, "rise_time": {kind: kindTime},
	"task_new_state": {kind: kindInt}, "hostname": {kind: kindString},
}

// historyEntry is one change of a task's state on its host.
type historyEntry struct {
	id    int
	at    time.Time
	state int
	task  *Task
}

func (h *historyEntry) value(name string) (any, bool) {
	switch name {
	case "event_type":
		return stateEvent, true
	case "event_id":
		return h.id, true
	case "rise_time":
		return h.at, true
	case "task_new_state":
		return h.state, true
	case "task_display_name":
		return h.task.Name, true
	case "task_id":
		return h.task.ID, true
	case "hostname", "hostdn", "state_descr":
		return h.task.value(name)
	default:
		return nil, false
	}
}

// history returns the changes so far, oldest first.
func (t *Task) history() []*historyEntry {
	var list []*historyEntry
	if !t.Started.IsZero() {
		list = append(list, &historyEntry{id: 2 * t.number, at: t.Started, state: historyRunning, task: t})
	}
	if t.ended() {
		state := historyCompleted
		if t.State == StateFailed {
			state = historyFailed
		}
		list = append(list, &historyEntry{id: 2*t.number + 1, at: t.Finished, state: state, task: t})
	}
	return list
}

// getTaskStatistics answers how many hosts are in each state; the keys are the state bits in decimal.
func (s *Server) getTaskStatistics(c *call) error {
	t, err := s.taskArg(c)
	if err != nil {
		return err
	}
	stat := make(params, 0, 9)
	for bit := StatePending; bit <= StatePaused; bit <<= 1 {
		count := 0
		if t.State == bit {
			count = 1
		}
		stat = append(stat, member{strconv.Itoa(int(bit)), count})
	}
	percent, _ := t.value("completed_percent")
	stat = append(stat, member{"GNRL_COMPLETED_PERCENT", percent}, member{"KLTSK_NEED_RBT_CNT", 0})
	c.result(stat)
	return nil
}

// taskQuery reads what the questions about one task have in common: the task, the attributes to return and,
// under the name each gives it, their order.
func (s *Server) taskQuery(c *call, orderName string, sch schema) (t *Task, fields []string, order []sortOrder, err error) {
	if t, err = s.taskArg(c); err != nil {
		return nil, nil, nil, err
	}
	if fields, err = c.args.names("pFields2Return"); err != nil {
		return nil, nil, nil, err
	}
	order, err = c.args.order(orderName, sch)
	return t, fields, order, err
}

// resetHostStatus opens the states of a task on its hosts; a response task has one.
func (s *Server) resetHostStatus(c *call) error {
	t, fields, order, err := s.taskQuery(c, "pFields2Order", hostStatusSchema)
	if err != nil {
		return err
	}
	mask, err := c.args.integer("nHostStateMask")
	if err != nil {
		return err
	}
	lifetime, err := c.args.lifetime("nLifetime")
	if err != nil {
		return err
	}
	var rows []row
	if int(t.State)&mask != 0 {
		rows = append(rows, t)
	}
	a := &accessor{kind: hostStatusKind, lifetime: lifetime, rows: rows, fields: fields}
	return s.openRange(c, "strHostIteratorId", a, order)
}

func (s *Server) getHostStatusCount(c *call) error {
	return s.rangeCount(c, "strHostIteratorId", hostStatusKind)
}

func (s *Server) getHostStatusRange(c *call) error {
	rows, fields, err := s.rangeOf(c, "strHostIteratorId", hostStatusKind)
	if err != nil {
		return err
	}
	c.result(len(rows), member{"pParHostStatus", params{{"statuses", items(rows, fields)}}})
	return nil
}

func (s *Server) releaseHostStatus(c *call) error {
	return s.releaseHandle(c, "strHostIteratorId", hostStatusKind)
}

// getTaskHistory opens the changes of a task's state.
func (s *Server) getTaskHistory(c *call) error {
	t, fields, order, err := s.taskQuery(c, "pSortFields", historySchema)
	if err != nil {
		return err
	}
	host, err := c.args.str("strHostName")
	if err != nil {
		return err
	}
	only, err := c.args.object("pFilter")
	if err != nil {
		return err
	}
	kind, err := only.str("event_type")
	if err != nil {
		return err
	}
	var rows []row
	if (kind == "" || kind == stateEvent) && (host == "" || host == t.Host) {
		for _, h := range t.history() {
			rows = append(rows, h)
		}
	}
	a := &accessor{kind: historyKind, lifetime: maxLifetimeDuration, rows: rows, fields: fields}
	return s.openRange(c, "strIteratorId", a, order)
}

func (s *Server) getEventCount(c *call) error { return s.rangeCount(c, "strIteratorId", historyKind) }

func (s *Server) getEventRange(c *call) error {
	rows, fields, err := s.rangeOf(c, "strIteratorId", historyKind)
	if err != nil {
		return err
	}
	c.outParams(member{"pParamsEvents", params{{"KLEVP_EVENT_RANGE_ARRAY", items(rows, fields)}}})
	return nil
}

func (s *Server) releaseEvents(c *call) error {
	return s.releaseHandle(c, "strIteratorId", historyKind)
}

// openRange sorts and stores an accessor and answers its handle.
func (s *Server) openRange(c *call, name string, a *accessor, order []sortOrder) error {
	sortRows(a.rows, order)
	a.owner = c.session
	handle, err := s.accessors.open(a, s.now())
	if err != nil {
		return err
	}
	c.outParams(member{name, handle})
	return nil
}

func (s *Server) rangeCount(c *call, name string, kind accessorKind) error {
	handle, err := c.args.str(name)
	if err != nil {
		return err
	}
	return s.accessors.with(handle, kind, c.session, s.now(), func(a *accessor) { c.result(len(a.rows)) })
}

// rangeOf returns the rows from nStart to nEnd. Whether nEnd counts or is the last index is told nowhere,
// so it is both: what lies at nEnd is included, and an end beyond the list is harmless.
func (s *Server) rangeOf(c *call, name string, kind accessorKind) (rows []row, fields []string, err error) {
	handle, err := c.args.str(name)
	if err != nil {
		return nil, nil, err
	}
	start, err := c.args.integer("nStart")
	if err != nil {
		return nil, nil, err
	}
	end, err := c.args.integer("nEnd")
	if err != nil {
		return nil, nil, err
	}
	if start < 0 || end < start {
		return nil, nil, badParameter("nStart, nEnd", "0 <= nStart <= nEnd expected")
	}
	err = s.accessors.with(handle, kind, c.session, s.now(), func(a *accessor) {
		rows, fields = clampRange(a.rows, start, end-start+1), a.fields
	})
	return rows, fields, err
}
