package ksc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// maxSearched bounds the incidents of one host in one second that are looked at.
const maxSearched = 1000

// Reconcile looks for the incident of an order whose AddIncident brought no clear answer: same host, the second we
// chose, equal body. Found, it is adopted and completed like in Execute; several are one effect too many, so the lowest
// id is adopted and the receipt names the others. It searches once: how long to wait before a miss counts is its
// caller's to know.
//
// The classes of its errors speak about the search: Retry, search again; Unknown, the server's answer does not allow to tell.
// They are never Permanent or Unreachable, because those would say that the order was not carried out.
func (e *Executor) Reconcile(ctx context.Context, o bridge.Order) (r bridge.Receipt, found bool, err error) {
	if err := whole(o.Intent); err != nil {
		return bridge.Receipt{}, false, e.unsure(o, err)
	}
	ids, err := e.search(ctx, o.Intent)
	if err != nil {
		return bridge.Receipt{}, false, e.unsure(o, err)
	}
	if len(ids) == 0 {
		return bridge.Receipt{}, false, nil
	}
	detail := ""
	if len(ids) > 1 {
		detail = fmt.Sprintf("duplicates: incidents %v are equal, the lowest is adopted", ids)
	}
	return e.complete(ctx, o, ids[0], detail), true, nil
}

// errUnclear says that the search succeeded and its result cannot be judged.
var errUnclear = errors.New("cannot tell whether the incident was added")

// search returns the ids of the equal incidents, lowest first.
func (e *Executor) search(ctx context.Context, in bridge.Intent) ([]int64, error) {
	// The language has no >= that all versions know, so the window is open and one second wide on each side.
	f := And(
		Eq("KLHST_WKS_HOSTNAME", Text(in.Target)),
		Gt("KLINCDT_ADDED", Moment(in.Second.Add(-time.Second))),
		Lt("KLINCDT_ADDED", Moment(in.Second.Add(time.Second))),
	)
	got, err := e.client.collect(ctx, maxSearched, func(ctx context.Context) (ResultSet, error) { return e.client.FindIncidents(ctx, f) })
	if err != nil {
		return nil, err
	}
	var ids []int64
	doubt := error(nil)
	for _, raw := range got.items {
		var inc Incident
		if err := json.Unmarshal(raw, &inc); err != nil || inc.ID <= 0 {
			doubt = fmt.Errorf("%w: an incident of that second cannot be read", errUnclear)
			continue
		}
		if inc.Host != "" && inc.Host != in.Target {
			continue
		}
		switch compare(in, inc) {
		case equal:
			ids = insert(ids, inc.ID)
		case unclear:
			doubt = fmt.Errorf("%w: incident %d of that host and second came back changed", errUnclear, inc.ID)
		case other:
		default:
		}
	}
	switch {
	case len(ids) > 0:
		return ids, nil
	case got.total > len(got.items):
		return nil, fmt.Errorf("%w: %d incidents in that second, %d looked at", errUnclear, got.total, len(got.items))
	default:
		return nil, doubt
	}
}

// insert keeps ids sorted and without repetition.
func insert(ids []int64, id int64) []int64 {
	for i, have := range ids {
		if have == id {
			return ids
		}
		if have > id {
			return append(ids[:i], append([]int64{id}, ids[i:]...)...)
		}
	}
	return append(ids, id)
}

// unsure is fail for searches.
func (e *Executor) unsure(o bridge.Order, err error) *bridge.ExecError {
	out := e.fail(o, err)
	switch {
	case errors.Is(err, errUnclear), isRefusal(err):
		out.Class = bridge.Unknown
	case out.Reason == bridge.ReasonInvalid:
		out.Class = bridge.Unknown
	default:
		out.Class = bridge.Retry
	}
	return out
}
