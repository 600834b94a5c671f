package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/api"
	"github.com/edr-bridge/edr-bridge/bridge/store"
	"github.com/edr-bridge/edr-bridge/kuma/callout"
)

// The exit codes. The comment above each is what `help exit-codes` and the README say.
const (
	// done, or accepted when not waiting; also a duplicate or a shadow order, whose state says so.
	exitDone = 0
	// failed: certainly not done.
	exitFailed = 1
	// usage: a flag, parameter or argument is wrong; nothing was sent.
	exitUsage = 2
	// held: waits for approval.
	exitHeld = 3
	// refused by a guard; nothing was sent.
	exitRefused = 4
	// outcome unknown: it may have happened.
	exitUnknown = 5
	// limit reached or on hold.
	exitLimit = 6
	// host or id not found, or ambiguous.
	exitNotFound = 7
	// some hosts ok, some not.
	exitMixed = 8
	// KSC, Redis or the bridge unreachable; nothing was sent.
	exitUnreachable = 9
	// credentials missing or refused.
	exitCredentials = 77
	// configuration or rules invalid.
	exitConfig = 78
	// interrupted.
	exitInterrupted = 130
)

// exitCode is one row of the table of exit codes.
type exitCode struct {
	Code    int
	Meaning string
}

func exitCodes() []exitCode {
	return []exitCode{
		{exitDone, "done, or accepted when not waiting; also a duplicate or a shadow order, whose state says so"},
		{exitFailed, "failed: certainly not done"},
		{exitUsage, "usage: a flag, parameter or argument is wrong; nothing was sent"},
		{exitHeld, "held: waits for approval"},
		{exitRefused, "refused by a guard; nothing was sent"},
		{exitUnknown, "outcome unknown: it may have happened"},
		{exitLimit, "limit reached or on hold"},
		{exitNotFound, "host or id not found, or ambiguous"},
		{exitMixed, "some hosts ok, some not"},
		{exitUnreachable, "KSC, Redis or the bridge unreachable; nothing was sent"},
		{exitCredentials, "credentials missing or refused"},
		{exitConfig, "configuration or rules invalid"},
		{exitInterrupted, "interrupted"},
	}
}

// problem is an error with everything the user gets to see of it.
type problem struct {
	exit int
	// code is the stable word of -o json ("guard.protect.hosts"), hint what to do next.
	code, hint string
	err        error
	// quiet means the result on stdout says it all; only the exit code is left to give.
	quiet bool
}

func (p *problem) Error() string { return p.err.Error() }
func (p *problem) Unwrap() error { return p.err }

func usagef(format string, args ...any) error {
	return &problem{exit: exitUsage, code: "usage", err: fmt.Errorf(format, args...)}
}

func fail(exit int, code string, err error, hint string) error {
	return &problem{exit: exit, code: code, err: err, hint: hint}
}

// problemOf finds the exit code of any error a verb returns.
func problemOf(ctx context.Context, err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return &problem{exit: exitInterrupted, code: "interrupted", err: errors.New("interrupted")}
	}
	switch {
	case errors.Is(err, store.ErrDamaged):
		return damagedState(err)
	case errors.Is(err, api.ErrNoAnswer):
		return &problem{exit: exitUnknown, code: "bridge.no_answer", err: err, hint: "edr-bridge tasks list"}
	case errors.Is(err, api.ErrNoBridge), errors.Is(err, api.ErrNoAccess):
		return &problem{exit: exitUnreachable, code: "bridge.socket", err: err}
	}
	if credentialsRefused(err) {
		return &problem{exit: exitCredentials, code: "credentials", err: err}
	}
	if ee, ok := errors.AsType[*bridge.ExecError](err); ok {
		return &problem{exit: exitOfError(ee), code: "executor." + ee.Class.String(), err: err}
	}
	return &problem{exit: exitFailed, code: "failed", err: err}
}

// damagedState says what to do about a store that does not hold together.
func damagedState(err error) *problem {
	return &problem{
		exit: exitFailed, code: "state.damaged", err: fmt.Errorf("state directory: %w", err),
		hint: "nothing is carried out until it is repaired: edr-bridge doctor, then edr-bridge audit set-aside",
	}
}

func exitOfError(ee *bridge.ExecError) int {
	if code := callout.ExitOfReason(ee.Reason); code != exitFailed {
		return code
	}
	switch ee.Class {
	case bridge.Unreachable, bridge.Retry:
		return exitUnreachable
	case bridge.Unknown:
		return exitUnknown
	case bridge.Permanent:
		return exitFailed
	default:
		return exitFailed
	}
}

// exitOfOrder is the exit code for the state an order is in.
func exitOfOrder(o bridge.Order) int {
	switch o.State {
	case bridge.StateDone, bridge.StateAccepted, bridge.StateRunning, bridge.StateDuplicate, bridge.StateShadow:
		return exitDone
	case bridge.StateHeld:
		if callout.ExitOfReason(o.Reason) == exitLimit {
			return exitLimit
		}
		return exitHeld
	case bridge.StateRefused:
		if code := callout.ExitOfReason(o.Reason); code != exitFailed && code != exitUnreachable {
			return code
		}
		return exitRefused
	case bridge.StateUnknown, bridge.StateSending:
		return exitUnknown
	case bridge.StateQueued:
		return exitUnreachable
	case bridge.StateFailed, bridge.StateExpired, bridge.StateCancelled:
		return callout.ExitOfReason(o.Reason)
	default:
		return exitFailed
	}
}

// exitOfOrders joins the codes of several orders.
func exitOfOrders(orders []bridge.Order) int {
	codes := make([]int, 0, len(orders))
	for _, o := range orders {
		codes = append(codes, exitOfOrder(o))
	}
	return joinCodes(codes)
}

// joinCodes is one code for all, or exitMixed.
func joinCodes(codes []int) int {
	if len(codes) == 0 {
		return exitDone
	}
	for _, c := range codes[1:] {
		if c != codes[0] {
			return exitMixed
		}
	}
	return codes[0]
}
