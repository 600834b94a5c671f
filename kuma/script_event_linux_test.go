package kuma

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/kuma/callout"
)

// TestAnEventThatCannotBeFetchedHoldsNobodyUp lets the fetching of two calls hang and expects a third one at once.
func TestAnEventThatCannotBeFetchedHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	dir := newSpool(t)
	withEvent := func(n int, age time.Duration) callout.Call {
		c := newCall(n)
		c.EventID, c.Timestamp, c.Host, c.At = scriptEventID, 1732104000123, "", time.Now().Add(-age).UTC()
		return c
	}
	for n := range 6 {
		mustSpool(t, dir, withEvent(n, time.Second))
	}
	mustSpool(t, dir, newCall(50))
	release := make(chan struct{})
	var tries atomic.Int64
	s := runScript(t, newScript(t, func(c *ScriptConfig) {
		c.Spool, c.Fetchers = dir, 2
		c.Event = func(ctx context.Context, id string, ms int64) (json.RawMessage, error) {
			if id != scriptEventID || ms != 1732104000123 {
				t.Errorf("asked for %s, %d", id, ms)
			}
			tries.Add(1)
			select {
			case <-release:
				return json.RawMessage(`{"ID":"` + scriptEventID + `","DeviceHostName":"ws-9 & <x>"}`), nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}))
	d := scriptNext(t, s)
	if d.Alert.ID != "k00000050" {
		t.Fatalf("got %s first", d.Alert.ID)
	}
	if err := d.Settle(t.Context(), nil); err != nil {
		t.Error(err)
	}
	for begin := time.Now(); tries.Load() < 2 && time.Since(begin) < 10*time.Second; {
		time.Sleep(time.Millisecond)
	}
	scriptNothing(t, s, 100*time.Millisecond)
	if got := tries.Load(); got != 2 {
		t.Errorf("%d events are being fetched, want 2", got)
	}
	close(release)
	for range 6 {
		d := scriptNext(t, s)
		call, err := callout.DecodeCall(d.Alert.Raw)
		if err != nil || !bytes.Contains(call.Event, []byte("ws-9 & <x>")) {
			t.Errorf("%s: %v", d.Alert.Raw, err)
		}
		if err := d.Settle(t.Context(), nil); err != nil {
			t.Error(err)
		}
	}
	scriptNothing(t, s, 300*time.Millisecond)
}

func TestACallTooOldForItsEventGoesOnWithoutIt(t *testing.T) {
	t.Parallel()
	dir := newSpool(t)
	call := newCall(1)
	call.EventID, call.Timestamp, call.Host, call.At = scriptEventID, 1732104000123, "", time.Now().UTC()
	mustSpool(t, dir, call)
	var tries atomic.Int64
	answers := []string{"", `[]`, `{"a":1`, `"x"`, `{"a":1,"a":2}`, strings.Repeat(" ", scriptMaxFetched) + `{}`}
	s := runScript(t, newScript(t, func(c *ScriptConfig) {
		c.Spool, c.EventAge = dir, time.Second
		c.Event = func(context.Context, string, int64) (json.RawMessage, error) {
			n := int(tries.Add(1)) - 1
			if answer := answers[n%len(answers)]; answer != "" {
				return json.RawMessage(answer), nil
			}
			return nil, errors.New("KUMA does not answer")
		}
	}))
	d := scriptNext(t, s)
	got, err := callout.DecodeCall(d.Alert.Raw)
	if err != nil || got.Event != nil || tries.Load() < 2 {
		t.Errorf("%s after %d tries: %v", d.Alert.Raw, tries.Load(), err)
	}
	if since := time.Since(call.At); since < time.Second {
		t.Errorf("given up after %s", since)
	}
	// It is not asked again for a call that goes on without.
	before := tries.Load()
	if err := d.Settle(t.Context(), errors.New("the store is full")); err != nil {
		t.Error(err)
	}
	d = scriptNext(t, s)
	if err := d.Settle(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if tries.Load() != before {
		t.Error("the event was asked for again")
	}
}
