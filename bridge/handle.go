package bridge

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"
)

// errPanicked marks what a panic inside the work on one alert left behind.
var errPanicked = errors.New("panic")

// mapAlert maps a delivery and reserves the places of its orders, in the order the source delivers.
func (r *pipelineRun) mapAlert(ctx context.Context, d Delivery) (mapped []Mapped, places [][]*laneItem, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: map alert: %v", errPanicked, v)
			r.log.Error("alert caused a panic", "source_name", d.Alert.Source, "err", err, "stack", string(debug.Stack()))
		}
	}()
	mapped, err = r.cfg.Mapper.Map(d.Alert)
	if err != nil {
		return nil, nil, err
	}
	for {
		head, rest := portion(mapped, r.box.together())
		if len(rest) == 0 {
			break
		}
		// What leads a large delivery is admitted here, before the next delivery is read: it must not be overtaken by it.
		if places, err = r.reserve(ctx, head); err != nil {
			return nil, nil, err
		}
		begin, err := r.admitPlaces(r.work, Delivery{Alert: d.Alert}, head, places) //nolint:contextcheck // a commit outlives the signal to quit
		r.spawn(begin)
		if err != nil {
			return nil, nil, err
		}
		mapped = rest
	}
	places, err = r.reserve(ctx, mapped)
	return mapped, places, err
}

// portion cuts off as many alerts as have at most limit orders, or the first with its first orders.
func portion(mapped []Mapped, limit int) (head, rest []Mapped) {
	orders := 0
	for i, m := range mapped {
		orders += len(m.Orders)
		switch {
		case orders <= limit:
			continue
		case i > 0:
			return mapped[:i], mapped[i:]
		}
		first, second := m, m
		first.Orders, first.Refused, second.Orders = m.Orders[:limit], nil, m.Orders[limit:]
		return []Mapped{first}, append([]Mapped{second}, mapped[1:]...)
	}
	return mapped, nil
}

