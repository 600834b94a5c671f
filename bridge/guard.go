package bridge

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Verdict is what a guard decided: the state the order takes, why, and in words with the place of the setting.
type Verdict struct {
	State  State
	Reason Reason
	Detail string
}

// GuardConfig is the policy.
type GuardConfig struct {
	// Protect holds the never-touch lists; required.
	Protect *Protect
	// Hold is the latched stop; required.
	Hold *HoldSwitch
	// Self is this machine: KSC never isolates it, because the bridge would be cut off from KSC and its sources.
	Self Identity
	// Ceiling bounds the mode of every rule; orders entered by hand are not under it. Empty = shadow.
	Ceiling Mode
	// MaxAge is how old an alert may be when its order begins; a kind in MaxAgeOf overrides it and
	// MaxAgePID holds for orders about a pid. Zero = 15 min and 60 s.
	MaxAge, MaxAgePID time.Duration
	MaxAgeOf          map[Kind]time.Duration
	// Approve lists the tasks of rules that always wait for a person. Nil = startProcess and deleteFile.
	Approve []Kind
	// FourEyes lets those tasks wait for a second person when one enters them by hand.
	FourEyes bool
	// Hours are when rules may act; a task no entry is about may be sent at any time.
	Hours []Hours
	// At gives the place of a setting ("edr-bridge.yaml:6") for its path ("mode"); nil = no places.
	At func(setting string) string
	// Now is the clock; nil = time.Now.
	Now func() time.Time
}

// Guard judges orders: once when they are admitted and again right before the effect. It fails closed.
type Guard struct {
	cfg GuardConfig
}

const (
	defaultMaxAge    = 15 * time.Minute
	defaultMaxAgePID = time.Minute
	// releaseAge is how long a release may wait for its executor: an isolated host is never better left alone.
	releaseAge = 24 * time.Hour
	// clockSkew is how far in the future an alert may lie; clocks of sensors are never exact.
	clockSkew = 5 * time.Minute
)

