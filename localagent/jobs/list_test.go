package jobs

import (
	"os"
	"strings"
	"testing"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestSummariesLeaveResultsOut(t *testing.T) {
	t.Parallel()
	j := open(t)
	for _, id := range []string{"o1", "o2"} {
		begin(t, j, id, finds("x"))
		wait(t, j, id)
	}
	if err := os.WriteFile(j.file("bad"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	short, err := j.Summaries()
	if err == nil || !strings.Contains(err.Error(), "job bad") {
		t.Errorf("summaries: %v, want the unreadable one named", err)
	}
	full, _ := j.List()
	if len(short) != 2 || len(full) != 2 {
		t.Fatalf("%d summaries of %d records, want 2 of 2", len(short), len(full))
	}
	for i, r := range short {
		if r.Result != nil || len(full[i].Result) == 0 {
			t.Errorf("summary holds %d bytes of %d", len(r.Result), len(full[i].Result))
		}
		if r.ID != full[i].ID || r.State != bridge.StateDone || r.Detail != "found it" || r.Ended.IsZero() {
			t.Errorf("summary %+v of %+v", r, full[i])
		}
	}
	if r, err := j.Of("o1"); err != nil || len(r.Result) == 0 {
		t.Errorf("of = %+v, %v: the result is gone", r, err)
	}
}
