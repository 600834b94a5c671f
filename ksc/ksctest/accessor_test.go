package ksctest

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestResultSetDiesWithItsLifetimeItsSessionOrRelease(t *testing.T) {
	t.Parallel()
	clk := newClock()
	cfg := testConfig()
	cfg.Now = clk.now
	s := startServer(t, cfg)
	c := newSession(t, s)
	c.add(hostA, noon, "{}")
	find := func(c *client, seconds int) string {
		t.Helper()
		return c.call("HostGroup.FindIncidents", fmt.Sprintf(`{"strFilter":"","pFieldsToReturn":["KLINCDT_ID"],"lMaxLifeTime":%d}`, seconds)).str(t, "strAccessor")
	}
	count := func(accessor string) string { return `{"strAccessor":"` + accessor + `"}` }

	aging := find(c, 100)
	for range 3 { // each access renews the life
		clk.add(90 * time.Second)
		c.call("ChunkAccessor.GetItemsCount", count(aging))
	}
	clk.add(101 * time.Second)
	if code := c.refused("ChunkAccessor.GetItemsCount", count(aging)); code != codeNotFound {
		t.Errorf("expired: code %d", code)
	}

	released := find(c, 100)
	c.call("ChunkAccessor.Release", count(released))
	if code := c.refused("ChunkAccessor.Release", count(released)); code != codeNotFound {
		t.Errorf("released: code %d", code)
	}

	other := newSession(t, s)
	foreign := find(other, 7200)
	if code := c.refused("ChunkAccessor.GetItemsCount", count(foreign)); code != codeNotFound {
		t.Errorf("of another session: code %d", code)
	}
	other.call("Session.EndSession", "{}")
	if n := s.OpenAccessors(); n != 0 {
		t.Errorf("%d accessors outlive their session", n)
	}
	if code := c.refused("HostGroup.FindIncidents", `{"strFilter":"","pFieldsToReturn":[],"lMaxLifeTime":7201}`); code != codeBadParameter {
		t.Errorf("too long a life: code %d", code)
	}
	if code := c.refused("Tasks.GetNextTask", `{"strTaskIteratorId":"`+find(c, 100)+`"}`); code != codeNotFound {
		t.Errorf("handle of another class: code %d", code)
	}
}

func TestResultSetKeepsWhatItSaw(t *testing.T) {
	t.Parallel()
	c := newSession(t, startServer(t, testConfig()))
	c.add(hostA, noon, "before")
	r := c.call("HostGroup.FindIncidents", `{"strFilter":"","pFieldsToReturn":["KLINCDT_BODY"]}`)
	c.call("HostGroup.UpdateIncident", `{"nId":1,"pData":{"KLINCDT_BODY":"after"}}`)
	c.call("HostGroup.DeleteIncident", `{"nId":1}`)
	if items := c.chunk(r.str(t, "strAccessor")); len(items) != 1 || string(items[0]["KLINCDT_BODY"]) != `"before"` {
		t.Errorf("items %s", items)
	}
}

func TestChunksAreClamped(t *testing.T) {
	t.Parallel()
	c := newSession(t, startServer(t, testConfig()))
	for range 5 {
		c.add(hostA, noon, "{}")
	}
	accessor := c.call("HostGroup.FindIncidents", `{"strFilter":"","pFieldsToReturn":["KLINCDT_ID"]}`).str(t, "strAccessor")
	for _, test := range []struct {
		start, count int
		want         []int
	}{
		{0, 2, []int{1, 2}}, {3, 200, []int{4, 5}}, {5, 1, []int{}}, {99, 1, []int{}}, {0, 0, []int{}}, {0, 2147483647, []int{1, 2, 3, 4, 5}},
	} {
		r := c.call("ChunkAccessor.GetItemsChunk", fmt.Sprintf(`{"strAccessor":"%s","nStart":%d,"nCount":%d}`, accessor, test.start, test.count))
		got := ids(t, itemsOf(t, r, "pChunk", "KLCSP_ITERATOR_ARRAY"), "KLINCDT_ID")
		if !slices.Equal(got, test.want) || r.num(t, "PxgRetVal") != len(test.want) {
			t.Errorf("%+v: got %v", test, got)
		}
	}
	if code := c.refused("ChunkAccessor.GetItemsChunk", `{"strAccessor":"`+accessor+`","nStart":-1,"nCount":1}`); code != codeBadParameter {
		t.Errorf("code %d", code)
	}
}

func TestOrderTakesWrappedAndBareElementsAndRefusesThreeFields(t *testing.T) {
	t.Parallel()
	c := newSession(t, startServer(t, testConfig()))
	for i, second := range []int{3, 1, 2} {
		c.call("HostGroup.AddIncident", fmt.Sprintf(`{"pData":{"KLINCDT_SEVERITY":%d,"KLINCDT_ADDED":{"type":"datetime","value":"2026-11-20T17:06:0%dZ"},"KLINCDT_BODY":"","KLHST_WKS_HOSTNAME":"%s"}}`, 1+i/2, second, hostA))
	}
	for order, want := range map[string][]int{
		`[]`: {1, 2, 3},
		`[{"type":"params","value":{"Name":"KLINCDT_ADDED","Asc":true}}]`:         {2, 3, 1},
		`[{"Name":"KLINCDT_ADDED","Asc":false}]`:                                  {1, 3, 2},
		`[{"Name":"KLINCDT_SEVERITY","Asc":false},{"Name":"KLINCDT_ID","Asc":1}]`: nil,
		`[{"Name":"KLINCDT_SEVERITY","Asc":false},{"Name":"KLINCDT_ID"}]`:         {3, 2, 1},
		`[{"Name":"KLINCDT_BODY","Asc":true}]`:                                    nil,
		`[{"Name":"KLHST_WKS_HOSTNAME","Asc":true}]`:                              nil,
		`[{"Name":"GNRL_EXTRA_PARAMS","Asc":true}]`:                               nil,
		`[{"Name":"NOTHING","Asc":true}]`:                                         nil,
		`["KLINCDT_ID"]`:                                                          nil,
		`{}`:                                                                      nil,
	} {
		args := `{"strFilter":"","pFieldsToReturn":["KLINCDT_ID"],"pFieldsToOrder":` + order + `}`
		if want == nil {
			if code := c.refused("HostGroup.FindIncidents", args); code != codeBadParameter {
				t.Errorf("%s: code %d", order, code)
			}
			continue
		}
		got := ids(t, c.chunk(c.call("HostGroup.FindIncidents", args).str(t, "strAccessor")), "KLINCDT_ID")
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", order, got, want)
		}
	}
	if code := c.refused("HostGroup.FindIncidents", `{"strFilter":"","pFieldsToReturn":["KLINCDT_NOTHING"]}`); code != codeBadParameter {
		t.Errorf("unknown field: code %d", code)
	}
}

func TestNumberOfResultSetsIsBounded(t *testing.T) {
	t.Parallel()
	table, owner, now := newAccessorTable(), &session{}, time.Now()
	for range maxAccessors {
		if _, err := table.open(&accessor{owner: owner, lifetime: time.Minute}, now); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := table.open(&accessor{owner: owner}, now); err == nil {
		t.Error("one too many was taken")
	}
	if _, err := table.open(&accessor{owner: owner}, now.Add(2*time.Minute)); err != nil || table.size() != 1 {
		t.Errorf("expired ones must give way: %v, %d", err, table.size())
	}
	if n := owner.open.Load(); n != 1 {
		t.Errorf("the owner counts %d", n)
	}
}
