package store_test

import (
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/store"
)

func TestReleasedHostIsIsolatedAgainInsideTheWindowOfTheFirstIsolation(t *testing.T) {
	t.Parallel()
	st, err := store.Open(t.Context(), store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	admit := func(id, dedupe string, action int, actor string) bridge.Order {
		t.Helper()
		o := bridge.Order{
			ID: id, Host: "WS-014", Task: bridge.IsolateHost{Action: action}, State: bridge.StateSending, Executor: bridge.ExecutorKSC,
			Dedupe: dedupe, Window: 15 * time.Minute, For: time.Hour, Actor: actor,
		}
		if actor == "" {
			o.Rule = "isolate"
		}
		out, err := st.Admit(t.Context(), bridge.Admission{Orders: []bridge.Order{o}})
		if err != nil {
			t.Fatal(err)
		}
		return out[0].Order
	}
	first := admit("o1", "k1", bridge.IsolationOn, "")
	if first.State != bridge.StateSending {
		t.Fatalf("first isolation is %s", first.State)
	}
	first.State = bridge.StateAccepted
	if _, err := st.Move(t.Context(), first, bridge.StateSending); err != nil {
		t.Fatal(err)
	}
	if o := admit("o2", "k1", bridge.IsolationOn, ""); o.State != bridge.StateDuplicate || o.Reason != bridge.ReasonLease {
		t.Fatalf("second isolation is %s/%s, want duplicate/lease", o.State, o.Reason)
	}
	release := admit("o3", "", bridge.IsolationOff, "cli:ann")
	release.State = bridge.StateAccepted
	if _, err := st.Move(t.Context(), release, bridge.StateSending); err != nil {
		t.Fatal(err)
	}
	if o := admit("o4", "k1", bridge.IsolationOn, ""); o.State != bridge.StateSending {
		t.Errorf("isolation after the release is %s/%s covered by %q, want sending", o.State, o.Reason, o.Covers)
	}
}
