package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/edr-bridge/edr-bridge/localagent"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/jobs"
	"github.com/edr-bridge/edr-bridge/localagent/socket"
	"github.com/edr-bridge/edr-bridge/peersocket"
)

// What people ask an agent. The answers have the form of their Go types.
const (
	askStatus     = "status"
	askBlocks     = "blocks"
	askUnblock    = "unblock"
	askRules      = "rules"
	askRemoveRule = "remove-rule"
	askStop       = "stop-prevention"
	askResume     = "resume-prevention"
	askJobs       = "jobs"
	askJob        = "job"
	askCancelJob  = "cancel-job"
	askRelease    = "release"
	askKeep       = "keep-isolated"
	askAlive      = "alive"
)

// agentAsks answers on the agent's side. The same functions answer where no agent runs, on what it left behind.
func agentAsks(agent *localagent.Agent) map[string]socket.Ask {
	return map[string]socket.Ask{
		askAlive:  func(context.Context, json.RawMessage) (any, error) { return nil, nil },
		askStatus: func(ctx context.Context, _ json.RawMessage) (any, error) { return agent.Status(ctx), nil },
		askBlocks: func(ctx context.Context, _ json.RawMessage) (any, error) { return agent.Blocked(ctx) },
		askRules:  func(ctx context.Context, _ json.RawMessage) (any, error) { return agent.Rules(ctx) },
		askJobs: func(context.Context, json.RawMessage) (any, error) {
			list, err := agent.Jobs()
			answer := jobsAnswer{Jobs: list}
			if err != nil {
				answer.Trouble = err.Error() // the others are there all the same
			}
			return answer, nil
		},
		askJob: func(_ context.Context, params json.RawMessage) (any, error) {
			var id string
			if err := json.Unmarshal(params, &id); err != nil {
				return nil, errors.New("params: want the id of an order")
			}
			r, err := agent.Job(id)
			if errors.Is(err, jobs.ErrUnknown) {
				return jobAnswer{}, nil
			}
			return jobAnswer{Known: true, Job: r}, err
		},
		askStop:   func(context.Context, json.RawMessage) (any, error) { return nil, agent.StopPrevention() },
		askResume: func(ctx context.Context, _ json.RawMessage) (any, error) { return nil, agent.ResumePrevention(ctx) },
		askKeep: func(ctx context.Context, params json.RawMessage) (any, error) {
			var until time.Time
			if err := json.Unmarshal(params, &until); err != nil {
				return nil, errors.New("params: want a time")
			}
			return agent.KeepIsolated(ctx, until)
		},
		askRelease: func(ctx context.Context, _ json.RawMessage) (any, error) {
			return agent.Release(ctx)
		},
		askUnblock:    named(func(ctx context.Context, address string) error { return agent.Unblock(ctx, address) }),
		askRemoveRule: named(func(ctx context.Context, id string) error { return agent.RemoveRule(ctx, id) }),
		askCancelJob:  named(func(_ context.Context, id string) error { return agent.CancelJob(id) }),
	}
}

// jobsAnswer is what is known of the jobs.
type jobsAnswer struct {
	Jobs []jobs.Record `json:"jobs"`
	// Trouble says which records could not be read.
	Trouble string `json:"trouble,omitempty"`
}

// jobAnswer is one job with its result.
type jobAnswer struct {
	Known bool        `json:"known"`
	Job   jobs.Record `json:"job"`
}

// named answers what is about one thing with a name.
func named(do func(ctx context.Context, name string) error) socket.Ask {
	return func(ctx context.Context, params json.RawMessage) (any, error) {
		var name string
		if err := json.Unmarshal(params, &name); err != nil {
			return nil, errors.New("params: want a text")
		}
		return nil, do(ctx, name)
	}
}

// askAgent asks the agent that runs, and where none does, what it left behind; runs tells which. out may be nil.
func (w *wiring) askAgent(ctx context.Context, what string, params, out any) (runs bool, err error) {
	if !w.set.Local.Enabled {
		return false, fail(exitConfig, "agent.off", errNoAgent, "set local.enabled: true")
	}
	err = socket.NewClient(w.set.Local.Socket).Ask(ctx, what, params, out)
	if err == nil || !errors.Is(err, socket.ErrNoAgent) && !errors.Is(err, errors.ErrUnsupported) {
		return true, agentProblem(err)
	}
	agent, err := w.openAgent()
	if err != nil {
		return false, err
	}
	given, err := json.Marshal(params)
	if err != nil {
		return false, err
	}
	result, err := agentAsks(agent)[what](ctx, given)
	if err != nil || out == nil {
		return false, unheard(err)
	}
	b, err := json.Marshal(result)
	if err != nil {
		return false, err
	}
	return false, json.Unmarshal(b, out)
}

// unheard is agentProblem for an answer of this process: where agents have no socket, the one that runs has what this one has not.
func unheard(err error) error {
	if !peersocket.TellsPeers && (errors.Is(err, files.ErrLocked) || errors.Is(err, jobs.ErrUnknown)) {
		return fail(exitFailed, "agent.unheard", fmt.Errorf("agent: %w: nobody can ask the agent of a running service on this system", err),
			"edr-bridge service stop, this again, edr-bridge service start")
	}
	return agentProblem(err)
}

func agentProblem(err error) error {
	if err == nil {
		return nil
	}
	return fail(exitFailed, "agent", fmt.Errorf("agent: %w", err), "edr-bridge agent status")
}

// openAgentSocket serves the agent's socket: orders of other processes, and what people ask. An agent inside a bridge without its socket
// still works, and says so.
func (w *wiring) openAgentSocket(agent *localagent.Agent) (*socket.Server, error) {
	if err := os.MkdirAll(filepath.Dir(w.set.Local.Socket), 0o755); err != nil { //nolint:gosec // as systemd makes it: the socket itself says who may connect
		return nil, fail(exitConfig, "config.local", fmt.Errorf("local.socket: %w", err), "")
	}
	server, err := socket.NewServer(socket.ServerConfig{
		Path: w.set.Local.Socket, Group: w.set.Local.Group, Users: w.set.Local.Users, Agent: agent, Asks: agentAsks(agent), Logger: w.log,
	})
	if err != nil {
		return nil, fail(exitConfig, "config.local", err, "set a shorter local.socket")
	}
	return server, nil
}
