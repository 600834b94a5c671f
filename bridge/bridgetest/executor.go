package bridgetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	// executorParallel is how many orders the suite runs at once.
	executorParallel = 8
	// executorPatience is how long one call may take before the suite calls it stuck.
	executorPatience = 30 * time.Second
)

// ExecutorUnderTest is one executor in a world of its own, made by the function given to TestExecutor for
// every case anew.
type ExecutorUnderTest struct {
	// Executor is what is tested; required.
	Executor bridge.Executor
	// Name is what the executor calls itself in errors: bridge.ExecutorKSC or bridge.ExecutorLocal; required.
	Name string
	// Good returns an order the executor can carry out; required. Every call names another target and another
	// order id. The suite asks Intend for the intent when the executor is a bridge.Intender.
	Good func(t *testing.T) bridge.Order
	// Effects counts the effects the world has seen so far; nil when they cannot be counted.
	Effects func(t *testing.T) int
	// Refused are orders the executor must answer with an error and without an effect, by case name.
	Refused map[string]RefusedOrder
	// Repeatable says that carrying out the very same order twice has the effect once and no error.
	Repeatable bool
}

// RefusedOrder is an order that must not be carried out and the error it must meet.
type RefusedOrder struct {
	Order  bridge.Order
	Class  bridge.Class
	Reason bridge.Reason
}

// TestExecutor checks the contract of bridge.Executor and of the optional Intender, Reconciler and Follower: only
// *bridge.ExecError, no effect without a receipt that says so, no effect after ctx has ended, many callers at once.
func TestExecutor(t *testing.T, world func(t *testing.T) ExecutorUnderTest) {
	t.Helper()
	t.Run("carries out an order and says what it saw", func(t *testing.T) {
		u := world(t)
		o := intended(t, u, u.Good(t))
		before := u.effects(t)
		r, err := execute(t, t.Context(), u, o)
		if err != nil {
			t.Fatalf("execute: %v", err)
		}
		checkReceipt(t, r)
		u.wantEffects(t, before+1)
	})
	t.Run("refuses without an effect", func(t *testing.T) { testRefusals(t, world(t)) })
	t.Run("refuses an order without a task", func(t *testing.T) {
		u := world(t)
		o := u.Good(t)
		o.Task = nil
		before := u.effects(t)
		_, err := execute(t, t.Context(), u, o)
		_ = checkExecError(t, u, o, err, bridge.Permanent)
		u.wantEffects(t, before)
	})
	t.Run("does nothing once ctx has ended", func(t *testing.T) { testEndedContext(t, world(t)) })
	t.Run("serves many callers at once", func(t *testing.T) { testParallel(t, world(t)) })
	t.Run("carries out the same order again without harm", func(t *testing.T) {
		u := world(t)
		if !u.Repeatable {
			t.Skip("the executor does not promise this")
		}
		o := intended(t, u, u.Good(t))
		before := u.effects(t)
		for range 2 {
			r, err := execute(t, t.Context(), u, o)
			if err != nil {
				t.Fatalf("execute: %v", err)
			}
			checkReceipt(t, r)
		}
		u.wantEffects(t, before+1)
	})
	t.Run("intends without an effect", func(t *testing.T) { testIntend(t, world(t)) })
	t.Run("finds out what became of an intent", func(t *testing.T) { testReconcile(t, world(t)) })
	t.Run("follows orders without an effect", func(t *testing.T) { testFollow(t, world(t)) })
}

func testRefusals(t *testing.T, u ExecutorUnderTest) {
	t.Helper()
	if len(u.Refused) == 0 {
		t.Fatal("ExecutorUnderTest.Refused is empty: name at least one order that must be refused")
	}
	for name, c := range u.Refused {
		t.Run(name, func(t *testing.T) {
			before := u.effects(t)
			_, err := execute(t, t.Context(), u, c.Order)
			ee := checkExecError(t, u, c.Order, err, c.Class)
			if ee.Reason != c.Reason {
				t.Errorf("reason = %q, want %q (%v)", ee.Reason, c.Reason, ee)
			}
			u.wantEffects(t, before)
		})
	}
}

