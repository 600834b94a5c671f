package localagent

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
	"github.com/edr-bridge/edr-bridge/localagent/jobs"
)

func TestAProgramDoesNotBeginBeforeItsJobIsOnDisk(t *testing.T) {
	t.Parallel()
	a := newAgent(t, func(c *Config) { c.Resident = true })
	mark := filepath.Join(t.TempDir(), "mark")
	o := order(bridge.StartProcess{ExecutablePath: script(t, `: > "$1"`), Arguments: mark})
	blocked := filepath.Join(a.cfg.State, dirJobs)
	write(t, blocked, "the disk takes nothing")
	_, err := a.Execute(t.Context(), o)
	wantError(t, err, bridge.Permanent, bridge.ReasonNone, "folder of jobs")
	if _, err := a.start.Found(o.ID); err == nil || unix.Access(mark, unix.F_OK) == nil {
		t.Error("it was started although nobody will wait for it")
	}
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	if r, err := a.Execute(t.Context(), o); err != nil || r.State != bridge.StateAccepted {
		t.Fatalf("receipt = %+v, %v", r, err)
	}
	agenttest.Eventually(t, "it is done", func() bool { r, err := a.jobs.Of(o.ID); return err == nil && r.State == bridge.StateDone })
}

func TestAProgramThatIsRefusedLeavesNoJob(t *testing.T) {
	t.Parallel()
	a := newAgent(t, func(c *Config) { c.Resident = true })
	o := order(bridge.StartProcess{ExecutablePath: "/no/such/program"})
	for range 2 {
		_, err := a.Execute(t.Context(), o)
		wantError(t, err, bridge.Permanent, bridge.ReasonNone, "there is no such file")
	}
	if told, err := a.Follow(t.Context(), []bridge.Order{o}); err != nil || len(told) != 0 {
		t.Errorf("told %+v, %v", told, err)
	}
}

func TestAnAgentThatEndedBeforeItStartedAProgramDoesNotHoldTheOrderUp(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	o := order(bridge.StartProcess{ExecutablePath: script(t, "exit 3")})
	// What an agent leaves behind that is killed between the record of the job and that of the program.
	if err := os.Mkdir(filepath.Join(state, dirJobs), 0o700); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(state, dirJobs, o.ID+".json")
	write(t, left, `{"version":1,"id":"`+o.ID+`","kind":"startProcess","state":"running","begun":"`+time.Now().UTC().Format(time.RFC3339)+`"}`)
	a := newAgent(t, func(c *Config) { c.State = state })
	if err := a.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	agenttest.Eventually(t, "the job is forgotten", func() bool { _, err := a.jobs.Of(o.ID); return errors.Is(err, jobs.ErrUnknown) })
	if r, err := a.Execute(t.Context(), o); err != nil || r.State != bridge.StateDone {
		t.Errorf("receipt = %+v, %v", r, err)
	}
}
