package bridge_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestOrderGoesToTheExecutorThatMayHaveIt(t *testing.T) {
	t.Parallel()
	ksc, local := &script{}, &script{}
	self := bridge.Identity{Names: []string{"here"}}
	kill, block := bridge.TerminateProcess{Path: "/opt/lab/x"}, bridge.BlockAddress{Address: "203.0.113.7"}
	for name, tc := range map[string]struct {
		router bridge.Router
		order  bridge.Order
		want   string
		reason bridge.Reason
	}{
		"KSC where there is one":             {bridge.Router{KSC: ksc, Local: local}, bridge.Order{Host: "here", Task: kill}, "ksc", ""},
		"what KSC does not know stays local": {bridge.Router{KSC: ksc, Local: local}, bridge.Order{Host: "here", Task: block}, "local", ""},
		"and only on this machine":           {bridge.Router{KSC: ksc, Local: local}, bridge.Order{Host: "ws-1", Task: block}, "", bridge.ReasonOtherHost},
		"and only with the agent":            {bridge.Router{KSC: ksc}, bridge.Order{Host: "here", Task: block}, "", bridge.ReasonNoExecutor},
		"local when asked for":               {bridge.Router{KSC: ksc, Local: local}, bridge.Order{Host: "here", Task: kill, Via: bridge.ViaLocal}, "local", ""},
		"never local for another machine":    {bridge.Router{Local: local}, bridge.Order{Host: "ws-1", Task: kill}, "", bridge.ReasonOtherHost},
		"without KSC, local":                 {bridge.Router{Local: local}, bridge.Order{Host: "here", Task: kill}, "local", ""},
		"KSC asked for and not there":        {bridge.Router{Local: local}, bridge.Order{Host: "here", Task: kill, Via: bridge.ViaKSC}, "", bridge.ReasonNoExecutor},
		"nobody":                             {bridge.Router{}, bridge.Order{Host: "here", Task: kill}, "", bridge.ReasonNoExecutor},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.router.Self = self
			got, v := tc.router.Choose(tc.order)
			if got != tc.want || v.Reason != tc.reason {
				t.Errorf("got %q, %+v; want %q and reason %q", got, v, tc.want, tc.reason)
			}
		})
	}
}

// oneProcess resolves every pid to the same process, or fails.
type oneProcess struct {
	process bridge.Process
	err     error
}

func (p oneProcess) ResolveProcess(_ context.Context, asked bridge.Process, digests bool) (bridge.Process, error) {
	out := p.process
	out.PID = asked.PID
	if !digests {
		out.MD5, out.SHA256 = "", ""
	}
	return out, p.err
}

func TestPIDIsReplacedByTheProcessBehindIt(t *testing.T) {
	t.Parallel()
	known := bridge.Process{Start: 77, Started: noon.Add(-time.Hour), Path: "/opt/lab/x", MD5: "0123456789abcdef0123456789abcdef", SHA256: "s"}
	young := known
	young.Started = noon.Add(time.Minute)
	gone := &bridge.ExecError{Executor: "local", Class: bridge.Permanent, Reason: bridge.ReasonProcessGone, Err: errors.New("no such process")}
	for name, tc := range map[string]struct {
		executor string
		process  oneProcess
		want     bridge.Task
		reason   bridge.Reason
	}{
		"for KSC the image names it":         {bridge.ExecutorKSC, oneProcess{process: known}, bridge.TerminateProcess{Path: known.Path, MD5: known.MD5, SHA256: known.SHA256}, ""},
		"for the agent start and path do":    {bridge.ExecutorLocal, oneProcess{process: known}, bridge.TerminateProcess{}, ""},
		"started after the alert":            {bridge.ExecutorLocal, oneProcess{process: young}, bridge.TerminateProcess{}, bridge.ReasonProcessChanged},
		"gone by now":                        {bridge.ExecutorLocal, oneProcess{err: gone}, bridge.TerminateProcess{}, bridge.ReasonProcessGone},
		"an error without a word is refusal": {bridge.ExecutorKSC, oneProcess{err: errors.New("proc is unreadable")}, bridge.TerminateProcess{}, bridge.ReasonInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := bridge.Router{Self: bridge.Identity{Names: []string{"here"}}, Processes: tc.process}
			o := bridge.Order{Host: "here", Task: bridge.TerminateProcess{}, Subject: bridge.Process{PID: 4711}, Executor: tc.executor, AlertTime: noon}
			got, v := r.Identify(t.Context(), o)
			if v.Reason != tc.reason || (v.State == bridge.StateRefused) != (tc.reason != "") {
				t.Fatalf("got %+v, want reason %q", v, tc.reason)
			}
			if diff := cmp.Diff(tc.want, got.Task); diff != "" {
				t.Errorf("task (-want +got):\n%s", diff)
			}
			if tc.reason == "" && (got.Subject.Start != known.Start || got.Subject.Path != known.Path) {
				t.Errorf("subject %+v lacks start or image", got.Subject)
			}
		})
	}
}
