package bridgetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	// sourcePatience is how long the suite waits for a delivery by default.
	sourcePatience = 10 * time.Second
	// sourcePrompt is how fast a call must answer that has nothing to wait for.
	sourcePrompt = time.Second
	// sourceQuiet is how long the suite listens before it believes that nothing comes.
	sourceQuiet = 300 * time.Millisecond
)

// SourceUnderTest is one source with a transport of its own, made by the function given to TestSource for every
// case anew. Whatever has to run for it is started by that function and ended by t.Cleanup.
type SourceUnderTest struct {
	// Source is what is tested; required.
	Source bridge.Source
	// Name and Preset are what every alert must carry; Name is required.
	Name, Preset string
	// Send puts one document into the transport; required. It may block until the delivery is settled, and may
	// then answer an error when it was settled with one.
	Send func(ctx context.Context, doc []byte) error
	// Documents makes n different documents the transport accepts; nil = short JSON objects.
	Documents func(n int) [][]byte
	// Close ends the source for good and returns once what was settled is with the transport; required.
	Close func(ctx context.Context) error
	// Durable says that a document comes again until it is settled with nil or as a bad alert, over restarts too.
	Durable bool
	// Reopen starts another source on the same transport after Close; required when Durable.
	Reopen func(t *testing.T) SourceUnderTest
	// DeadLetters returns the documents put aside as unreadable; nil when the source keeps none.
	DeadLetters func(ctx context.Context) ([][]byte, error)
	// Patience is how long a delivery or redelivery may take; 0 = 10 s. Quiet is how long the suite listens
	// before it believes that nothing comes; 0 = 0.3 s. It must be longer than a redelivery takes.
	Patience, Quiet time.Duration
}

// sourceCheck is one rule of the contract; it returns what is wrong.
type sourceCheck struct {
	name    string
	durable bool
	run     func(ctx context.Context, u *SourceUnderTest) error
}

