package configs

import (
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// AnyTask in Limit.Task and Hours.Task stands for every task.
const AnyTask = "*"

// OnBreachHold is what becomes of an order beyond a limit: it is held, and the hold is latched.
const OnBreachHold = "hold"

// Limit is a budget: how many orders may begin within a span of time. Releases are never limited.
type Limit struct {
	// Task is the task that is limited, or "*" for all tasks together.
	Task string `yaml:"task" jsonschema:"required"`
	// Max is how many orders may begin within per, 1 to 1000000. Beside share the smaller one holds.
	Max int `yaml:"max,omitempty" jsonschema:"minimum=1,maximum=1000000"`
	// Share is the same as a share of the known hosts, 0.01% to 100%, rounded down but at least one order: "2%".
	Share Share `yaml:"share,omitempty"`
	// Per is the span of time, 1m to 720h.
	Per time.Duration `yaml:"per" jsonschema:"required"`
	// By counts apart for each source or each rule. Default: all orders together.
	By string `yaml:"by,omitempty" jsonschema:"enum=source,enum=rule"`
	// OnBreach is hold: an order beyond the limit waits, and nothing but releases is sent until resume.
	OnBreach string `yaml:"on_breach" jsonschema:"enum=hold"`
}

// Inventory is what is known about the machines.
type Inventory struct {
	// Hosts is how many hosts there are, for limits with a share, up to 10000000. Default 0: KSC is asked.
	Hosts int `yaml:"hosts" jsonschema:"minimum=0,maximum=10000000"`
}

// Damping keeps a host from being isolated and released by turns.
type Damping struct {
	// Max is how many times one host may be isolated or released within the time below before its next isolation is held,
	// 1 to 1000. Default 3.
	Max int `yaml:"max" jsonschema:"minimum=1,maximum=1000"`
	// Within is that time, 1m to 24h. Default 10m.
	Within time.Duration `yaml:"within"`
}

// Undo watches how often people take back what rules did.
type Undo struct {
	// Max is how many isolations of rules people may release within per before the hold is latched, 0 (any number) to 1000.
	// Default 3.
	Max int `yaml:"max" jsonschema:"minimum=0,maximum=1000"`
	// Per is the span of time, 1m to 720h. Default 1h.
	Per time.Duration `yaml:"per"`
}

func defaultLimits() []Limit {
	return []Limit{{Task: string(bridge.KindIsolateHost), Max: 5, Per: time.Hour, OnBreach: OnBreachHold}}
}

// LimitPolicy returns the limits with the place of each; empty = nothing is limited.
func (s *Settings) LimitPolicy() []bridge.Limit {
	limits := make([]bridge.Limit, 0, len(s.Limits))
	for i, l := range s.Limits {
		task, all := taskOrAll(l.Task)
		limits = append(limits, bridge.Limit{
			Task: task, All: all, Max: l.Max, Share: l.Share.Fraction(), Per: l.Per, By: l.By, At: s.At(index("limits", i)),
		})
	}
	return limits
}

// taskOrAll reads a checked name of a task or "*".
func taskOrAll(name string) (task bridge.Kind, all bool) {
	if name == AnyTask {
		return "", true
	}
	return bridge.Kind(name), false
}
