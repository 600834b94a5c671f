package sensor

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// sighting is an alert being made: all that would be gone in a moment has been read.
type sighting struct {
	document
	// file is the open image, nil when it could not be opened; opened is when it was.
	file   *os.File
	opened time.Time
}

// judge asks the rules and the baseline about a program that was started.
func (o *observer) judge(p *process, when uint64) {
	c := chain{parent: p.born, child: p.image, childLine: o.line(p.pid), parentLine: o.parentLine(p)}
	rules := o.s.rules.Load()
	rule, inPlace := rules.match(c), false
	if rule == nil && p.was != nil {
		// Code that took a server over may run a shell in the place of it, without a child.
		c.parent, c.parentLine = p.was, func() string { return "" }
		rule = rules.match(c)
		inPlace = rule != nil
	}
	bits, rare := o.s.baseline(p)
	switch {
	case rule != nil:
		o.alert(p, finding{rule: rule.Name, level: rule.Level, title: rule.Title, parent: c.parent, inPlace: inPlace}, when)
	case rare:
		o.alert(p, finding{
			rule: RuleBaseline, level: o.s.cfg.Baseline.Level, parent: p.born, score: bits,
			title: "Rare process chain (never seen before on this host)",
		}, when)
	}
}

// baseline counts the start.
func (s *Sensor) baseline(p *process) (bits float64, rare bool) {
	if s.known == nil || p.born == nil || p.image.unseen || p.born.unseen {
		return 0, false
	}
	return s.known.observe(p.born.key(), p.image.key())
}

// line reads the command line of a process once, when it is asked for.
func (o *observer) line(pid int) func() string {
	text, read := "", false
	return func() string {
		if !read {
			read = true
			if line, err := o.world.commandLine(pid, maxCommandLine); err == nil {
				text = strings.Join(arguments(line), " ")
			}
		}
		return text
	}
}

// parentLine reads the command line of the parent, when that still runs what it ran at the birth.
func (o *observer) parentLine(p *process) func() string {
	if p.parent == nil || p.parent.ended || p.parent.image != p.born || o.table.known[p.parent.pid] != p.parent {
		return func() string { return "" }
	}
	return o.line(p.parent.pid)
}

// finding is why there is an alert.
type finding struct {
	rule, level, title string
	parent             *image
	inPlace            bool
	score              float64
}

// alert makes an alert, unless there are too many or one that says the same was just made: then a second look decides.
func (o *observer) alert(p *process, f finding, when uint64) {
	if o.s.cfg.Ignore(p.pid) {
		return
	}
	left, ok := o.s.damper.admit(likeness{
		rule: f.rule, parent: p.ppid(), parentImage: f.parent.key(), child: cmp.Or(p.image.key(), p.image.comm), extra: p.image.script,
	}, o.s.cfg.Now())
	if !ok {
		o.setAside(p, f, when)
		return
	}
	o.tell(p, f, when, left)
}

func (p *process) ppid() int {
	if p.parent == nil {
		return 0
	}
	return p.parent.pid
}

// tell reads what will be gone in a moment, and hands the alert over to be finished; left is how many were left out before.
func (o *observer) tell(p *process, f finding, when, left uint64) {
	x := sighting{document: document{
		Level: f.level, Title: f.title, Rule: f.rule, Host: o.s.cfg.Host, Timestamp: stamp(o.s.cfg.Now()),
		PID: p.pid, PPID: p.ppid(), ParentExe: pathShown(f.parent.path), InPlace: f.inPlace, Score: f.score,
		Suppressed: left, Method: o.s.method(),
	}}
	o.identify(p, &x, when)
	x.Description = x.describe(p, f)
	x.ID = alertID("start", o.s.cfg.Host, o.s.boot, f.rule, strconv.Itoa(p.pid), strconv.FormatUint(x.StartTicks, 10), x.Exe,
		strconv.FormatUint(when, 10), x.Timestamp)
	o.s.handOver(x)
}

// identify pins the image, then makes sure that it is still the process the event was about.
func (o *observer) identify(p *process, x *sighting, when uint64) {
	x.ancestors(p, p.born)
	if p.user {
		x.UID = new(int64(p.uid))
	}
	if p.parent != nil && !p.parent.ended && o.table.known[p.parent.pid] == p.parent {
		if st, err := o.world.stat(p.parent.pid); err == nil && (p.parent.start == 0 || p.parent.start == st.start) {
			p.parent.start, x.ParentTicks = st.start, st.start
		}
	}
	if p.image.unseen {
		x.Exited = true
		x.Details = "command line: not read, the process had ended"
		return
	}
	x.Exe, x.ExeDeleted, x.Script = pathShown(p.image.path), p.image.deleted, clean(p.image.script, maxShownPath)
	file, err := o.world.open(p.pid)
	if err == nil {
		x.file, x.opened = file, time.Now()
	}
	line, lineErr := o.world.commandLine(p.pid, maxCommandLine)
	path, _, imageErr := o.world.image(p.pid)
	st, lives := o.stillIs(p, when)
	switch {
	case !lives:
		// Its number may be another's by now, and so may all that was read after the event.
		x.Exited = true
		x.drop()
		line, lineErr = nil, errGone
	case path != p.image.path || p.image.unreadable != (imageErr != nil):
		// It runs another program already: what was opened may be that.
		x.drop()
		line, lineErr = nil, errGone
		fallthrough
	default:
		p.start = st.start
		x.ActionablePID, x.StartTicks = p.pid, st.start
		if st.user {
			p.uid, p.user = st.uid, true
			x.UID = new(int64(st.uid))
		}
	}
	x.Cmdline = lineShown(line)
	x.Details = "command line: " + x.Cmdline
	if lineErr != nil {
		x.Details = "command line: not read, the process had ended or runs another program"
	}
}

func (x *sighting) drop() {
	if x.file != nil {
		_ = x.file.Close()
		x.file = nil
	}
}

// describe says in words what happened.
func (x *sighting) describe(p *process, f finding) string {
	child := shown(p.image.shown())
	switch {
	case p.image.unreadable:
		child = "a program that calls itself " + child + " and whose path cannot be read"
	case p.image.unseen && p.image.comm == "":
		child = "a program that ended before it could be read"
	case p.image.unseen:
		child = "a program that called itself " + child + " and ended before it could be read"
	}
	text := fmt.Sprintf("parent %s (PID %d) started %s (PID %d)", shown(f.parent.shown()), x.PPID, child, x.PID)
	if f.inPlace {
		text = fmt.Sprintf("process %d, which ran %s, runs %s in its place", x.PID, shown(f.parent.shown()), child)
	}
	if f.score > 0 {
		text += fmt.Sprintf("; the parent never started it before, %.1f bits of surprise", f.score)
	}
	if x.Suppressed > 0 {
		text += fmt.Sprintf("; %d alerts like this were left out before", x.Suppressed)
	}
	return text
}
