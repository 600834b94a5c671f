package mapping

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// orders adds what one rule asks for to m.
func (r *rule) orders(m *bridge.Mapped, v *view, mode bridge.Mode, src *source) {
	m.Orders = slices.Grow(m.Orders, len(r.steps))
	for i, s := range r.steps {
		o := bridge.Order{
			AlertID: v.alert.ID, Source: v.alert.Source, Rule: r.name, At: r.at, Mode: mode,
			Window: r.window, AlertTime: v.alert.Time,
		}
		reason, err := s.fill(&o, v, src)
		if err == nil {
			reason, err = r.identify(&o, v)
		}
		if err == nil && r.after != nil {
			reason, err = r.after.strike(&o, i, v)
		}
		if err == nil {
			m.Orders = append(m.Orders, o)
			continue
		}
		m.Refused = append(m.Refused, refused(o, string(s.kind), reason, err, i))
	}
}

// refused turns an order that cannot be made into a record of why; index tells the elements of one `do` apart.
func refused(o bridge.Order, kind string, reason bridge.Reason, err error, index int) bridge.Order {
	o.State, o.Reason = bridge.StateRefused, reason
	o.Detail = kind + ": " + strings.Join(problemsOf(err), "; ")
	o.Dedupe, o.Window = "", 0
	o.ID = digest("o", o.Source, o.AlertID, o.Rule, kind, o.Host, "refused", strconv.Itoa(index))
	return o
}

// fill gives the order its host, subject and task.
func (s *step) fill(o *bridge.Order, v *view, src *source) (bridge.Reason, error) {
	if src.Tasks != nil && !slices.Contains(src.Tasks, s.kind) {
		return bridge.ReasonSource, fmt.Errorf("sources.%s.tasks does not allow it", o.Source)
	}
	host, err := s.target(v, o.Source)
	if err != nil {
		return hostReason(err), err
	}
	var reason bridge.Reason
	if o.Host, reason, err = src.address(host, v.alert.Tenant, o.Source); err != nil {
		return reason, err
	}
	if s.subject {
		if v.alert.Process.PID == 0 {
			return bridge.ReasonInvalid, errors.New("subject: the alert has no process.pid")
		}
		o.Subject = v.alert.Process
	}
	o.Subject.Tree = s.tree
	task, err := s.task(v)
	if err != nil {
		return bridge.ReasonInvalid, err
	}
	if err := validate(task, s.subject); err != nil {
		return bridge.ReasonInvalid, err
	}
	o.Task = task
	o.For = s.period
	if isolation, ok := task.(bridge.IsolateHost); ok && isolation.Action != bridge.IsolationOn {
		o.For = 0
	}
	return bridge.ReasonNone, nil
}

// target returns the host the order goes to.
func (s *step) target(v *view, source string) (string, error) {
	host := v.alert.Host
	switch p := s.host.(type) {
	case nil:
		if host == "" {
			return "", &hostError{
				bridge.ReasonNoHost,
				"the alert names no host: set sources." + source + ".host (to this, when the source reports about this machine), or host: in the rule",
			}
		}
	case *paramRef:
		text, err := p.hostText(v)
		if err != nil {
			return "", err
		}
		host = text
	case paramLiteral:
		text, err := textOf(p)
		if err != nil {
			return "", err
		}
		host = text
	default:
		return "", fmt.Errorf("host: unexpected %T", s.host)
	}
	return host, checkHost(host)
}

func (p *paramRef) hostText(v *view) (string, error) {
	var b bytes.Buffer
	if err := p.encode(&b, keyHost, v); err != nil {
		return "", &hostError{bridge.ReasonNoHost, err.Error()}
	}
	text, err := textOf(b.Bytes())
	if err != nil {
		return "", &hostError{bridge.ReasonInvalid, "host: " + err.Error()}
	}
	return text, nil
}

// task returns the task with the values of the alert.
func (s *step) task(v *view) (bridge.Task, error) {
	if s.static != nil {
		return s.static, nil
	}
	var b bytes.Buffer
	if err := s.params.encode(&b, keyParams, v); err != nil {
		return nil, err
	}
	return bridge.DecodeTask(s.kind, b.Bytes())
}

// validate is Task.Validate; an order about a process itself needs no other criteria.
func validate(t bridge.Task, subject bool) error {
	if p, ok := t.(bridge.TerminateProcess); ok && subject && p.Path == "" && p.MD5 == "" && p.SHA256 == "" {
		return nil
	}
	return t.Validate()
}

// identify gives the order its id and dedupe key. The key always holds rule, task, host, params and process:
// what `by` adds can only tell more orders apart, so that one attacker never stands in for another.
func (r *rule) identify(o *bridge.Order, v *view) (bridge.Reason, error) {
	params, err := bridge.EncodeParams(o.Task)
	if err != nil {
		return bridge.ReasonInvalid, err
	}
	subject := ""
	if o.Subject.PID > 0 {
		subject = fmt.Sprintf(" pid=%d start=%d", o.Subject.PID, o.Subject.Start)
	}
	if o.Subject.Tree {
		subject += " tree"
	}
	// A checked host holds no space, so host and subject cannot be mistaken for another host.
	if o.ID, err = bridge.NewOrderID(o.Source, o.AlertID, o.Rule, o.Task, o.Host+subject); err != nil {
		return bridge.ReasonInvalid, err
	}
	if r.window == 0 {
		return bridge.ReasonNone, nil
	}
	if o.Subject.PID > 0 && o.Subject.Start == 0 {
		// A pid without a start time may belong to another process by the next alert.
		subject += " alert=" + o.AlertID
	}
	key := []string{r.name, string(o.Task.Kind()), strings.ToLower(o.Host), string(params), subject}
	for _, at := range r.by {
		values := v.values(at)
		key = append(key, strconv.Itoa(len(values)))
		for i := range values {
			b, _ := values[i].json()
			key = append(key, string(b))
		}
	}
	o.Dedupe = digest("k", key...)
	return bridge.ReasonNone, nil
}

// digest returns the prefix and 24 hex digits over length-prefixed fields.
func digest(prefix string, fields ...string) string {
	h := sha256.New()
	var n [8]byte
	for _, f := range fields {
		binary.BigEndian.PutUint64(n[:], uint64(len(f)))
		h.Write(n[:])
		h.Write([]byte(f))
	}
	return prefix + hex.EncodeToString(h.Sum(nil)[:12])
}

// problemsOf takes joined errors apart.
func problemsOf(err error) []string {
	var many interface{ Unwrap() []error }
	if !errors.As(err, &many) {
		return []string{err.Error()}
	}
	var list []string
	for _, e := range many.Unwrap() {
		list = append(list, problemsOf(e)...)
	}
	return list
}
