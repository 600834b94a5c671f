package localagent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestFollowTellsOfOrdersBesideOneThatCannotBeRead(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	dir := filepath.Join(a.cfg.State, dirJobs)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	leave := func(id, text string) bridge.Order {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, id+".json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return bridge.Order{ID: id}
	}
	orders := []bridge.Order{{ID: "nobody-knows"}}
	for i := range maxFollowErrors + 2 {
		orders = append(orders, leave(fmt.Sprintf("bad%d", i), "{"))
	}
	orders = append(orders, leave("good", `{"version":1,"id":"good","kind":"iocScan","state":"done","detail":"found nothing"}`))
	told, err := a.Follow(t.Context(), orders)
	if len(told) != 1 || told[0] != (bridge.Progress{OrderID: "good", State: bridge.StateDone, Detail: "found nothing"}) {
		t.Errorf("told %+v, want the order that can be read", told)
	}
	ee, ok := errors.AsType[*bridge.ExecError](err)
	if !ok || ee.Class != bridge.Retry || ee.Executor != bridge.ExecutorLocal {
		t.Fatalf("got %v, want a retry", err)
	}
	for _, want := range []string{"bad0", "bad7", "2 orders more"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in the error: %v", want, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if told, err := a.Follow(ctx, orders); len(told) != 0 || bridge.ClassOf(err) != bridge.Retry || !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: told %v, %v", told, err)
	}
}
