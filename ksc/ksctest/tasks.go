package ksctest

import "strings"

// The product the response tasks belong to.
const (
	productName    = "KES"
	productVersion = "12.9.0.0"
	groupOfNone    = -1 // PRTS_TASK_GROUPID of a task that belongs to no group
)

// data returns a task as GetTask gives it out.
func (t *Task) data() params {
	return params{
		{"DisplayName", t.Name},
		{"PRTS_TASK_CREATION_DATE", t.Created},
		{"PRTS_TASK_GROUPID", groupOfNone},
		{"TASKID_COMPONENT_NAME", "EDR"},
		{"TASKID_PRODUCT_NAME", productName},
		{"TASKID_VERSION", productVersion},
		{"TASK_NAME", t.Kind},
		{"TASK_UNIQUE_ID", t.ID},
	}
}

// listing returns a task as GetNextTask gives it out: the display name stands one level deeper.
func (t *Task) listing() params {
	return params{
		{"TASK_UNIQUE_ID", t.ID},
		{"TASK_NAME", t.Kind},
		{"TASKID_PRODUCT_NAME", productName},
		{"TASKID_VERSION", productVersion},
		{"TASK_INFO_PARAMS", params{
			{"DisplayName", t.Name},
			{"PRTS_TASK_CREATION_DATE", t.Created},
			{"PRTS_TASK_GROUPID", groupOfNone},
		}},
	}
}

// value returns an attribute of the task's state on its host
// (support.kaspersky.com/help/KSC/16/KSCAPI/a00182.html).
func (t *Task) value(name string) (any, bool) {
	switch name {
	case "hostname":
		return t.Host, true
	case "hostdn":
		if t.host != nil && t.host.DisplayName != "" {
			return t.host.DisplayName, true
		}
		return t.Host, true
	case "domain_name":
		return "", true
	case "state_code":
		return int(t.State), true
	case "state_descr":
		return t.Description, true
	case "try_count":
		return 1, true
	case "start_time":
		return t.Started, true
	case "finish_time":
		return t.Finished, true
	case "completed_percent":
		if t.ended() {
			return 100, true
		}
		return 0, true
	case "src_event_id":
		return long(t.IncidentID), true
	default:
		return nil, false
	}
}

func (t *Task) ended() bool {
	return t.State == StateOK || t.State == StateWarning || t.State == StateFailed
}

// getAllTasksOfHost answers the ids of the tasks a computer has.
func (s *Server) getAllTasksOfHost(c *call) error {
	h, err := s.hostArg(c, "strHostName")
	if err != nil {
		return err
	}
	s.Advance()
	ids := []any{}
	if !s.cfg.HostTasksOnly {
		for _, t := range s.tasks.list(h.ID) {
			ids = append(ids, t.ID)
		}
	}
	c.result(ids)
	return nil
}

func (s *Server) getTask(c *call) error {
	t, err := s.taskArg(c)
	if err != nil {
		return err
	}
	c.result(t.data())
	return nil
}

func (s *Server) deleteTask(c *call) error {
	id, err := c.args.str("strTask")
	if err != nil {
		return err
	}
	if !s.tasks.remove(id) {
		return notFound("Task", id)
	}
	return nil
}

// resetTasksIterator opens a list of tasks. Response tasks belong to no group, which 0 and -1 name.
func (s *Server) resetTasksIterator(c *call) error {
	group, err := c.args.integer("nGroupId")
	if err != nil {
		return err
	}
	significant, err := c.args.boolean("bGroupIdSignificant")
	if err != nil {
		return err
	}
	wanted, err := s.productFilter(c)
	if err != nil {
		return err
	}
	s.Advance()
	var rows []row
	if !s.cfg.HostTasksOnly && (!significant || group == 0 || group == groupOfNone) {
		for _, t := range s.tasks.list("") {
			if wanted(t) && (c.session.vserver == "" || t.host != nil && c.session.sees(t.host, false)) {
				rows = append(rows, t)
			}
		}
	}
	handle, err := s.accessors.open(&accessor{
		kind: taskIteratorKind, owner: c.session, lifetime: maxLifetimeDuration, rows: rows,
	}, s.now())
	if err != nil {
		return err
	}
	c.outParams(member{"strTaskIteratorId", handle})
	return nil
}

func (s *Server) getNextTask(c *call) error {
	return s.nextTask(c, "strTaskIteratorId", taskIteratorKind, 0)
}

// nextTask answers the next task of an iterator; the end of the list is an empty pTaskData.
func (s *Server) nextTask(c *call, name string, kind accessorKind, first int) error {
	handle, err := c.args.str(name)
	if err != nil {
		return err
	}
	data := params{}
	err = s.accessors.with(handle, kind, c.session, s.now(), func(a *accessor) {
		if at := first + a.next; at < len(a.rows) {
			data = a.rows[at].(*Task).listing()
			a.next++
		}
	})
	if err != nil {
		return err
	}
	c.outParams(member{"pTaskData", data})
	return nil
}

func (s *Server) releaseTasksIterator(c *call) error {
	return s.releaseHandle(c, "strTaskIteratorId", taskIteratorKind)
}

// resetHostTasks fills the handle of GetHostTasks with the tasks of its computer.
func (s *Server) resetHostTasks(c *call) error {
	handle, err := c.args.str("strSrvObjId")
	if err != nil {
		return err
	}
	wanted, err := s.productFilter(c)
	if err != nil {
		return err
	}
	s.Advance()
	return s.accessors.with(handle, hostTasksKind, c.session, s.now(), func(a *accessor) {
		a.rows, a.next = a.rows[:1], 0 // the computer itself stays in front
		for _, t := range s.tasks.list(a.rows[0].(*Host).ID) {
			if wanted(t) {
				a.rows = append(a.rows, t)
			}
		}
	})
}

func (s *Server) getNextHostTask(c *call) error {
	return s.nextTask(c, "strSrvObjId", hostTasksKind, 1)
}

func (s *Server) getHostTaskData(c *call) error {
	handle, err := c.args.str("strSrvObjId")
	if err != nil {
		return err
	}
	var host *Host
	err = s.accessors.with(handle, hostTasksKind, c.session, s.now(), func(a *accessor) { host = a.rows[0].(*Host) })
	if err != nil {
		return err
	}
	t, err := s.taskArg(c)
	if err != nil {
		return err
	}
	if !strings.EqualFold(t.Host, host.ID) {
		return notFound("Task", t.ID)
	}
	c.result(t.data())
	return nil
}

// taskArg finds the task that strTask names.
func (s *Server) taskArg(c *call) (*Task, error) {
	id, err := c.args.str("strTask")
	if err != nil {
		return nil, err
	}
	s.Advance()
	t, ok := s.tasks.find(id)
	if !ok || c.session.vserver != "" && (t.host == nil || !c.session.sees(t.host, false)) {
		return nil, notFound("Task", id)
	}
	return t, nil
}

// productFilter reads the product and type arguments of the task iterators; null and "" mean any.
func (s *Server) productFilter(c *call) (func(*Task) bool, error) {
	var want [3]string
	for i, name := range [...]string{"strProductName", "strVersion", "strTaskName"} {
		value, err := c.args.str(name)
		if err != nil {
			return nil, err
		}
		want[i] = value
	}
	return func(t *Task) bool {
		return (want[0] == "" || want[0] == productName) && (want[1] == "" || want[1] == productVersion) &&
			(want[2] == "" || want[2] == t.Kind)
	}, nil
}