func testEndedContext(t *testing.T, u ExecutorUnderTest) {
	t.Helper()
	o := intended(t, u, u.Good(t))
	before := u.effects(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := execute(t, ctx, u, o)
	ee, ok := errors.AsType[*bridge.ExecError](err)
	if !ok {
		t.Fatalf("error = %v (%T), want *bridge.ExecError", err, err)
	}
	// Permanent would end an order nobody tried, Unknown would alarm people about one that never left.
	if ee.Class != bridge.Retry && ee.Class != bridge.Unreachable {
		t.Errorf("class = %v, want retry or unreachable: nothing happened (%v)", ee.Class, ee)
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v does not tell that ctx was cancelled", err)
	}
	u.wantEffects(t, before)
}

func testParallel(t *testing.T, u ExecutorUnderTest) {
	t.Helper()
	orders := make([]bridge.Order, executorParallel)
	for i := range orders {
		orders[i] = intended(t, u, u.Good(t))
	}
	before := u.effects(t)
	errs := make([]error, len(orders))
	receipts := make([]bridge.Receipt, len(orders))
	var wg sync.WaitGroup
	for i, o := range orders {
		wg.Go(func() { receipts[i], errs[i] = u.Executor.Execute(t.Context(), o) })
	}
	wg.Wait()
	for i := range orders {
		if errs[i] != nil {
			t.Errorf("order %d: %v", i, errs[i])
			continue
		}
		checkReceipt(t, receipts[i])
	}
	u.wantEffects(t, before+len(orders))
}

func testIntend(t *testing.T, u ExecutorUnderTest) {
	t.Helper()
	in, ok := u.Executor.(bridge.Intender)
	if !ok {
		t.Skip("the executor fixes nothing beforehand")
	}
	o := u.Good(t)
	before := u.effects(t)
	for range 2 {
		intent, ok, err := in.Intend(t.Context(), o, true)
		if err != nil || !ok {
			t.Fatalf("intend = %v, %v; want an intent when it may wait", ok, err)
		}
		if intent.Body == "" && intent.Target == "" {
			t.Errorf("intent %+v names neither target nor body", intent)
		}
	}
	if _, _, err := in.Intend(t.Context(), o, false); err != nil {
		t.Errorf("intend without waiting: %v", err)
	}
	u.wantEffects(t, before)
}

func testReconcile(t *testing.T, u ExecutorUnderTest) {
	t.Helper()
	rec, ok := u.Executor.(bridge.Reconciler)
	if !ok {
		t.Skip("the executor cannot look for an effect")
	}
	o := intended(t, u, u.Good(t))
	before := u.effects(t)
	if _, found, err := rec.Reconcile(t.Context(), o); err != nil || found {
		t.Fatalf("reconcile before the effect = %v, %v; want not found", found, err)
	}
	u.wantEffects(t, before)
	if _, err := execute(t, t.Context(), u, o); err != nil {
		t.Fatalf("execute: %v", err)
	}
	r, found, err := rec.Reconcile(t.Context(), o)
	if err != nil || !found {
		t.Fatalf("reconcile after the effect = %v, %v; want found", found, err)
	}
	checkReceipt(t, r)
	u.wantEffects(t, before+1)
}

func testFollow(t *testing.T, u ExecutorUnderTest) {
	t.Helper()
	f, ok := u.Executor.(bridge.Follower)
	if !ok {
		t.Skip("the executor does not tell how orders go on")
	}
	o, never := intended(t, u, u.Good(t)), intended(t, u, u.Good(t))
	r, err := execute(t, t.Context(), u, o)
	if err != nil {
		t.Fatalf("execute: %v", err)
	}
	o.State, o.Ref = r.State, r.Ref
	before := u.effects(t)
	for _, orders := range [][]bridge.Order{nil, {never}, {o, never}, {o}} {
		told, err := f.Follow(t.Context(), orders)
		if err != nil {
			t.Fatalf("follow: %v", err)
		}
		if len(told) > 1 || len(told) == 1 && (told[0].OrderID != o.ID || len(orders) == 0 || orders[0].ID != o.ID) {
			t.Errorf("follow = %+v, want at most one answer, for an order that was asked about and carried out", told)
		}
		for _, p := range told {
			if p.State != bridge.StateRunning && p.State != bridge.StateDone && p.State != bridge.StateFailed {
				t.Errorf("state = %q, want running, done or failed", p.State)
			}
			if err := printable(p.Detail); err != nil {
				t.Errorf("detail %+q: %v", p.Detail, err)
			}
		}
	}
	u.wantEffects(t, before)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Follow(ctx, []bridge.Order{o}); err != nil {
		if _, ok := err.(*bridge.ExecError); !ok { //nolint:errorlint // the caller reads the outermost error
			t.Errorf("error = %v (%T), want *bridge.ExecError", err, err)
		}
	}
}

// execute calls Execute and fails the test when it does not come back.
func execute(t *testing.T, ctx context.Context, u ExecutorUnderTest, o bridge.Order) (bridge.Receipt, error) { //nolint:revive // t comes first in test helpers.
	t.Helper()
	type answer struct {
		r   bridge.Receipt
		err error
	}
	done := make(chan answer, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		r, err := u.Executor.Execute(ctx, o)
		done <- answer{r, err}
	})
	select {
	case a := <-done:
		wg.Wait()
		return a.r, a.err
	case <-time.After(executorPatience):
		t.Fatalf("execute of %s did not come back within %s", o.ID, executorPatience)
		return bridge.Receipt{}, nil
	}
}

