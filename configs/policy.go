package configs

import (
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// Approvals says which orders wait for a person.
type Approvals struct {
	// Tasks are the tasks that always need approval, in every mode. Default startProcess and deleteFile; [] = none.
	Tasks []bridge.Kind `yaml:"tasks"`
	// Timeout is how long an order waits for approval before it is refused, 1m to 168h. Default 1h.
	Timeout time.Duration `yaml:"timeout"`
	// FourEyes keeps people from approving what they asked for themselves. Default false.
	FourEyes bool `yaml:"four_eyes"`
	// AskEvery is how often approval may be asked for about one host, 0s (each time) to 24h. Default 1h.
	AskEvery time.Duration `yaml:"ask_every"`
}

// OnProductOff says what to do about the product that ends an isolation by itself.
type OnProductOff string

// What to do when the product's own time limit comes before the end of a lease.
const (
	Reassert OnProductOff = "reassert"
	Record   OnProductOff = "record"
)

// Leases says how isolations end.
type Leases struct {
	// Default is how long a host stays isolated when the order does not say, 1m to 720h. Default 4h.
	Default time.Duration `yaml:"default"`
	// ProductOff is after how long the endpoint product ends an isolation by itself, as its policy says: 5m to 9999h, or
	// 0s for never. Default 5h.
	ProductOff time.Duration `yaml:"product_off"`
	// OnProductOff is reassert (default: the host is isolated again before that moment) or record (the lease is noted as
	// lapsed by the product).
	OnProductOff OnProductOff `yaml:"on_product_off" jsonschema:"enum=reassert,enum=record"`
}

func defaultApprovals() Approvals {
	return Approvals{Tasks: []bridge.Kind{bridge.KindStartProcess, bridge.KindDeleteFile}, Timeout: time.Hour, AskEvery: time.Hour}
}

// Policy returns what the guards go by that judge from what happened before, with the place of each setting. Known is nil
// when inventory.hosts is not set: the caller fills in how KSC is asked.
func (s *Settings) Policy() bridge.Policy {
	p := bridge.Policy{
		Limits:  s.LimitPolicy(),
		FlapMax: s.Damping.Max, FlapWithin: s.Damping.Within, FlapAt: s.At("damping"),
		UndoMax: s.Undo.Max, UndoPer: s.Undo.Per, UndoAt: s.At("undo"),
		Lease:     bridge.LeasePolicy{ProductOff: s.Leases.ProductOff, Reassert: s.Leases.OnProductOff == Reassert},
		AskEvery:  s.Approvals.AskEvery,
		FourEyes:  s.Approvals.FourEyes,
		Deadlines: bridge.Deadlines{Approval: s.Approvals.Timeout, GiveUp: s.GiveUp},
	}
	for path, k := range s.servers() {
		p.Follow = max(p.Follow, k.Tasks.FollowFor)
		live := bridge.LiveTasks{Hold: k.Tasks.Hold, Keep: k.Tasks.Keep, PerHost: k.Tasks.Per == PerHost, At: s.At(join(path, "tasks"))}
		if _, profile, named := strings.Cut(path, "."); named {
			if p.LiveOf == nil {
				p.LiveOf = make(map[string]bridge.LiveTasks)
			}
			p.LiveOf[profile] = live
		} else {
			p.Live = live
		}
	}
	if n := s.Inventory.Hosts; n > 0 {
		p.Known = func() (int, bool) { return n, true }
	}
	return p
}