// TestSource checks the contract of bridge.Source: documents arrive unchanged and in order, Receive obeys its context,
// a delivery is settled once, bad alerts are put aside, nothing comes after the end, and a durable
// source delivers again what was not settled.
func TestSource(t *testing.T, open func(t *testing.T) SourceUnderTest) {
	t.Helper()
	for _, c := range sourceChecks() {
		t.Run(c.name, func(t *testing.T) {
			u := open(t)
			if c.durable && !u.Durable {
				t.Skip("the source is not durable")
			}
			if err := c.run(t.Context(), &u); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("delivers after a restart what was not settled", func(t *testing.T) {
		u := open(t)
		if !u.Durable {
			t.Skip("the source is not durable")
		}
		testRestart(t, &u)
	})
}

func sourceChecks() []sourceCheck {
	return []sourceCheck{
		{"delivers documents unchanged and in order", false, checkOrder},
		{"answers an ended context at once and loses nothing", false, checkEnded},
		{"unblocks Receive when the context ends", false, checkUnblock},
		{"refuses to settle a delivery twice", false, checkTwice},
		{"hands every delivery its own bytes", false, checkBytes},
		{"settles from many goroutines at once", false, checkParallel},
		{"settles under an ended context without waiting", false, checkSettleEnded},
		{"puts a bad alert aside and goes on", false, checkBad},
		{"delivers nothing after the end", false, checkClosed},
		{"delivers again what was settled with an error", true, checkRedelivery},
	}
}

// checkOrder sends and settles one by one, then a handful that is all received before any is settled in reverse.
func checkOrder(ctx context.Context, u *SourceUnderTest) error {
	docs := u.documents(20)
	sent := u.sending(ctx, docs)
	for i, doc := range docs {
		d, err := u.next(ctx)
		if err != nil {
			return fmt.Errorf("document %d: %w", i, err)
		}
		if !bytes.Equal(d.Alert.Raw, doc) {
			return fmt.Errorf("document %d is %.60q, want %.60q", i, d.Alert.Raw, doc)
		}
		if err := u.checkAlert(d.Alert); err != nil {
			return err
		}
		if err := d.Settle(ctx, nil); err != nil {
			return fmt.Errorf("settle document %d: %w", i, err)
		}
	}
	if err := sent(); err != nil {
		return err
	}
	return u.nothing(ctx)
}

func (u *SourceUnderTest) checkAlert(a bridge.Alert) error {
	switch {
	case a.Source != u.Name:
		return fmt.Errorf("alert is of source %q, want %q", a.Source, u.Name)
	case a.Preset != u.Preset:
		return fmt.Errorf("alert has preset %q, want %q", a.Preset, u.Preset)
	case a.Received.IsZero():
		return errors.New("alert does not say when it was received")
	case a.Received.Location() != time.UTC:
		return fmt.Errorf("alert was received in zone %s, want UTC", a.Received.Location())
	default:
		return nil
	}
}

func checkEnded(ctx context.Context, u *SourceUnderTest) error {
	docs := u.documents(1)
	sent := u.sending(ctx, docs)
	cause := errors.New("the caller has enough")
	ended, cancel := context.WithCancelCause(ctx)
	cancel(cause)
	for range 3 {
		begin := time.Now()
		_, err := u.call(ended)
		if !errors.Is(err, cause) {
			return fmt.Errorf("receive under an ended context answers %w, want its cause", orNil(err))
		}
		if d := time.Since(begin); d > sourcePrompt {
			return fmt.Errorf("receive under an ended context took %s", d)
		}
	}
	d, err := u.next(ctx)
	if err != nil {
		return fmt.Errorf("after a receive under an ended context: %w", err)
	}
	if err := d.Settle(ctx, nil); err != nil {
		return err
	}
	return sent()
}

func checkUnblock(ctx context.Context, u *SourceUnderTest) error {
	cause := errors.New("the caller goes home")
	limited, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(100*time.Millisecond, func() { cancel(cause) })
	defer timer.Stop()
	begin := time.Now()
	_, err := u.receive(limited)
	if !errors.Is(err, cause) {
		return fmt.Errorf("receive whose context ended answers %w, want its cause", orNil(err))
	}
	if d := time.Since(begin); d > sourcePrompt {
		return fmt.Errorf("receive went on for %s after its context had ended", d)
	}
	return nil
}

func checkTwice(ctx context.Context, u *SourceUnderTest) error {
	docs := u.documents(1)
	sent := u.sending(ctx, docs)
	d, err := u.next(ctx)
	if err != nil {
		return err
	}
	if err := d.Settle(ctx, nil); err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	if err := d.Settle(ctx, errors.New("late second thoughts")); err == nil {
		return errors.New("the second settle of a delivery was accepted")
	}
	if err := sent(); err != nil {
		return err
	}
	return u.nothing(ctx)
}

// checkBytes looks at the first delivery's bytes once the second one is there.
func checkBytes(ctx context.Context, u *SourceUnderTest) error {
	docs := u.documents(2)
	sent := u.sending(ctx, docs)
	first, err := u.next(ctx)
	if err != nil {
		return err
	}
	if err := first.Settle(ctx, nil); err != nil {
		return err
	}
	second, err := u.next(ctx)
	if err != nil {
		return err
	}
	if !bytes.Equal(first.Alert.Raw, docs[0]) {
		return fmt.Errorf("the first delivery turned into %.60q when the second one came", first.Alert.Raw)
	}
	if err := second.Settle(ctx, nil); err != nil {
		return err
	}
	return sent()
}

// checkParallel receives on one goroutine and settles on many, as a pipeline does.
func checkParallel(ctx context.Context, u *SourceUnderTest) error {
	docs := u.documents(50)
	sent := u.sending(ctx, docs)
	var wg sync.WaitGroup
	errs := make([]error, len(docs))
	for i := range docs {
		d, err := u.next(ctx)
		if err != nil {
			wg.Wait()
			return fmt.Errorf("document %d: %w", i, err)
		}
		wg.Go(func() { errs[i] = d.Settle(ctx, nil) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	if err := sent(); err != nil {
		return err
	}
	return u.nothing(ctx)
}

func checkSettleEnded(ctx context.Context, u *SourceUnderTest) error {
	docs := u.documents(1)
	sent := u.sending(ctx, docs)
	d, err := u.next(ctx)
	if err != nil {
		return err
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	begin := time.Now()
	// Whether it still gets through is the source's choice; that it does not hang is not.
	settleErr := d.Settle(ended, nil)
	if took := time.Since(begin); took > sourcePrompt {
		return fmt.Errorf("settle under an ended context took %s", took)
	}
	if settleErr != nil {
		return nil //nolint:nilerr // see above
	}
	return sent()
}

func checkBad(ctx context.Context, u *SourceUnderTest) error {
	docs := u.documents(2)
	sent := u.sending(ctx, docs)
	d, err := u.next(ctx)
	if err != nil {
		return err
	}
	if err := d.Settle(ctx, fmt.Errorf("no level: %w", bridge.ErrBadAlert)); err != nil {
		return fmt.Errorf("settle as bad: %w", err)
	}
	if d, err = u.next(ctx); err != nil {
		return fmt.Errorf("after a bad alert: %w", err)
	}
	if !bytes.Equal(d.Alert.Raw, docs[1]) {
		return fmt.Errorf("after a bad alert came %.60q, want %.60q", d.Alert.Raw, docs[1])
	}
	if err := d.Settle(ctx, nil); err != nil {
		return err
	}
	_ = sent() // a transport that answers its sender may well refuse a bad alert
	if err := u.nothing(ctx); err != nil {
		return err
	}
	if u.DeadLetters == nil {
		return nil
	}
	return u.hasDeadLetter(ctx, docs[0])
}

// hasDeadLetter waits for the letter, because it may be written behind the caller.
func (u *SourceUnderTest) hasDeadLetter(ctx context.Context, doc []byte) error {
	ctx, cancel := context.WithTimeout(ctx, u.patience())
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		letters, err := u.DeadLetters(ctx)
		if err != nil {
			return fmt.Errorf("read dead letters: %w", err)
		}
		if len(letters) == 1 && bytes.Equal(letters[0], doc) {
			return nil
		}
		if len(letters) > 1 {
			return fmt.Errorf("%d dead letters, want 1", len(letters))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the bad alert %.60q is not among the dead letters", doc)
		}
	}
}
