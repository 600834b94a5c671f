package mapping

import (
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	// Permanent is the Order.For of `for: permanent`: an isolation without an end of its own.
	Permanent time.Duration = -1

	defaultIsolation = 4 * time.Hour
	defaultWindow    = 10 * time.Minute
	minFor           = time.Second
	maxFor           = 30 * 24 * time.Hour
)

// rule is one compiled rule.
type rule struct {
	name string
	// file and line are where the rule begins, at is both as "file:line".
	file string
	line int
	at   string
	// mode is what the rule asks for, before the ceiling.
	mode bridge.Mode
	// conditions must all hold.
	conditions []condition
	steps      []*step
	// by are the facts that are part of the dedupe key besides the target; window 0 means no dedupe.
	by     []ref
	window time.Duration
	// after is the threshold of the rule; nil = every alert counts at once.
	after *threshold
}

func (r *rule) holds(v *view) bool {
	for _, c := range r.conditions {
		if !c.holds(v) {
			return false
		}
	}
	return true
}

// step is one element of `do`: one order for each alert the rule applies to.
type step struct {
	kind bridge.Kind
	// static is the validated task when no parameter depends on the alert, else nil.
	static bridge.Task
	params param
	// subject says that the order is about the alert's process itself.
	subject bool
	// tree says that the descendants are ended as well.
	tree bool
	// host is where the order goes when it is not the alert's host; nil = the alert's.
	host param
	// period is what `for` says; without it the lease of the Config for isolateHost, else 0 = the executor's default.
	period time.Duration
}

// RuleInfo describes a loaded rule for people.
type RuleInfo struct {
	// Name is unique among all files; File and Line are where the rule begins.
	Name, File string
	Line       int
	// Mode is the mode the rule runs in: its own under the ceiling.
	Mode bridge.Mode
	// Tasks are the tasks it asks for, in the order of its list.
	Tasks []bridge.Kind
}
