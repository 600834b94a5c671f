package sensor

import "time"

const (
	// secondLook is how long a process whose alert was left out may live until that is made after all: one more of those that end at
	// once says nothing new, one that lives on is one more to be ended.
	secondLook = 200 * time.Millisecond
	// maxAside bounds the starts that wait for the second look.
	maxAside = 4096
)

// aside is a start whose alert was left out, because there were too many or one that says the same was just made.
type aside struct {
	finding
	p *process
	// image is what was started, when the time of the event.
	image *image
	when  uint64
	due   time.Time
}

// setAside keeps a start for the second look. When there are too many, the oldest does not wait for its time.
func (o *observer) setAside(p *process, f finding, when uint64) {
	if len(o.aside) >= maxAside {
		if a := o.nextAside(); !o.decide(a) {
			o.s.leaveOut(a.rule)
		}
	}
	o.aside = append(o.aside, aside{finding: f, p: p, image: p.image, when: when, due: o.s.cfg.Now().Add(secondLook)})
}

func (o *observer) nextAside() aside {
	a := o.aside[0]
	o.aside[0] = aside{}
	o.aside = o.aside[1:]
	return a
}

// lookAgain makes the alerts of processes that still live when their time has come; with last set that has come for all of them.
func (o *observer) lookAgain(last bool) {
	for range len(o.aside) {
		now := o.s.cfg.Now()
		if !last && now.Before(o.aside[0].due) {
			return
		}
		switch a := o.nextAside(); {
		case o.decide(a):
		case last:
			o.s.leaveOut(a.rule)
		default:
			a.due = now.Add(secondLook)
			o.aside = append(o.aside, a)
		}
	}
}

// decide makes the alert if the process lives, and counts it as left out if not. It answers false when there are too many alerts.
func (o *observer) decide(a aside) bool {
	if q := o.table.known[a.p.pid]; q != nil && q != a.p {
		o.s.leaveOut(a.rule)
		return true
	}
	if _, lives := o.stillIs(a.p, a.when); !lives {
		o.s.leaveOut(a.rule)
		return true
	}
	left, ok := o.s.damper.admitAgain(a.rule, o.s.cfg.Now())
	if ok {
		then := *a.p
		then.image = a.image
		o.tell(&then, a.finding, a.when, left)
	}
	return ok
}

// stillIs reports whether the process lives that was seen at when, an event's time or 0: its number may be another's by now.
func (o *observer) stillIs(p *process, when uint64) (stat, bool) {
	st, err := o.world.stat(p.pid)
	return st, err == nil && !st.dead && !o.world.after(st.start, when) && (p.start == 0 || p.start == st.start)
}

// leaveOut counts an alert that is not made.
func (s *Sensor) leaveOut(rule string) {
	s.count.suppressed.Add(1)
	s.damper.leaveOut(rule)
}
