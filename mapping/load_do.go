package mapping

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/yamltree"
)

func (l *loader) steps(n *yamltree.Node) []*step {
	items, ok := l.Items(n, keyDo)
	if !ok {
		return nil
	}
	if len(items) == 0 {
		l.Fail(n, "do is empty: say which tasks the rule asks for")
	}
	if len(items) > maxSteps {
		l.Fail(n, "do has more than %d tasks", maxSteps)
		return nil
	}
	var steps []*step
	for _, item := range items {
		if s := l.step(item); s != nil {
			steps = append(steps, s)
		}
	}
	return steps
}

// step compiles one element of `do`; nil after noting a problem that leaves nothing to go on with.
func (l *loader) step(n *yamltree.Node) *step {
	before := len(l.Problems)
	entries, ok := l.Entries(n, "an element of do", stepKeys)
	if !ok {
		return nil
	}
	given := map[string]*yamltree.Node{}
	for _, e := range entries {
		given[e.Key] = e.Value
	}
	if given[keyTask] == nil {
		if len(l.Problems) == before {
			l.Fail(n, "the element of do has no task")
		}
		return nil
	}
	word, ok := l.Text(given[keyTask], keyTask)
	if !ok {
		return nil
	}
	k, err := bridge.ParseKind(word)
	if err != nil {
		l.Fail(given[keyTask], "%v", err)
		return nil
	}
	s := &step{kind: k}
	if v := given[keySubject]; v != nil {
		l.subject(v, s)
	}
	if v := given[keyTree]; v != nil {
		l.tree(v, s)
	}
	if v := given[keyHost]; v != nil {
		l.host(v, s)
	}
	l.taskParams(n, given[keyParams], s)
	if k == bridge.KindIsolateHost {
		s.period = l.lease
	}
	if v := given[keyFor]; v != nil {
		l.period(v, s)
	}
	return s
}

func (l *loader) subject(n *yamltree.Node, s *step) {
	word, ok := l.Text(n, keySubject)
	switch {
	case !ok:
	case word != "process":
		l.Fail(n, "unknown subject %q: want process", word)
	case s.kind != bridge.KindTerminateProcess:
		l.Fail(n, "subject is for terminateProcess, not for %s", s.kind)
	default:
		s.subject = true
	}
}

func (l *loader) tree(n *yamltree.Node, s *step) {
	yes, ok := n.Value.(bool)
	switch {
	case !ok:
		l.Fail(n, "tree must be true or false without quotes")
	case s.kind != bridge.KindTerminateProcess:
		l.Fail(n, "tree is for terminateProcess, not for %s", s.kind)
	default:
		s.tree = yes
	}
}

func (l *loader) host(n *yamltree.Node, s *step) {
	text, ok := l.Text(n, keyHost)
	if !ok {
		return
	}
	s.host = l.paramText(n, text)
	if literal, ok := s.host.(paramLiteral); ok {
		name, err := textOf(literal)
		if err == nil {
			err = checkHost(name)
		}
		if err != nil {
			l.Fail(n, "host: %v", err)
		}
	}
}

// period reads `for`, which only what ends by itself has.
func (l *loader) period(n *yamltree.Node, s *step) {
	isolation, static := s.static.(bridge.IsolateHost)
	switch {
	case s.kind != bridge.KindIsolateHost && s.kind != bridge.KindBlockAddress:
		l.Fail(n, "for is for isolateHost and blockAddress, not for %s", s.kind)
		return
	case static && isolation.Action == bridge.IsolationOff:
		l.Fail(n, "a release has no duration: remove for")
		return
	}
	if n.Value == "permanent" {
		if s.kind != bridge.KindIsolateHost {
			l.Fail(n, "%s cannot be permanent: write a time span", s.kind)
		}
		s.period = Permanent
		return
	}
	d, ok := l.duration(n, keyFor)
	if !ok {
		return
	}
	if d < minFor || d > maxFor {
		l.Fail(n, "for must be from %s to %s, or permanent for isolateHost", minFor, hours(maxFor))
	}
	s.period = d
}

// taskParams compiles the params and proves at load time whatever does not depend on the alert.
func (l *loader) taskParams(stepNode, n *yamltree.Node, s *step) {
	rd, list, err := newReading(s.kind)
	if err != nil {
		l.Fail(stepNode, "%v", err)
		return
	}
	switch {
	case n != nil:
		p, ok := l.params(n, rd, list)
		if !ok {
			return
		}
		s.params = p
	case list:
		s.params = paramList{}
		rd.places[keyParams] = stepNode.Place
	default:
		s.params = &paramObject{}
		rd.places[keyParams] = stepNode.Place
	}
	task, err := bridge.DecodeTask(s.kind, rd.samples(s.params, false))
	if err == nil {
		_, err = bridge.DecodeTask(s.kind, rd.samples(s.params, true))
	}
	if err != nil {
		l.report(err, rd, false)
		return
	}
	if err := validate(task, s.subject); err != nil {
		l.report(err, rd, true)
	}
	if len(rd.refs) == 0 {
		s.static = task
	}
}

// samples returns the params with a plausible value for each reference.
func (rd *reading) samples(p param, defaults bool) []byte {
	var b bytes.Buffer
	rd.encode(&b, p, keyParams, defaults)
	return b.Bytes()
}

func (rd *reading) encode(b *bytes.Buffer, p param, at string, defaults bool) {
	switch p := p.(type) {
	case *paramObject:
		o := &paramObject{keys: p.keys}
		for i, key := range p.keys {
			path := at + "." + key
			if r := rd.refs[path]; r != nil {
				o.values = append(o.values, paramLiteral(rd.sample(path, r, defaults)))
				continue
			}
			o.values = append(o.values, p.values[i])
		}
		_ = o.encode(b, at, nil)
	case paramList:
		b.WriteByte('[')
		for i, element := range p {
			if i > 0 {
				b.WriteByte(',')
			}
			rd.encode(b, element, at+"["+strconv.Itoa(i)+"]", defaults)
		}
		b.WriteByte(']')
	}
}

// report notes what a task says about its params, each at the place of its parameter. With validating set,
// what concerns references is left out: their samples are invented.
func (l *loader) report(err error, rd *reading, validating bool) {
	for _, message := range problemsOf(err) {
		path, _, _ := strings.Cut(message, ": ")
		if validating && rd.uncertain(path) {
			continue
		}
		at, known := rd.places[path]
		for !known && path != "" {
			path = path[:max(strings.LastIndexAny(path, ".["), 0)]
			at, known = rd.places[path]
		}
		if !known {
			at = rd.places[keyParams]
		}
		l.FailAt(at, "%s: %s", rd.task, message)
	}
}

// uncertain reports whether a problem at path may be owed to the invented value of a reference: its own, or
// one of its neighbours in the same object.
func (rd *reading) uncertain(path string) bool {
	if rd.refs[path] != nil {
		return true
	}
	if _, known := rd.places[path]; known && strings.Contains(path, ".") {
		parent := path[:strings.LastIndexByte(path, '.')]
		return rd.refs[parent+".type"] != nil
	}
	return false
}
