package api

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// order is bridge.Order on the wire.
type order struct {
	ID           text            `json:"id"`
	Task         bridge.Kind     `json:"task,omitempty"`
	Params       json.RawMessage `json:"params,omitempty"`
	Host         text            `json:"host"`
	Subject      *process        `json:"subject,omitempty"`
	State        bridge.State    `json:"state,omitempty"`
	Reason       bridge.Reason   `json:"reason,omitempty"`
	Detail       text            `json:"detail,omitempty"`
	Covers       text            `json:"covered_by,omitempty"`
	Mode         bridge.Mode     `json:"mode,omitempty"`
	Via          bridge.Via      `json:"via,omitempty"`
	Executor     text            `json:"executor,omitempty"`
	Source       text            `json:"source,omitempty"`
	AlertID      text            `json:"alert,omitempty"`
	AlertTime    time.Time       `json:"alert_time,omitzero"`
	Rule         text            `json:"rule,omitempty"`
	At           text            `json:"at,omitempty"`
	Actor        text            `json:"actor,omitempty"`
	For          period          `json:"for,omitzero"`
	Dedupe       text            `json:"dedupe,omitempty"`
	Window       period          `json:"window,omitzero"`
	Strike       text            `json:"strike,omitempty"`
	StrikeCount  int             `json:"strike_count,omitempty"`
	StrikeWithin period          `json:"strike_within,omitzero"`
	Intent       *intent         `json:"intent,omitempty"`
	Attempts     int             `json:"attempts,omitempty"`
	Ref          text            `json:"ref,omitempty"`
	Approval     *approval       `json:"approval,omitempty"`
	Created      time.Time       `json:"created,omitzero"`
	Updated      time.Time       `json:"updated,omitzero"`
	Due          time.Time       `json:"due,omitzero"`
	NotAfter     time.Time       `json:"not_after,omitzero"`
}

// process is bridge.Process on the wire.
type process struct {
	PID         int       `json:"pid,omitempty"`
	Start       uint64    `json:"start,omitempty"`
	Started     time.Time `json:"started,omitzero"`
	Name        text      `json:"name,omitempty"`
	Path        text      `json:"path,omitempty"`
	MD5         text      `json:"md5,omitempty"`
	SHA256      text      `json:"sha256,omitempty"`
	CommandLine text      `json:"command_line,omitempty"`
	ParentName  text      `json:"parent_name,omitempty"`
	ParentPath  text      `json:"parent_path,omitempty"`
	Tree        bool      `json:"tree,omitempty"`
}

// intent is bridge.Intent on the wire.
type intent struct {
	Target text      `json:"target,omitempty"`
	Names  []text    `json:"names,omitempty"`
	Second time.Time `json:"second,omitzero"`
	Body   text      `json:"body,omitempty"`
}

// approval is bridge.Approval on the wire.
type approval struct {
	By     text      `json:"by,omitempty"`
	Why    text      `json:"why,omitempty"`
	At     time.Time `json:"at,omitzero"`
	Digest text      `json:"digest,omitempty"`
}

func encodeOrder(o bridge.Order) (order, error) {
	w := order{
		ID: text(o.ID), Host: text(o.Host), State: o.State, Reason: o.Reason, Detail: text(o.Detail), Covers: text(o.Covers),
		Mode: o.Mode, Via: o.Via, Executor: text(o.Executor), Source: text(o.Source), AlertID: text(o.AlertID),
		AlertTime: utc(o.AlertTime), Rule: text(o.Rule), At: text(o.At), Actor: text(o.Actor), For: period(o.For),
		Dedupe: text(o.Dedupe), Window: period(o.Window), Strike: text(o.Strike), StrikeCount: o.StrikeCount,
		StrikeWithin: period(o.StrikeWithin), Attempts: o.Attempts, Ref: text(o.Ref), Created: utc(o.Created),
		Updated: utc(o.Updated), Due: utc(o.Due), NotAfter: utc(o.NotAfter),
	}
	if p := o.Subject; p != (bridge.Process{}) {
		w.Subject = &process{
			PID: p.PID, Start: p.Start, Started: utc(p.Started), Name: text(p.Name), Path: text(p.Path), MD5: text(p.MD5),
			SHA256: text(p.SHA256), CommandLine: text(p.CommandLine), ParentName: text(p.ParentName), ParentPath: text(p.ParentPath),
			Tree: p.Tree,
		}
	}
	if in := o.Intent; in.Target != "" || len(in.Names) > 0 || !in.Second.IsZero() || in.Body != "" {
		w.Intent = &intent{Target: text(in.Target), Names: texts(in.Names), Second: utc(in.Second), Body: text(in.Body)}
	}
	if a := o.Approval; a != (bridge.Approval{}) {
		w.Approval = &approval{By: text(a.By), Why: text(a.Why), At: utc(a.At), Digest: text(a.Digest)}
	}
	if o.Task == nil {
		return w, nil
	}
	params, err := bridge.EncodeParams(o.Task)
	if err != nil {
		return w, fmt.Errorf("order %s: %w", o.ID, err)
	}
	w.Task, w.Params = o.Task.Kind(), params
	return w, nil
}

func (w order) decode() (bridge.Order, error) {
	o := bridge.Order{
		ID: string(w.ID), Host: string(w.Host), State: w.State, Reason: w.Reason, Detail: string(w.Detail), Covers: string(w.Covers),
		Mode: w.Mode, Via: w.Via, Executor: string(w.Executor), Source: string(w.Source), AlertID: string(w.AlertID),
		AlertTime: utc(w.AlertTime), Rule: string(w.Rule), At: string(w.At), Actor: string(w.Actor), For: time.Duration(w.For),
		Dedupe: string(w.Dedupe), Window: time.Duration(w.Window), Strike: string(w.Strike), StrikeCount: w.StrikeCount,
		StrikeWithin: time.Duration(w.StrikeWithin), Attempts: w.Attempts, Ref: string(w.Ref), Created: utc(w.Created),
		Updated: utc(w.Updated), Due: utc(w.Due), NotAfter: utc(w.NotAfter),
	}
	if p := w.Subject; p != nil {
		o.Subject = bridge.Process{
			PID: p.PID, Start: p.Start, Started: utc(p.Started), Name: string(p.Name), Path: string(p.Path), MD5: string(p.MD5),
			SHA256: string(p.SHA256), CommandLine: string(p.CommandLine), ParentName: string(p.ParentName),
			ParentPath: string(p.ParentPath), Tree: p.Tree,
		}
	}
	if in := w.Intent; in != nil {
		o.Intent = bridge.Intent{Target: string(in.Target), Names: stringsOf(in.Names), Second: utc(in.Second), Body: string(in.Body)}
	}
	if a := w.Approval; a != nil {
		o.Approval = bridge.Approval{By: string(a.By), Why: string(a.Why), At: utc(a.At), Digest: string(a.Digest)}
	}
	if w.Task == "" && len(w.Params) == 0 {
		return o, nil
	}
	task, err := bridge.DecodeTask(w.Task, w.Params)
	if err != nil {
		return o, fmt.Errorf("order %q: %w", o.ID, err)
	}
	o.Task = task
	return o, nil
}

func encodeOrders(orders []bridge.Order) ([]order, error) { return each(orders, encodeOrder) }

func decodeOrders(orders []order) ([]bridge.Order, error) { return each(orders, order.decode) }

// each converts a list; the first element that cannot be converted ends it.
func each[A, B any](list []A, convert func(A) (B, error)) ([]B, error) {
	out := make([]B, 0, len(list))
	for _, a := range list {
		b, err := convert(a)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}
