package ksc

import (
	"context"
	"encoding/json"
	"strconv"
	"time"
)

// The methods of class Tasks. GetNextTask moves its iterator: sent again after a lost answer it would skip a task.
var (
	methodGetAllTasksOfHost    = method{"Tasks.GetAllTasksOfHost", true}
	methodGetTask              = method{"Tasks.GetTask", true}
	methodResetTasksIterator   = method{"Tasks.ResetTasksIterator", true}
	methodGetNextTask          = method{"Tasks.GetNextTask", false}
	methodReleaseTasksIterator = method{"Tasks.ReleaseTasksIterator", true}
	methodGetTaskStatistics    = method{"Tasks.GetTaskStatistics", true}
	methodResetHostStatus      = method{"Tasks.ResetHostIteratorForTaskStatusEx", true}
	methodGetHostStatusRange   = method{"Tasks.GetHostStatusRecordRange", true}
	methodReleaseHostStatus    = method{"Tasks.ReleaseHostStatusIterator", true}
)

const (
	maxTaskID      = 64  // bytes; the documented ids are decimal numbers
	maxTaskName    = 512 // bytes; the vendor gives DisplayName at most 100 characters
	maxDescription = 512 // bytes of what a host said about a task
)

// Task is a task as KSC lists it. Attributes the server did not give are zero.
type Task struct {
	// ID is what the methods call strTask, a decimal number in text.
	ID string
	// DisplayName is what people see; for response tasks "[Response][KUMA] <task> - <date> <time> - <id>".
	DisplayName string
	// Created is the server's time.
	Created time.Time
}

// taskWire is a task as GetTask (flat) and the iterators (display name and time one level deeper) write it.
type taskWire struct {
	ID   json.RawMessage `json:"TASK_UNIQUE_ID"`
	Info json.RawMessage `json:"TASK_INFO_PARAMS"`
	taskInfo
}

type taskInfo struct {
	DisplayName json.RawMessage `json:"DisplayName"`
	Created     json.RawMessage `json:"PRTS_TASK_CREATION_DATE"`
}

// readTask reads what it can: one odd attribute of one task must not hide all others.
func readTask(raw json.RawMessage) Task {
	var w taskWire
	_ = json.Unmarshal(raw, &w)
	var deeper Params[taskInfo]
	_ = json.Unmarshal(w.Info, &deeper)
	info := w.taskInfo
	if info.DisplayName == nil {
		info.DisplayName = deeper.Value.DisplayName
	}
	if info.Created == nil {
		info.Created = deeper.Value.Created
	}
	var created DateTime
	_ = created.UnmarshalJSON(info.Created)
	t := Task{ID: wireText(w.ID), DisplayName: wireText(info.DisplayName), Created: created.Time}
	if len(t.ID) > maxTaskID || !printable(t.ID) {
		t.ID = ""
	}
	t.DisplayName = t.DisplayName[:min(len(t.DisplayName), maxTaskName)]
	return t
}

type taskIDsOut struct {
	result
	IDs *[]json.RawMessage `json:"PxgRetVal"`
}

func (o *taskIDsOut) missing() string {
	if o.IDs == nil {
		return "PxgRetVal is no list"
	}
	return ""
}

