package ksc_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/ksc"
	"github.com/edr-bridge/edr-bridge/ksc/ksctest"
)

func TestReconcileAdoptsOnlyTheEqualIncident(t *testing.T) {
	t.Parallel()
	o := isolate(t, 0)
	spaced := strings.NewReplacer(`":`, `": `, `,"`, `, "`).Replace(o.Intent.Body)
	add := func(t *testing.T, c *ksc.Client, second int, body, host string) int64 {
		t.Helper()
		id, err := c.AddIncident(t.Context(), ksc.NewIncident{Severity: 2, Added: ksc.DateTime{Time: start.Add(time.Duration(second) * time.Second)}, Body: body, Host: host})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	for name, c := range map[string]struct {
		second     int
		body, host string
		found      bool
	}{
		"same":           {0, o.Intent.Body, hostA, true},
		"spaced body":    {0, spaced, hostA, true},
		"other host":     {0, o.Intent.Body, hostB, false},
		"a second later": {1, o.Intent.Body, hostA, false},
		"a second ago":   {-1, o.Intent.Body, hostA, false},
		"other task":     {0, strings.Replace(o.Intent.Body, `"action":1`, `"action":0`, 1), hostA, false},
		"by a person":    {0, "printer is on fire", hostA, false},
		"further key":    {0, strings.Replace(o.Intent.Body, `{"t`, `{"x":1,"t`, 1), hostA, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startMock(t)
			client := newClient(t, s)
			id := add(t, client, c.second, c.body, c.host)
			r, found, err := newExecutor(t, client).Reconcile(t.Context(), o)
			if err != nil || found != c.found {
				t.Fatalf("found %v, %v", found, err)
			}
			if found && (r.Ref != strconv.FormatInt(id, 10) || r.State != bridge.StateAccepted || s.Requests()["HostGroup.UpdateIncident"] != 1) {
				t.Errorf("%+v", r)
			}
		})
	}
	t.Run("clipped body", func(t *testing.T) {
		t.Parallel()
		s := startMock(t)
		client := newClient(t, s)
		add(t, client, 0, o.Intent.Body[:60], hostA)
		_, _, err := newExecutor(t, client).Reconcile(t.Context(), o)
		wantClass(t, err, bridge.Unknown)
	})
	t.Run("several", func(t *testing.T) {
		t.Parallel()
		s := startMock(t)
		client := newClient(t, s)
		first := add(t, client, 0, o.Intent.Body, hostA)
		for range 120 { // more than a page
			add(t, client, 0, o.Intent.Body, hostA)
		}
		r, found, err := newExecutor(t, client).Reconcile(t.Context(), o)
		if err != nil || !found || r.Ref != strconv.FormatInt(first, 10) || !strings.Contains(r.Detail, "duplicates") {
			t.Fatalf("%+v, %v, %v", r, found, err)
		}
	})
}

func TestSearchIsRepeatedWhenTheSessionTookTheResultSetAlong(t *testing.T) {
	t.Parallel()
	s := startMock(t)
	e := newExecutor(t, newClient(t, s))
	addFault(t, s, ksctest.Fault{Kind: ksctest.FaultExpire, Method: "ChunkAccessor.GetItemsChunk", Count: 1})
	m, err := e.Resolve(t.Context(), "ws-01")
	if err != nil || len(m) != 1 {
		t.Fatalf("%v, %v", m, err)
	}
}

func TestResultSetIsReleasedWhenTheCallerIsGone(t *testing.T) {
	t.Parallel()
	s := startMock(t)
	c := newClient(t, s)
	if err := c.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	addFault(t, s, ksctest.Fault{Kind: ksctest.FaultSlow, Method: "ChunkAccessor.GetItemsCount", Delay: 10 * time.Second})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := newExecutor(t, c).Resolve(ctx, "ws-01"); err == nil {
		t.Fatal("no error")
	}
	if n := s.OpenAccessors(); n != 0 {
		t.Errorf("%d result sets were left behind", n)
	}
}
