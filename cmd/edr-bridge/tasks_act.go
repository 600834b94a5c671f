package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	// defaultWait is how long tasks wait and send --wait wait.
	defaultWait = 10 * time.Minute
	waitStep    = 250 * time.Millisecond
	waitStepMax = 2 * time.Second
)

func (a *app) tasksWaitCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "wait ORDER…",
		Short: "Wait until orders have ended; 0 only when all are done",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, done, err := a.openDesk(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			orders := make([]bridge.Order, 0, len(args))
			for _, id := range args {
				o, err := d.Order(cmd.Context(), id)
				if err != nil {
					return deskError(err, "order", "edr-bridge tasks list")
				}
				orders = append(orders, o)
			}
			orders, err = a.waitFor(cmd.Context(), d, orders, timeout)
			if err != nil {
				return err
			}
			return a.reportEnded(orders)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", defaultWait, "how long to wait")
	return cmd
}

// waitFor looks at orders until all have ended or the time is over, and returns how they stand then.
func (a *app) waitFor(ctx context.Context, d bridge.Desk, orders []bridge.Order, timeout time.Duration) ([]bridge.Order, error) {
	deadline := time.Now().Add(timeout)
	step, told := waitStep, map[string]bridge.State{}
	for {
		left := 0
		for i, o := range orders {
			if o.State.End() {
				continue
			}
			now, err := d.Order(ctx, o.ID)
			switch {
			case errors.Is(err, bridge.ErrNotFound), ctx.Err() != nil:
				return nil, deskError(err, "order", "edr-bridge tasks list")
			case err != nil:
				return nil, fail(exitUnknown, "order.not_seen", fmt.Errorf("order %s was %s when last seen: %w", o.ID, o.State, err), "edr-bridge tasks wait "+o.ID)
			}
			orders[i] = now
			if told[o.ID] != now.State {
				told[o.ID] = now.State
				a.say("%s: %s on %s: %s", now.ID, kindOf(now), printable(now.Host), now.State)
			}
			if !now.State.End() {
				left++
			}
		}
		if left == 0 || !time.Now().Before(deadline) {
			return orders, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(min(step, time.Until(deadline))):
		}
		step = min(2*step, waitStepMax)
	}
}

func kindOf(o bridge.Order) string {
	if o.Task == nil {
		return "unreadable task"
	}
	return string(o.Task.Kind())
}

// reportEnded prints how orders that were waited for stand: one that has not ended is not done.
func (a *app) reportEnded(orders []bridge.Order) error {
	views, err := viewOrders(orders)
	if err != nil {
		return err
	}
	if err := printOrders(a, views); err != nil {
		return err
	}
	codes := make([]int, 0, len(orders))
	for _, o := range orders {
		switch {
		case o.State.End():
			codes = append(codes, exitOfOrder(o))
		case o.State == bridge.StateHeld:
			codes = append(codes, exitOfOrder(o))
		default:
			codes = append(codes, exitUnknown)
		}
	}
	if code := joinCodes(codes); code != exitDone {
		a.sayDetails(views)
		return &problem{exit: code, code: "order." + string(orders[0].State), err: errors.New(orders[0].Detail), quiet: true}
	}
	return nil
}

func (a *app) tasksCancelCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "cancel ORDER --reason TEXT",
		Short: "Take back an order that has not begun",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needReason(reason); err != nil {
				return err
			}
			d, done, err := a.openDesk(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			o, err := d.Cancel(cmd.Context(), args[0], actor(), reason)
			if err != nil {
				return deskError(err, "order", "edr-bridge tasks list; what has begun is undone as `edr-bridge tasks describe TASK` says")
			}
			view, err := viewOrder(o)
			if err != nil {
				return err
			}
			return printOrders(a, []orderView{view})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit record (required)")
	return cmd
}

func (a *app) tasksRetryCommand() *cobra.Command {
	var reason string
	var yes bool
	cmd := &cobra.Command{
		Use:   "retry ORDER --reason TEXT",
		Short: "Send the task of an ended order once more, as an order by hand",
		Long: `Send the task of an order that failed, expired, was cancelled or refused once more, to the same host. It is an order of its own,
entered by hand, under the same guards. An order that is unknown may have happened: --yes says that a second time does no harm.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needReason(reason); err != nil {
				return err
			}
			d, done, err := a.openDesk(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			o, err := d.Order(cmd.Context(), args[0])
			if err != nil {
				return deskError(err, "order", "edr-bridge tasks list")
			}
			again, err := retryOf(o, reason, yes, time.Now())
			if err != nil {
				return err
			}
			sent, err := d.Send(cmd.Context(), []bridge.Order{again})
			if err != nil {
				return err
			}
			return a.reportOrders(sent)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit record (required)")
	cmd.Flags().BoolVar(&yes, "yes", false, "also when the order may have happened")
	return cmd
}

// retryOf makes the order by hand that does what an ended one was to do.
func retryOf(o bridge.Order, reason string, yes bool, now time.Time) (bridge.Order, error) {
	switch {
	case o.Task == nil:
		return o, fail(exitRefused, "order.unreadable", errors.New("the task of this order cannot be read"), "")
	case o.State == bridge.StateUnknown && !yes:
		return o, fail(exitRefused, "order.unknown", errors.New("it may have happened"), "look at the host first; --yes sends it all the same")
	case o.State == bridge.StateShadow, !o.State.CameToNothing() && o.State != bridge.StateUnknown:
		return o, fail(exitRefused, "order."+string(o.State), fmt.Errorf("it is %s: nothing to retry", o.State), "edr-bridge tasks show "+o.ID)
	case o.Subject.PID > 0:
		return o, fail(exitRefused, "order.pid", errors.New("a pid is not good for a second time: the process may be another one"), "edr-bridge send --task terminateProcess --pid …")
	}
	again := bridge.Order{
		Host: o.Host, Task: o.Task, Subject: bridge.Process{Tree: o.Subject.Tree}, Mode: bridge.ModeEnforce, Via: o.Via, For: o.For, Actor: actor() + " (" + reason + "; again " + o.ID + ")",
	}
	if again.Via == "" {
		again.Via = bridge.ViaAuto
	}
	var err error
	again.ID, err = bridge.NewOrderID("cli", "retry/"+o.ID+"/"+now.UTC().Format(time.RFC3339Nano), "", o.Task, o.Host)
	return again, err
}