func (r *pipelineRun) reserve(ctx context.Context, mapped []Mapped) ([][]*laneItem, error) {
	places := make([][]*laneItem, len(mapped))
	// Two deliveries that each had some of the places and waited for more would wait for each other.
	if several := len(mapped) > 1 || len(mapped) == 1 && len(mapped[0].Orders) > 1; several {
		select {
		case r.box.several <- struct{}{}:
			defer func() { <-r.box.several }()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	for i, m := range mapped {
		places[i] = make([]*laneItem, len(m.Orders))
		for j, o := range m.Orders {
			it, err := r.box.reserve(ctx, r, o)
			if err != nil {
				r.release(places)
				return nil, err
			}
			places[i][j] = it
		}
	}
	return places, nil
}

// release gives up places that are still reserved and runs what waited for them.
func (r *pipelineRun) release(places [][]*laneItem) {
	for _, row := range places {
		for _, it := range row {
			if it != nil {
				r.spawn(r.box.giveUp(it))
			}
		}
	}
}

// spawn performs orders on goroutines of their own.
func (r *pipelineRun) spawn(items []*laneItem) {
	for _, it := range items {
		r.Pipeline.work.Go(func() { r.runItem(it) })
	}
}

// runItem performs an order and then whatever waited for it, the last of it on this goroutine.
func (r *pipelineRun) runItem(it *laneItem) {
	for it != nil {
		ended := it.run.perform(it)
		next := r.box.finish(it)
		if it.run.hand != nil {
			it.run.hand.ended(ended)
		}
		it = nil
		if n := len(next); n > 0 {
			r.spawn(next[:n-1])
			it = next[n-1]
		}
	}
}

// handle finishes one delivery: bad documents are recorded and dead-lettered, good ones admitted and settled. It returns the
// places whose orders the caller has to run.
func (r *pipelineRun) handle(d Delivery, mapped []Mapped, places [][]*laneItem, err error) []*laneItem {
	defer func() { <-r.alerts }()
	if err != nil {
		r.reject(d, err)
		return nil
	}
	begin, _ := r.admitPlaces(r.work, d, mapped, places) // its error is logged, and told to the source
	return begin
}

// runAll performs orders, the last one on this goroutine: one hop less for the usual single order.
func (r *pipelineRun) runAll(items []*laneItem) {
	if n := len(items); n > 0 {
		r.spawn(items[:n-1])
		r.runItem(items[n-1])
	}
}

// admit takes in orders that come from no source. They are performed on goroutines of their own: who admits them has other
// things to do than to wait for KSC.
func (r *pipelineRun) admit(ctx context.Context, orders []Order) error {
	for some := range slices.Chunk(orders, r.box.together()) {
		mapped := []Mapped{{Orders: some}}
		places, err := r.reserve(ctx, mapped)
		if err != nil {
			return err
		}
		begin, err := r.admitPlaces(ctx, Delivery{}, mapped, places)
		r.spawn(begin)
		if err != nil {
			return err
		}
	}
	return nil
}

// reject deals with a delivery that could not be mapped.
func (r *pipelineRun) reject(d Delivery, err error) {
	if !errors.Is(err, ErrBadAlert) && !errors.Is(err, errPanicked) {
		r.giveBack(d, err)
		return
	}
	if !errors.Is(err, ErrBadAlert) {
		err = fmt.Errorf("%w: %w", ErrBadAlert, err)
	}
	r.log.Warn("alert cannot be read, dead-lettered", "source_name", d.Alert.Source, "err", err)
	now := r.cfg.Now().UTC()
	letter := DeadLetter{
		ID: LetterID(d.Alert.Source, d.Alert.ID, d.Alert.Raw), Source: d.Alert.Source, Entry: d.Alert.ID, Document: d.Alert.Raw,
		Error: err.Error(), Attempts: 1, First: now, Last: now,
	}
	if berr := r.cfg.Store.Bury(r.work, letter); berr != nil {
		r.log.Error("dead letter could not be stored, alert stays with its source", "source_name", d.Alert.Source, "err", berr)
		err = berr
	}
	r.giveBack(d, err)
}

// admitPlaces judges and commits the orders of one delivery, settles it, fills the reserved places and
// returns those the caller has to run, with an error too. It gives up the places it did not fill.
func (r *pipelineRun) admitPlaces(ctx context.Context, d Delivery, mapped []Mapped, places [][]*laneItem) (begin []*laneItem, err error) {
	settled := false
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: admit alert: %v", errPanicked, v)
			r.log.Error("alert caused a panic", "source_name", d.Alert.Source, "err", err, "stack", string(debug.Stack()))
			if !settled {
				r.settle(d, fmt.Errorf("%w: %w", ErrBadAlert, err))
			}
		}
		if err != nil {
			r.release(places)
		}
	}()
	var a Admission
	var items []*laneItem
	for i, m := range mapped {
		if m.Alert.ID != "" {
			a.Alerts = append(a.Alerts, m.Alert)
		}
		for j, o := range m.Orders {
			a.Orders = append(a.Orders, r.judge(ctx, o, places[i][j]))
			items = append(items, places[i][j])
		}
		for _, o := range m.Refused {
			o.Created = r.cfg.Now().UTC()
			o.Updated = o.Created
			a.Orders = append(a.Orders, o)
			items = append(items, nil)
		}
	}
	CrashPoint(CrashJudged)
	started := r.cfg.Now()
	admitted, err := r.cfg.Store.Admit(ctx, a)
	if err != nil {
		r.log.Error("alert could not be stored, it stays with its source", "source_name", d.Alert.Source, "err", err)
		settled = true
		r.settle(d, err)
		return nil, err
	}
	CrashPoint(CrashAdmitted)
	settled = true
	r.settle(d, nil)
	CrashPoint(CrashSettled)
	took := r.cfg.Now().Sub(started)
	for i, ad := range admitted {
		r.report(ad, took)
		if items[i] == nil {
			continue
		}
		var next *Order
		if !ad.Known && ad.Order.State.Pending() {
			next = &ad.Order
		}
		run, taken := r.box.decide(items[i], next, true)
		begin = append(begin, run...)
		if r.hand != nil && taken {
			r.hand.began(ad.Order)
		} else if r.hand != nil {
			r.hand.stands(ad.Order)
		}
	}
	return begin, nil
}

func (r *pipelineRun) settle(d Delivery, err error) {
	if d.Settle == nil {
		return
	}
	if serr := d.Settle(r.work, err); serr != nil {
		r.log.Warn("delivery could not be settled; a redelivery will be recognised", "source_name", d.Alert.Source, "err", serr)
	}
}