func intended(t *testing.T, u ExecutorUnderTest, o bridge.Order) bridge.Order {
	t.Helper()
	in, ok := u.Executor.(bridge.Intender)
	if !ok {
		return o
	}
	intent, ok, err := in.Intend(t.Context(), o, true)
	if err != nil || !ok {
		t.Fatalf("intend = %v, %v", ok, err)
	}
	o.Intent = intent
	return o
}

func checkReceipt(t *testing.T, r bridge.Receipt) {
	t.Helper()
	if r.State != bridge.StateAccepted && r.State != bridge.StateDone && r.State != bridge.StateShadow {
		t.Errorf("receipt state = %q, want accepted, done or shadow", r.State)
	}
	if r.State == bridge.StateAccepted && r.Ref == "" {
		t.Error("an accepted order needs a reference to follow it by")
	}
	if err := printable(r.Ref + r.Detail); err != nil {
		t.Errorf("receipt %+q: %v", r, err)
	}
}

func checkExecError(t *testing.T, u ExecutorUnderTest, o bridge.Order, err error, class bridge.Class) *bridge.ExecError {
	t.Helper()
	// A type assertion and not errors.As: the caller reads the class of the outermost error.
	ee, ok := err.(*bridge.ExecError) //nolint:errorlint // see above
	if !ok {
		t.Fatalf("error = %v (%T), want *bridge.ExecError", err, err)
	}
	if ee.Class != class {
		t.Errorf("class = %v, want %v (%v)", ee.Class, class, ee)
	}
	if ee.Executor != u.Name || ee.OrderID != o.ID {
		t.Errorf("error names executor %q and order %q, want %q and %q", ee.Executor, ee.OrderID, u.Name, o.ID)
	}
	if ee.Err == nil {
		t.Fatal("error without a cause")
	}
	if strings.HasPrefix(ee.Err.Error(), "failed to") {
		t.Errorf("error text %q begins with failed to", ee.Err)
	}
	if err := printable(ee.Error()); err != nil {
		t.Errorf("error %+q: %v", ee.Error(), err)
	}
	return ee
}

// printable keeps what executors say fit for a log line and a terminal: targets are named by attackers.
// Line feeds are allowed, because joined errors stand on lines of their own.
func printable(s string) error {
	if !utf8.ValidString(s) {
		return errors.New("is not valid UTF-8")
	}
	for _, r := range s {
		if !unicode.IsPrint(r) && r != '\n' {
			return fmt.Errorf("holds the unprintable character %U", r)
		}
	}
	return nil
}

func (u ExecutorUnderTest) effects(t *testing.T) int {
	t.Helper()
	if u.Effects == nil {
		return 0
	}
	return u.Effects(t)
}

func (u ExecutorUnderTest) wantEffects(t *testing.T, want int) {
	t.Helper()
	if u.Effects == nil {
		return
	}
	if got := u.Effects(t); got != want {
		t.Errorf("effects = %d, want %d", got, want)
	}
}
