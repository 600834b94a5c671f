package ksc

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	maxCachedTasks = 20_000
	maxHandles     = 2000
	// taskTTL is how long name and age of a task are not asked about again. They do not change, but a server restored from
	// its backup gives ids out a second time.
	taskTTL = time.Hour
	// sourceTTL is how long one source of tasks is taken for the right one after it held the task of an order.
	sourceTTL = 10 * time.Minute
	// listingTTL is how long one walk over all tasks of the server serves.
	listingTTL = 5 * time.Second
)

// follower knows how orders that KSC accepted go on.
type follower struct {
	client *Client
	now    func() time.Time
	log    *slog.Logger
	orders *pairings
	tasks  *cache[string, Task]         // by id
	places *cache[string, []string]     // the hosts of a task, by its id
	source *cache[struct{}, taskSource] // the one that held a task of ours
	turn   atomic.Int64                 // where the probing of hosts goes on
	swept  *cache[struct{}, listing]    // the latest walk over all tasks
	// handles are those of class HostTasks, by host.
	handles *cache[string, string]
}

func newFollower(c *Client, now func() time.Time, log *slog.Logger) *follower {
	return &follower{
		client: c, now: now, log: log, orders: newPairings(now),
		tasks:  newCache[string, Task](maxCachedTasks, taskTTL, now),
		places: newCache[string, []string](maxCachedTasks, taskTTL, now),
		source: newCache[struct{}, taskSource](1, sourceTTL, now),
		swept:  newCache[struct{}, listing](1, listingTTL, now),

		handles: newCache[string, string](maxHandles, taskTTL, now),
	}
}

// Follow finds the response tasks that were made of the incidents of orders and tells how they stand on their hosts. It is
// silent about orders without a task so far, and about tasks the host has not begun. Which task belongs to which order is
// remembered: later calls ask for its state only, one read an order. One call looks for at most some 1,000 tasks; the rest is
// for the next call.
//
// Errors are *bridge.ExecError of class Retry or Unknown and speak about looking, never about the orders.
func (e *Executor) Follow(ctx context.Context, orders []bridge.Order) ([]bridge.Progress, error) {
	f := e.follow
	var known []followed
	var wants []wanted
	byID := make(map[string]bridge.Order, len(orders))
	for _, o := range orders {
		byID[o.ID] = o
		if it, ok := f.orders.get(o.ID); ok {
			known = append(known, it)
		} else if w, ok := f.want(o); ok {
			wants = append(wants, w)
		}
	}
	progress, at, err := f.look(ctx, known)
	if err != nil {
		return progress, e.unsure(byID[at], err)
	}
	found, at, problem := f.find(ctx, wants)
	if problem != nil && !refusesOne(problem) {
		return progress, e.unsure(byID[at], problem)
	}
	more, last, err := f.look(ctx, found)
	progress = append(progress, more...)
	switch {
	case err != nil:
		return progress, e.unsure(byID[last], err)
	case problem != nil:
		return progress, e.unsure(byID[at], problem)
	default:
		return progress, nil
	}
}

// want returns what to look for; ok is false for an order that never was an incident.
func (f *follower) want(o bridge.Order) (w wanted, ok bool) {
	if o.Task == nil || o.Intent.Target == "" || o.Intent.Second.IsZero() {
		return wanted{}, false
	}
	return wanted{
		order: o.ID, host: o.Intent.Target, kind: string(o.Task.Kind()), ref: o.Ref, added: o.Intent.Second,
		guess: f.orders.guessing(o.Intent.Second),
	}, true
}

// look tells how tasks stand. With an error comes the order it befell.
func (f *follower) look(ctx context.Context, tasks []followed) (list []bridge.Progress, at string, err error) {
	for _, it := range tasks {
		if it.end != nil {
			list = append(list, *it.end)
			continue
		}
		p, ok, err := f.state(ctx, it)
		if err != nil {
			return list, it.order, err
		}
		if !ok {
			continue
		}
		if p.State != bridge.StateRunning {
			f.orders.ended(p)
		}
		list = append(list, p)
	}
	return list, "", nil
}