// NewGuard returns the guard of a policy.
func NewGuard(cfg GuardConfig) (*Guard, error) {
	if cfg.Protect == nil || cfg.Hold == nil {
		return nil, fmt.Errorf("guard: protect lists and hold switch are required")
	}
	if cfg.MaxAge <= 0 {
		cfg.MaxAge = defaultMaxAge
	}
	if cfg.MaxAgePID <= 0 {
		cfg.MaxAgePID = defaultMaxAgePID
	}
	if cfg.Approve == nil {
		cfg.Approve = []Kind{KindStartProcess, KindDeleteFile}
	}
	if cfg.At == nil {
		cfg.At = func(string) string { return "" }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Guard{cfg: cfg}, nil
}

// Deadline returns the last moment the effect of the order may begin.
func (g *Guard) Deadline(o Order) time.Time {
	from := o.AlertTime
	if from.IsZero() {
		from = o.Created
	}
	return g.DeadlineFrom(o, from)
}

// DeadlineFrom is Deadline for an order whose age counts from the given moment, such as that of its approval.
func (g *Guard) DeadlineFrom(o Order, from time.Time) time.Time {
	if o.Task == nil {
		return from
	}
	if IsRelease(o.Task) && o.AlertID == "" {
		return from.Add(releaseAge)
	}
	return from.Add(g.maxAge(o))
}

func (g *Guard) maxAge(o Order) time.Duration {
	age := g.cfg.MaxAge
	if d, ok := g.cfg.MaxAgeOf[o.Task.Kind()]; ok {
		age = d
	}
	if o.Subject.PID > 0 && g.cfg.MaxAgePID < age {
		age = g.cfg.MaxAgePID
	}
	return age
}

// Admit judges a new order. StateQueued means it may go on. Shadow orders pass every check first, so that
// "would have" is the truth.
func (g *Guard) Admit(o Order) Verdict {
	if err := ValidateOrder(o); err != nil {
		return Verdict{StateRefused, ReasonInvalid, err.Error()}
	}
	if v := g.target(o); v.State != StateQueued {
		return v
	}
	if v := g.age(o); v.State != StateQueued {
		return v
	}
	if v := g.permission(o); v.State != StateQueued {
		return v
	}
	return g.hold(o)
}

// permission judges how far rules and people may go: mode, tasks that need a person, hours.
func (g *Guard) permission(o Order) Verdict {
	if o.Rule == "" {
		if g.cfg.FourEyes && o.Actor != ActorLease && g.needsPerson(o) && o.Approval.By == "" {
			return Verdict{StateHeld, ReasonApproval, place(string(o.Task.Kind())+" waits for a second person", g.cfg.At("approvals.four_eyes"))}
		}
		return g.approved(o)
	}
	mode := o.Mode.Under(g.cfg.Ceiling)
	switch mode {
	case ModeOff:
		return Verdict{StateRefused, ReasonMode, place("mode off", g.cfg.At("mode"))}
	case ModeShadow:
		where := o.At
		if g.cfg.Ceiling.rank() <= mode.rank() {
			where = g.cfg.At("mode")
		}
		return Verdict{StateShadow, ReasonMode, place("mode shadow", where)}
	case ModeApprove, ModeEnforce:
	default:
		return Verdict{StateRefused, ReasonMode, fmt.Sprintf("unknown mode %q", mode)}
	}
	if o.Approval.By != "" {
		return g.approved(o)
	}
	if mode == ModeApprove {
		where := o.At
		if g.cfg.Ceiling.rank() <= mode.rank() && o.Mode.rank() > mode.rank() {
			where = g.cfg.At("mode")
		}
		return Verdict{StateHeld, ReasonApproval, place("mode approve", where)}
	}
	if g.needsPerson(o) {
		return Verdict{StateHeld, ReasonApproval, place(string(o.Task.Kind())+" always waits for a person", g.cfg.At("approvals.tasks"))}
	}
	return g.hours(o)
}

func (g *Guard) needsPerson(o Order) bool { return slices.Contains(g.cfg.Approve, o.Task.Kind()) }

// approved makes sure that what a person agreed to is what would be sent.
func (g *Guard) approved(o Order) Verdict {
	if o.Approval.By == "" {
		return Verdict{State: StateQueued}
	}
	if digest, err := o.Digest(); err != nil || digest != o.Approval.Digest {
		return Verdict{StateRefused, ReasonApproval, "what " + o.Approval.By + " approved is not what would be sent"}
	}
	return Verdict{State: StateQueued}
}

// hours lets rules act only while somebody is there, where the settings say so.
func (g *Guard) hours(o Order) Verdict {
	now, at := g.cfg.Now(), ""
	for _, h := range g.cfg.Hours {
		if !h.All && h.Task != o.Task.Kind() {
			continue
		}
		if h.Contains(now) {
			return Verdict{State: StateQueued}
		}
		if at == "" {
			at = h.At
		}
	}
	if at == "" && !slices.ContainsFunc(g.cfg.Hours, func(h Hours) bool { return h.All || h.Task == o.Task.Kind() }) {
		return Verdict{State: StateQueued}
	}
	return Verdict{StateHeld, ReasonHours, place(string(o.Task.Kind())+" of a rule waits for a person at this hour", at)}
}

// Begin judges an order again when its intent is fixed and the names of its host are known. The policy may be another one
// than at its admission: an order that waited over a restart goes by what is allowed today.
func (g *Guard) Begin(o Order) Verdict {
	if v := g.target(o); v.State != StateQueued {
		return v
	}
	if v := g.group(o); v.State != StateQueued {
		return v
	}
	if v := g.permission(o); v.State == StateShadow {
		return Verdict{StateRefused, v.Reason, v.Detail}
	} else if v.State != StateQueued {
		return v
	}
	return g.Still(o)
}

// Still judges what can have changed since Begin, right before the effect: the deadline and the hold.
func (g *Guard) Still(o Order) Verdict {
	if !o.NotAfter.IsZero() && g.cfg.Now().After(o.NotAfter) {
		return Verdict{StateExpired, ReasonAge, "not begun before " + o.NotAfter.UTC().Format(time.RFC3339)}
	}
	return g.hold(o)
}

func (g *Guard) target(o Order) Verdict {
	if o.Host == "" {
		return Verdict{StateRefused, ReasonNoHost, "the alert names no host; set host in the settings of source " + o.Source}
	}
	// The local agent keeps what the bridge lives by, and the system itself ends its isolations; a product does neither.
	if mayIsolate(o.Task) && g.own(o) && o.Executor != ExecutorLocal {
		return Verdict{StateRefused, ReasonProtectedHost, "this bridge runs there: isolated by the product, it could not even release it; the local agent can isolate it (--via local) (built in)"}
	}
	if reason, detail := g.cfg.Protect.Check(g.withOwnNames(o)); reason != ReasonNone {
		return Verdict{StateRefused, reason, detail}
	}
	return Verdict{State: StateQueued}
}

// group refuses a host whose administration group should be known and is not.
func (g *Guard) group(o Order) Verdict {
	if o.Intent.Target == "" || IsRelease(o.Task) || g.knowsGroup(o) {
		return Verdict{State: StateQueued}
	}
	return Verdict{StateRefused, ReasonProtectedHost, place("protect.hosts names groups, and the group of this host cannot be read", g.cfg.At("protect.hosts"))}
}

// knowsGroup reports whether the group of the host is known, or nobody goes by groups.
func (g *Guard) knowsGroup(o Order) bool {
	return !g.cfg.Protect.NamesGroups() || slices.ContainsFunc(o.Intent.Names, func(name string) bool {
		path, is := strings.CutPrefix(name, GroupPrefix)
		return is && strings.Trim(path, "/ ") != ""
	})
}

// withOwnNames adds every name of this machine to an order about it: the local agent looks none up, and the never-touch lists may
// know it by another one than the order does.
func (g *Guard) withOwnNames(o Order) Order {
	if !g.own(o) {
		return o
	}
	own, addresses := g.cfg.Self.All()
	names := slices.Concat(o.Intent.Names, own)
	for _, addr := range addresses {
		names = append(names, addr.String())
	}
	slices.Sort(names)
	o.Intent.Names = slices.Compact(names)
	return o
}

// mayIsolate reports whether the task cuts its host off, at once or on a hit.
func mayIsolate(t Task) bool {
	scan, is := t.(IOCScan)
	return is && scan.IsolateHost || IsIsolation(t)
}

func (g *Guard) own(o Order) bool {
	return g.cfg.Self.Is(o.Host) || slices.ContainsFunc(o.Intent.Names, g.cfg.Self.Is)
}

func (g *Guard) age(o Order) Verdict {
	if o.AlertID == "" {
		return Verdict{State: StateQueued}
	}
	if o.AlertTime.IsZero() {
		if o.Subject.PID > 0 {
			return Verdict{StateRefused, ReasonAge, "the alert does not tell when it happened, and a pid is only good for " + g.maxAge(o).String()}
		}
		return Verdict{State: StateQueued}
	}
	switch age, limit := g.cfg.Now().Sub(o.AlertTime), g.maxAge(o); {
	case age > limit:
		return Verdict{StateRefused, ReasonAge, place(fmt.Sprintf("the alert is %s old, allowed are %s", age.Round(time.Second), limit), g.cfg.At("max_age"))}
	case age < -clockSkew:
		return Verdict{StateRefused, ReasonAge, fmt.Sprintf("the alert lies %s in the future: check the clocks", (-age).Round(time.Second))}
	default:
		return Verdict{State: StateQueued}
	}
}

func (g *Guard) hold(o Order) Verdict {
	if h := g.cfg.Hold.Get(); h.Active && !IsRelease(o.Task) && !granted(o, h) {
		return holdVerdict(h)
	}
	return Verdict{State: StateQueued}
}

// granted reports whether an order had its place in the budget before the next one latched the hold: it is what the budget allows.
// A hold that a person set, or that comes of what people took back, stops it all the same.
func granted(o Order, h Hold) bool {
	return h.Actor == ActorGuard && o.State == StateSending && !o.Updated.After(h.Since)
}

// ValidateOrder checks the task; an order about a process may leave all criteria to the process.
func ValidateOrder(o Order) error {
	if o.Task == nil {
		return fmt.Errorf("task: required")
	}
	if t, ok := o.Task.(TerminateProcess); ok && o.Subject.PID > 0 && t.MD5 == "" && t.SHA256 == "" && t.Path == "" {
		return nil
	}
	return o.Task.Validate()
}

func place(text, at string) string {
	if at == "" {
		return text
	}
	return text + " (" + at + ")"
}
