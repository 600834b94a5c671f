package ksc

import "context"

// maxStatuses bounds the hosts of one task that are looked at; a response task has one.
const maxStatuses = 100

// hostStatuses returns how a task stands on its hosts.
func (c *Client) hostStatuses(ctx context.Context, task string) (list []HostStatus, err error) {
	err = c.holding(ctx, handle{
		open:    func(ctx context.Context) (string, error) { return c.ResetHostStatus(ctx, task) },
		release: c.ReleaseHostStatusIterator,
	}, func(ctx context.Context, id string) error {
		list, err = c.GetHostStatusRecordRange(ctx, id, 0, maxStatuses)
		return err
	})
	return list, err
}

// allTasks walks the server's tasks; whole is false when there are more than limit.
func (c *Client) allTasks(ctx context.Context, limit int) (list []Task, whole bool, err error) {
	err = c.holding(ctx, handle{open: c.ResetTasksIterator, release: c.ReleaseTasksIterator}, func(ctx context.Context, id string) error {
		list, whole, err = walkTasks(ctx, limit, func(ctx context.Context) (Task, bool, error) { return c.GetNextTask(ctx, id) })
		return err
	})
	return list, whole, err
}

func walkTasks(ctx context.Context, limit int, next func(context.Context) (Task, bool, error)) (list []Task, whole bool, err error) {
	for range limit {
		t, ok, err := next(ctx)
		if err != nil || !ok {
			return list, err == nil, err
		}
		if t.ID != "" {
			list = append(list, t)
		}
	}
	return list, false, nil
}

// handle is something the server keeps for a session until it is released.
type handle struct {
	open    func(context.Context) (string, error)
	release func(context.Context, string) error
}

// holding opens a handle, uses it and releases it whatever happens. When the session is lost in between, its handles go with
// it, so all is done once more.
func (c *Client) holding(ctx context.Context, h handle, use func(ctx context.Context, id string) error) error {
	for tries := 0; ; tries++ {
		id, err := h.open(ctx)
		if err != nil {
			return err
		}
		owner := c.logins.peek()
		err = use(ctx, id)
		c.letGo(ctx, h, id)
		if tries > 0 || !isRefusal(err) || c.logins.peek() == owner {
			return err
		}
	}
}

// letGo gives the server a moment of its own when the caller's time is over.
func (c *Client) letGo(ctx context.Context, h handle, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
	defer cancel()
	if err := h.release(ctx, id); err != nil {
		c.log.DebugContext(ctx, "iterator was not released", "err", err)
	}
}
