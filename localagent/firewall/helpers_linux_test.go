package firewall

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// wish is a block somebody asks for.
type wish struct {
	task bridge.BlockAddress
	d    time.Duration
}

func blockOrder(address string, d time.Duration) wish {
	return wish{bridge.BlockAddress{Address: address}, d}
}

func newWall(t testing.TB, change ...func(*Config)) *Firewall {
	t.Helper()
	var cfg Config
	for _, f := range change {
		f(&cfg)
	}
	w, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func block(ctx context.Context, w *Firewall, o wish) (bridge.Receipt, error) {
	return w.Block(ctx, o.task, o.d)
}

// done blocks and wants it done with a detail that holds text.
func done(t *testing.T, w *Firewall, o wish, text string) {
	t.Helper()
	r, err := block(t.Context(), w, o)
	if err != nil {
		t.Fatalf("block: %v", err)
	}
	if r.State != bridge.StateDone || !strings.Contains(r.Detail, text) {
		t.Fatalf("receipt = %q %q, want done with %q", r.State, r.Detail, text)
	}
}

// wantError checks class, reason and a part of the text of an error.
func wantError(t *testing.T, err error, class bridge.Class, reason bridge.Reason, text string) {
	t.Helper()
	v, ok := errors.AsType[*verdict.Error](err)
	if !ok {
		t.Fatalf("error = %v (%T), want *verdict.Error", err, err)
	}
	if v.Class != class || v.Reason != reason || !strings.Contains(v.Error(), text) {
		t.Fatalf("error = class %v, reason %q, %q; want class %v, reason %q, text with %q", v.Class, v.Reason, v, class, reason, text)
	}
}