// state asks how one task stands on the host of its order; ok is false when the host has not begun.
func (f *follower) state(ctx context.Context, it followed) (p bridge.Progress, ok bool, err error) {
	counts, err := f.client.GetTaskStatistics(ctx, it.task)
	switch {
	case refusesOne(err):
		p, err := f.stateless(ctx, it, err)
		return p, err == nil, err
	case err != nil:
		return bridge.Progress{}, false, err
	}
	state, words := HostState(0), ""
	if len(counts) == 1 {
		for s, hosts := range counts {
			if hosts == 1 {
				state = s
			}
		}
	}
	// A task of several hosts says nothing about ours by its counts, and only the host says why it failed.
	if len(counts) > 0 && (state == 0 || state == HostFailed || state == HostWarning) {
		list, err := f.client.hostStatuses(ctx, it.task)
		if err != nil && !refusesOne(err) {
			return bridge.Progress{}, false, err
		}
		for _, s := range list {
			if strings.EqualFold(s.Host, it.host) {
				state, words = s.State, s.Description
			}
		}
	}
	p, ok = it.progress(state, words)
	return p, ok, nil
}

// progress is the state of the task in the words of the bridge.
func (f *followed) progress(s HostState, words string) (p bridge.Progress, ok bool) {
	p.OrderID = f.order
	switch s {
	case HostRunning:
		p.State, p.Detail = bridge.StateRunning, "runs on the host"
	case HostPaused:
		p.State, p.Detail = bridge.StateRunning, "is paused on the host"
	case HostOK:
		p.State, p.Detail = bridge.StateDone, "ended well"
	case HostWarning:
		p.State, p.Detail = bridge.StateDone, "ended with a warning"
	case HostFailed:
		p.State, p.Detail = bridge.StateFailed, "failed"
	case HostPending, HostScheduled:
		return p, false
	default:
		return p, false
	}
	p.Detail = f.label() + " " + p.Detail
	if words != "" {
		p.Detail += ": " + words
	}
	return p, true
}

// label names the task for people, with what is not certain about it.
func (f *followed) label() string {
	name := "task " + excerpt([]byte(f.task), maxName)
	if !f.exact {
		name += " (found by host, kind and time)"
	}
	return name
}

// stateless tells about a task whose state the server refuses to tell: it is not there any more, or nobody can say.
func (f *follower) stateless(ctx context.Context, it followed, refusal error) (bridge.Progress, error) {
	p := bridge.Progress{OrderID: it.order, State: bridge.StateRunning}
	err := f.ask(ctx, it)
	switch {
	case refusesOne(err):
		p.Detail = "the task is not listed any more: rotated out or deleted"
	case err != nil:
		return p, err
	default:
		f.log.DebugContext(ctx, "state of a task cannot be read", "order", it.order, "err", refusal)
		p.Detail = it.label() + " is listed, but its state cannot be read"
	}
	return p, nil
}

// ask returns no error when the task is there.
func (f *follower) ask(ctx context.Context, it followed) error {
	if it.source != byOne {
		_, err := f.client.GetTask(ctx, it.task)
		return err
	}
	return f.withHost(ctx, it.host, func(handle string) error {
		_, err := f.client.GetHostTaskData(ctx, handle, it.task)
		return err
	})
}

// withHost lends the handle of a host's own tasks, its iterator at the beginning. Nothing releases such a handle before its
// session ends, so it is kept for the next time, unless that session is over.
func (f *follower) withHost(ctx context.Context, host string, use func(handle string) error) error {
	id, kept := f.handles.take(host)
	if kept {
		err := f.client.ResetHostTasksIterator(ctx, id)
		if err != nil && !isRefusal(err) {
			return err
		}
		kept = err == nil
	}
	if !kept {
		var err error
		if id, err = f.client.GetHostTasks(ctx, host); err != nil {
			return err
		}
		if err = f.client.ResetHostTasksIterator(ctx, id); err != nil {
			return err
		}
	}
	defer f.handles.put(host, id)
	return use(id)
}
