package configs

import (
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// Hours is a span of the week in which rules may act with a task. Outside of all spans of a task the orders of rules are
// held for a person.
type Hours struct {
	// Task is the task it is about, or "*" for all tasks.
	Task string `yaml:"task" jsonschema:"required"`
	// Days are the days on which the span begins, mon to sun. Default: all seven.
	Days []Day `yaml:"days" jsonschema:"minItems=1"`
	// From is when it begins, HH:MM; later than to means over midnight.
	From Clock `yaml:"from" jsonschema:"required"`
	// To is when it ends, HH:MM up to 24:00.
	To Clock `yaml:"to" jsonschema:"required"`
	// Zone is the time zone of both, a name such as Europe/Berlin or UTC. Default Local: that of this machine.
	Zone Zone `yaml:"zone"`
}

func (h *Hours) fill(path string, p places) {
	if p.has(join(path, "days")) {
		return
	}
	h.Days = nil
	for i := range days() {
		h.Days = append(h.Days, Day((i+1)%len(days())))
	}
}

// HoursPolicy returns the spans of the week with the place of each; a task in none of them may act at any time.
func (s *Settings) HoursPolicy() []bridge.Hours {
	spans := make([]bridge.Hours, 0, len(s.Hours))
	for i, h := range s.Hours {
		task, all := taskOrAll(h.Task)
		span := bridge.Hours{
			Task: task, All: all, From: time.Duration(h.From), To: time.Duration(h.To), Zone: h.Zone.Location(), At: s.At(index("hours", i)),
		}
		for _, d := range h.Days {
			span.Days = append(span.Days, time.Weekday(d))
		}
		spans = append(spans, span)
	}
	return spans
}
