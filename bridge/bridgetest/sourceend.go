package bridgetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func checkClosed(ctx context.Context, u *SourceUnderTest) error {
	docs := u.documents(2)
	sent := u.sending(ctx, docs[:1])
	d, err := u.next(ctx)
	if err != nil {
		return err
	}
	if err := d.Settle(ctx, nil); err != nil {
		return err
	}
	if err := sent(); err != nil {
		return err
	}
	closing, cancel := context.WithTimeout(ctx, u.patience())
	defer cancel()
	if err := u.Close(closing); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	late, stop := context.WithTimeout(ctx, u.quiet())
	defer stop()
	_ = u.sending(late, docs[1:])() // nobody may be there to take it
	for range 3 {
		begin := time.Now()
		_, err = u.receive(ctx)
		if !errors.Is(err, bridge.ErrClosed) {
			return fmt.Errorf("receive after the end answers %w, want ErrClosed", orNil(err))
		}
		if took := time.Since(begin); took > sourcePrompt {
			return fmt.Errorf("receive after the end took %s", took)
		}
	}
	return nil
}

func checkRedelivery(ctx context.Context, u *SourceUnderTest) error {
	docs := u.documents(3)
	sent := u.sending(ctx, docs)
	passing := errors.New("the store is full")
	for range docs {
		d, err := u.next(ctx)
		if err != nil {
			return err
		}
		if err := d.Settle(ctx, passing); err != nil {
			return fmt.Errorf("settle with an error: %w", err)
		}
	}
	_ = sent()
	left := make(map[string]bool, len(docs))
	for _, doc := range docs {
		left[string(doc)] = true
	}
	for len(left) > 0 {
		d, err := u.next(ctx)
		if err != nil {
			return fmt.Errorf("%d of %d documents settled with an error do not come again: %w", len(left), len(docs), err)
		}
		if !left[string(d.Alert.Raw)] {
			return fmt.Errorf("%.60q came again after it was settled, or was never sent", d.Alert.Raw)
		}
		delete(left, string(d.Alert.Raw))
		if err := d.Settle(ctx, nil); err != nil {
			return err
		}
	}
	return u.nothing(ctx)
}

// testRestart settles the first of two documents and ends the source with the second one in hand.
func testRestart(t *testing.T, u *SourceUnderTest) {
	t.Helper()
	ctx := t.Context()
	docs := u.documents(2)
	_ = u.sending(ctx, docs)
	first, err := u.next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	second, err := u.next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Settle(ctx, nil); err != nil {
		t.Fatalf("settle: %v", err)
	}
	closing, cancel := context.WithTimeout(ctx, u.patience())
	defer cancel()
	if err := u.Close(closing); err != nil {
		t.Fatalf("close: %v", err)
	}
	_ = second.Settle(ctx, errors.New("the bridge stops")) // too late, and must not hang
	next := u.Reopen(t)
	d, err := next.next(ctx)
	if err != nil {
		t.Fatalf("after a restart: %v", err)
	}
	if !bytes.Equal(d.Alert.Raw, docs[1]) {
		t.Fatalf("after a restart came %.60q, want %.60q", d.Alert.Raw, docs[1])
	}
	if err := d.Settle(ctx, nil); err != nil {
		t.Fatalf("settle after a restart: %v", err)
	}
	if err := next.nothing(ctx); err != nil {
		t.Error(err)
	}
}