// judge fills in executor, deadline, process and state of a new order. When the order would begin at once and
// its intent needs no network, the intent is part of the admission: one commit instead of two.
func (r *pipelineRun) judge(ctx context.Context, o Order, place *laneItem) Order {
	o.Created = r.cfg.Now().UTC()
	o.Updated = o.Created
	refuse := func(v Verdict) Order {
		o.State, o.Reason, o.Detail = v.State, v.Reason, v.Detail
		return o
	}
	if o.Task == nil {
		return refuse(Verdict{StateRefused, ReasonInvalid, "task: required"})
	}
	o.NotAfter = r.cfg.Guard.Deadline(o)
	// The guards have to know who would do it; an order that is refused is nobody's.
	name, choice := r.cfg.Router.Choose(o)
	// A hopeless order is refused before anything is asked about its process.
	o.Executor = name
	v := r.cfg.Guard.Admit(o)
	if v.State == StateRefused || choice.State != StateQueued {
		o.Executor = ""
	}
	if v.State == StateRefused {
		return refuse(v)
	}
	if choice.State != StateQueued {
		return refuse(choice)
	}
	o, found := r.cfg.Router.Identify(ctx, o)
	if found.State != StateQueued {
		return refuse(found)
	}
	if o.Subject.PID > 0 {
		// The image is known only here: the never-touch lists are asked again with it.
		v = r.cfg.Guard.Admit(o)
	}
	o.State, o.Reason, o.Detail = v.State, v.Reason, v.Detail
	switch {
	case o.State != StateQueued:
	case r.hand != nil:
		o = r.intendOrFail(ctx, o)
	case r.box.idle(place):
		o = r.intendNow(ctx, o)
	}
	return o
}

// intendOrFail fixes the intent of a command's order, asking the network if it must: the command waits anyway, and
// an order that cannot even be addressed needs no second commit.
func (r *pipelineRun) intendOrFail(ctx context.Context, o Order) Order {
	ex, needs := r.cfg.Router.executor(o.Executor).(Intender)
	if !needs {
		o.State = StateSending
		return o
	}
	in, _, err := ex.Intend(ctx, o, true)
	if err == nil {
		return r.intended(o, in)
	}
	reason := reasonOf(err)
	switch {
	case ClassOf(err) == Unreachable && r.canFallBack(o):
		o.Executor, o.State, o.Detail = ExecutorLocal, StateSending, "KSC unreachable, taken over by the local agent: "+causeText(err)
	case ClassOf(err) == Permanent && reason != ReasonNone:
		o.State, o.Reason, o.Detail = StateRefused, reason, causeText(err)
	default:
		if reason == ReasonNone && ClassOf(err) != Permanent {
			reason = ReasonUnreachable
		}
		o.State, o.Reason, o.Detail = StateFailed, reason, "not sent: "+causeText(err)
	}
	return o
}

func (r *pipelineRun) intendNow(ctx context.Context, o Order) Order {
	ex, needs := r.cfg.Router.executor(o.Executor).(Intender)
	if !needs {
		o.State = StateSending
		return o
	}
	in, ok, err := ex.Intend(ctx, o, false)
	if err != nil || !ok {
		return o
	}
	return r.intended(o, in)
}

// intended makes an order with its intent ready to be sent, if the guards agree now that the names of the host are known.
func (r *pipelineRun) intended(o Order, in Intent) Order {
	o.Intent = in
	if v := r.cfg.Guard.Begin(o); v.State != StateQueued {
		o.State, o.Reason, o.Detail = v.State, v.Reason, v.Detail
		return o
	}
	o.State = StateSending
	return o
}

func (r *pipelineRun) report(ad Admitted, took time.Duration) {
	o := ad.Order
	if !ad.Known {
		r.cfg.Meter.Admitted(o, took)
	}
	if ad.Known {
		r.log.Info("alert delivered again, order known", "order", o.ID, "alert", o.AlertID, "state", string(o.State))
		return
	}
	switch {
	case o.State.Pending():
		return
	case o.State.Alarm():
		r.alarm(o)
		return
	case ad.Asked:
		r.log.Warn("approval wanted: edr-bridge approvals list", "order", o.ID, "alert", o.AlertID, "rule", o.Rule, "host", o.Host,
			"task", string(o.Task.Kind()), "until", o.Due, "reason", string(o.Reason), "detail", o.Detail)
		return
	}
	r.log.Info("order not carried out", "order", o.ID, "alert", o.AlertID, "rule", o.Rule, "host", o.Host,
		"state", string(o.State), "reason", string(o.Reason), "detail", o.Detail)
}
