package bridgetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func (u *SourceUnderTest) patience() time.Duration {
	if u.Patience > 0 {
		return u.Patience
	}
	return sourcePatience
}

func (u *SourceUnderTest) quiet() time.Duration {
	if u.Quiet > 0 {
		return u.Quiet
	}
	return sourceQuiet
}

func (u *SourceUnderTest) documents(n int) [][]byte {
	if u.Documents != nil {
		return u.Documents(n)
	}
	docs := make([][]byte, 0, n)
	for i := range n {
		docs = append(docs, fmt.Appendf(nil, `{"n":%d,"text":"é \"quoted\" <&> \u0000"}`, i))
	}
	return docs
}

// sending sends the documents one after another behind the caller, since Send may block until a delivery is
// settled. The function it returns waits for the end and gives the errors.
func (u *SourceUnderTest) sending(ctx context.Context, docs [][]byte) func() error {
	done := make(chan error, 1)
	go func() {
		var errs []error
		for i, doc := range docs {
			if err := u.Send(ctx, doc); err != nil {
				errs = append(errs, fmt.Errorf("send document %d: %w", i, err))
			}
		}
		done <- errors.Join(errs...)
	}()
	return func() error {
		select {
		case err := <-done:
			return err
		case <-time.After(u.patience()):
			return errors.New("sending did not end although every delivery is settled")
		}
	}
}

// next is Receive with the suite's patience; it calls again after ErrNotConnected, as the pipeline does.
func (u *SourceUnderTest) next(ctx context.Context) (bridge.Delivery, error) {
	ctx, cancel := context.WithTimeout(ctx, u.patience())
	defer cancel()
	d, err := u.receive(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		return d, fmt.Errorf("nothing delivered within %s", u.patience())
	case err != nil:
		return d, fmt.Errorf("receive: %w", err)
	case d.Settle == nil:
		return d, errors.New("the delivery cannot be settled: Settle is nil")
	default:
		return d, nil
	}
}

func (u *SourceUnderTest) receive(ctx context.Context) (bridge.Delivery, error) {
	for {
		d, err := u.call(ctx)
		if !errors.Is(err, bridge.ErrNotConnected) {
			return d, err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return d, context.Cause(ctx)
		}
	}
}

// call is one Receive that cannot hang the suite: a source that does not come back after its context has ended is
// left behind.
func (u *SourceUnderTest) call(ctx context.Context) (bridge.Delivery, error) {
	type answer struct {
		d   bridge.Delivery
		err error
	}
	c := make(chan answer, 1)
	go func() {
		d, err := u.Source.Receive(ctx)
		c <- answer{d, err}
	}()
	select {
	case a := <-c:
		return a.d, a.err
	case <-ctx.Done():
	}
	select {
	case a := <-c:
		return a.d, a.err
	case <-time.After(u.patience()):
		return bridge.Delivery{}, fmt.Errorf("receive went on for %s after its context had ended", u.patience())
	}
}

// nothing listens for a while and reports what should not have come.
func (u *SourceUnderTest) nothing(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, u.quiet())
	defer cancel()
	d, err := u.receive(ctx)
	switch {
	case err == nil:
		return fmt.Errorf("%.60q was delivered again", d.Alert.Raw)
	case ctx.Err() != nil:
		return nil
	default:
		return fmt.Errorf("receive: %w", err)
	}
}

// orNil makes a missing error printable by %w.
func orNil(err error) error {
	if err == nil {
		return errors.New("nil")
	}
	return err
}
