package ksc

import "context"

// The methods of class HostTasks. GetNextTask moves its iterator: sent again after a lost answer it would skip a task.
var (
	methodResetHostTasks  = method{"HostTasks.ResetTasksIterator", true}
	methodGetNextHostTask = method{"HostTasks.GetNextTask", false}
	methodGetHostTaskData = method{"HostTasks.GetTaskData", true}
)

type hostTasksIn struct {
	Handle string `json:"strSrvObjId"`
}

// ResetHostTasksIterator begins the list of the tasks of a host anew (HostTasks.ResetTasksIterator). The handle is that of GetHostTasks.
//
// KSC: https://support.kaspersky.com/help/KSC/15/KSCAPI/a00523.html
func (c *Client) ResetHostTasksIterator(ctx context.Context, handle string) error {
	in := struct {
		hostTasksIn
		anyTask
	}{hostTasksIn: hostTasksIn{handle}}
	return c.call(ctx, methodResetHostTasks, in, &result{})
}

// GetNextHostTask returns the next task of a host (HostTasks.GetNextTask); ok is false at the end of the list. A task that
// cannot be read has no ID.
//
// KSC: https://support.kaspersky.com/help/KSC/15/KSCAPI/a00523_a686c036175a004860aa4d91ddecea17b.html
func (c *Client) GetNextHostTask(ctx context.Context, handle string) (t Task, ok bool, err error) {
	var out nextTaskOut
	if err := c.call(ctx, methodGetNextHostTask, hostTasksIn{handle}, &out); err != nil {
		return Task{}, false, err
	}
	t, ok = out.next()
	return t, ok, nil
}

// GetHostTaskData returns a task of a host (HostTasks.GetTaskData).
//
// KSC: https://support.kaspersky.com/help/KSC/16/KSCAPI/a00553_a5bad75c6390d5979beeba07dc6377ec6.html
func (c *Client) GetHostTaskData(ctx context.Context, handle, id string) (Task, error) {
	var out taskOut
	in := struct {
		hostTasksIn
		taskIn
	}{hostTasksIn{handle}, taskIn{id}}
	if err := c.call(ctx, methodGetHostTaskData, in, &out); err != nil {
		return Task{}, err
	}
	t := readTask(out.Task)
	t.ID = id
	return t, nil
}