// GetAllTasksOfHost returns the ids of the group and global tasks of the host with the given id.
//
// KSC: https://support.kaspersky.com/help/KSC/15/KSCAPI/a00588_ad161e9bc64d0d6eef93349032802a5a0.html
func (c *Client) GetAllTasksOfHost(ctx context.Context, host string) ([]string, error) {
	var out taskIDsOut
	in := struct {
		Domain string `json:"strDomainName"`
		Host   string `json:"strHostName"`
	}{"", host}
	if err := c.call(ctx, methodGetAllTasksOfHost, in, &out); err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(*out.IDs))
	for _, raw := range *out.IDs {
		if id := wireText(raw); id != "" && len(id) <= maxTaskID && printable(id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

type taskIn struct {
	ID string `json:"strTask"`
}

type taskOut struct {
	result
	Task json.RawMessage `json:"PxgRetVal"`
}

func (o *taskOut) missing() string {
	if len(o.Task) == 0 || o.Task[0] != '{' {
		return "PxgRetVal is no task"
	}
	return ""
}

// GetTask returns the task with the given id.
//
// KSC: https://support.kaspersky.com/help/KSC/15/KSCAPI/a00588_a75f0f65440aca7628e1cbb469b2bc420.html, attributes
// https://support.kaspersky.com/help/KSC/14/KSCAPI/a00120.html
func (c *Client) GetTask(ctx context.Context, id string) (Task, error) {
	var out taskOut
	if err := c.call(ctx, methodGetTask, taskIn{id}, &out); err != nil {
		return Task{}, err
	}
	t := readTask(out.Task)
	t.ID = id
	return t, nil
}

// anyTask are the conditions of the iterators; null stands for any.
type anyTask struct {
	Product   *string `json:"strProductName"`
	Version   *string `json:"strVersion"`
	Component *string `json:"strComponentName"`
	Instance  *string `json:"strInstanceId"`
	Name      *string `json:"strTaskName"`
}

type iteratorOut struct {
	result
	Tasks  string `json:"strTaskIteratorId"`
	Status string `json:"strHostIteratorId"`
}

func (o *iteratorOut) missing() string {
	if o.Tasks == "" && o.Status == "" {
		return "the iterator's id is missing"
	}
	return ""
}

// ResetTasksIterator opens an iterator over all tasks of the server that are not tasks of one host.
//
// KSC: https://support.kaspersky.com/help/KSC/15/KSCAPI/a00588.html
func (c *Client) ResetTasksIterator(ctx context.Context) (string, error) {
	var out iteratorOut
	in := struct {
		Group       int  `json:"nGroupId"`
		Significant bool `json:"bGroupIdSignificant"`
		anyTask
		Supergroups bool `json:"bIncludeSupergroups"`
	}{Supergroups: true}
	err := c.call(ctx, methodResetTasksIterator, in, &out)
	return out.Tasks, err
}

type nextTaskOut struct {
	result
	Data json.RawMessage `json:"pTaskData"`
}

// next returns the task; ok is false at the end of the list, which is an empty, null or missing pTaskData.
func (o *nextTaskOut) next() (t Task, ok bool) {
	var members map[string]json.RawMessage
	if json.Unmarshal(o.Data, &members) != nil || len(members) == 0 {
		return Task{}, false
	}
	return readTask(o.Data), true
}

// GetNextTask returns the next task of an iterator; ok is false at its end. A task that cannot be read has no ID.
//
// KSC: https://support.kaspersky.com/help/KSC/14/KSCAPI/a00585_a4fbc3bd91a3d186a86b93b2cb0db149a.html
func (c *Client) GetNextTask(ctx context.Context, iterator string) (t Task, ok bool, err error) {
	var out nextTaskOut
	in := struct {
		Iterator string `json:"strTaskIteratorId"`
	}{iterator}
	if err := c.call(ctx, methodGetNextTask, in, &out); err != nil {
		return Task{}, false, err
	}
	t, ok = out.next()
	return t, ok, nil
}

// ReleaseTasksIterator frees an iterator at the server.
//
// KSC: https://support.kaspersky.com/help/KSC/15/KSCAPI/a00588.html
func (c *Client) ReleaseTasksIterator(ctx context.Context, iterator string) error {
	in := struct {
		Iterator string `json:"strTaskIteratorId"`
	}{iterator}
	return c.call(ctx, methodReleaseTasksIterator, in, &result{})
}

// HostState is the state of a task on a host: one bit of the masks of
// https://support.kaspersky.com/help/KSC/16/KSCAPI/a00181.html.
type HostState int

// The states of a task on a host.
const (
	HostPending   HostState = 0x01 // not handed to the host yet
	HostRunning   HostState = 0x02
	HostOK        HostState = 0x04
	HostWarning   HostState = 0x08
	HostFailed    HostState = 0x10
	HostScheduled HostState = 0x20
	HostPaused    HostState = 0x40

	allHostStates = 0x7f
)

type statisticsOut struct {
	result
	Counts map[string]json.RawMessage `json:"PxgRetVal"`
}

func (o *statisticsOut) missing() string {
	if o.Counts == nil {
		return "PxgRetVal is no statistics"
	}
	return ""
}

// GetTaskStatistics returns on how many hosts the task is in each state; states without a host are left out.
//
// KSC: https://support.kaspersky.com/help/KSC/14/KSCAPI/a00585_a61d18e5dc2b8aad30bcfe7985a1a2d9e.html (deprecated since 15, where
// GetTaskStatistics2 came).
func (c *Client) GetTaskStatistics(ctx context.Context, id string) (map[HostState]int, error) {
	var out statisticsOut
	if err := c.call(ctx, methodGetTaskStatistics, taskIn{id}, &out); err != nil {
		return nil, err
	}
	counts := map[HostState]int{}
	for state := HostPending; state <= HostPaused; state <<= 1 {
		if n := wireInt(out.Counts[strconv.Itoa(int(state))]); n > 0 {
			counts[state] = int(n)
		}
	}
	return counts, nil
}

// HostStatus is how a task stands on one host.
type HostStatus struct {
	// Host is the id of the host (KLHST_WKS_HOSTNAME).
	Host  string
	State HostState
	// Description is what the host said, in one line without control characters.
	Description string
}

type hostStatusWire struct {
	Host        json.RawMessage `json:"hostname"`
	State       json.RawMessage `json:"state_code"`
	Description json.RawMessage `json:"state_descr"`
}

// order of the attributes as in https://support.kaspersky.com/help/KSC/16/KSCAPI/a00182.html.
func hostStatusFields() []string { return []string{"hostname", "state_code", "state_descr"} }

// ResetHostStatus opens an iterator over the hosts of a task (Tasks.ResetHostIteratorForTaskStatusEx).
//
// KSC: https://support.kaspersky.com/help/KSC/15/KSCAPI/a00588_a6bcfb502e372e359915334fd90ad3bdb.html
func (c *Client) ResetHostStatus(ctx context.Context, task string) (string, error) {
	var out iteratorOut
	in := struct {
		Task   string          `json:"strTask"`
		Fields []string        `json:"pFields2Return"`
		Order  []Params[order] `json:"pFields2Order"`
		Mask   int             `json:"nHostStateMask"`
		Life   int             `json:"nLifetime"`
	}{task, hostStatusFields(), []Params[order]{}, allHostStates, searchLife}
	err := c.call(ctx, methodResetHostStatus, in, &out)
	return out.Status, err
}

type hostStatusOut struct {
	result
	Hosts struct {
		Statuses []Params[hostStatusWire] `json:"statuses"`
	} `json:"pParHostStatus"`
}

// GetHostStatusRecordRange returns the states of a task on the hosts from start (0 is the first) to end. Whether end counts is told
// nowhere; one beyond the list is harmless.
//
// KSC: https://support.kaspersky.com/help/KSC/15/KSCAPI/a00588.html
func (c *Client) GetHostStatusRecordRange(ctx context.Context, iterator string, start, end int) ([]HostStatus, error) {
	var out hostStatusOut
	in := struct {
		Iterator string `json:"strHostIteratorId"`
		Start    int    `json:"nStart"`
		End      int    `json:"nEnd"`
	}{iterator, start, end}
	if err := c.call(ctx, methodGetHostStatusRange, in, &out); err != nil {
		return nil, err
	}
	list := make([]HostStatus, 0, len(out.Hosts.Statuses))
	for _, s := range out.Hosts.Statuses {
		list = append(list, HostStatus{
			Host: wireText(s.Value.Host), State: HostState(wireInt(s.Value.State)),
			Description: excerpt([]byte(wireText(s.Value.Description)), maxDescription),
		})
	}
	return list, nil
}

// ReleaseHostStatusIterator frees an iterator at the server.
//
// KSC: https://support.kaspersky.com/help/KSC/15/KSCAPI/a00588.html
func (c *Client) ReleaseHostStatusIterator(ctx context.Context, iterator string) error {
	in := struct {
		Iterator string `json:"strHostIteratorId"`
	}{iterator}
	return c.call(ctx, methodReleaseHostStatus, in, &result{})
}
