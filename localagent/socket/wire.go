package socket

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	// version is that of the protocol; both sides must have the same.
	version = 1
	// maxRequest bounds a request, maxAnswer an answer: an archive of iocScan has 8 MiB, a result of a scan 2 MiB.
	maxRequest = 16 << 20
	maxAnswer  = 16 << 20
)

// The methods.
const (
	methodExecute = "execute"
	methodResolve = "resolve"
	methodFollow  = "follow"
	methodAsk     = "ask"
)

// request is one JSON document on a line; a connection carries one request and its answer.
type request struct {
	Version int    `json:"version"`
	Method  string `json:"method"`
	// Order is what execute carries out.
	Order *order `json:"order,omitempty"`
	// Process and Digests are what resolve looks for.
	Process *process `json:"process,omitempty"`
	Digests bool     `json:"digests,omitempty"`
	// Orders are what follow asks about.
	Orders []order `json:"orders,omitempty"`
	// Ask names what a person asks, Params its particulars.
	Ask    string          `json:"ask,omitempty"`
	Params json.RawMessage `json:"params,omitempty"`
}

// answer is the other line.
type answer struct {
	Receipt  *receipt        `json:"receipt,omitempty"`
	Process  *process        `json:"process,omitempty"`
	Progress []progress      `json:"progress,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    *failure        `json:"error,omitempty"`
}

// order is what an executor needs of bridge.Order.
type order struct {
	ID       string          `json:"id"`
	Host     string          `json:"host"`
	Task     bridge.Kind     `json:"task"`
	Params   json.RawMessage `json:"params,omitempty"`
	Subject  *process        `json:"subject,omitempty"`
	For      time.Duration   `json:"for,omitempty"` // nanoseconds
	NotAfter time.Time       `json:"not_after,omitzero"`
	Rule     string          `json:"rule,omitempty"`
	Actor    string          `json:"actor,omitempty"`
	State    bridge.State    `json:"state,omitempty"`
	Ref      string          `json:"ref,omitempty"`
}

// process is bridge.Process.
type process struct {
	PID         int       `json:"pid,omitempty"`
	Start       uint64    `json:"start,omitempty"`
	Started     time.Time `json:"started,omitzero"`
	Name        string    `json:"name,omitempty"`
	Path        string    `json:"path,omitempty"`
	MD5         string    `json:"md5,omitempty"`
	SHA256      string    `json:"sha256,omitempty"`
	CommandLine string    `json:"command_line,omitempty"`
	ParentName  string    `json:"parent_name,omitempty"`
	ParentPath  string    `json:"parent_path,omitempty"`
	Tree        bool      `json:"tree,omitempty"`
}

type receipt struct {
	State  bridge.State `json:"state"`
	Ref    string       `json:"ref,omitempty"`
	Detail string       `json:"detail,omitempty"`
}

type progress struct {
	OrderID string       `json:"order"`
	State   bridge.State `json:"state"`
	Detail  string       `json:"detail,omitempty"`
}

// failure is bridge.ExecError; Class is its word.
type failure struct {
	Class  string        `json:"class"`
	Reason bridge.Reason `json:"reason,omitempty"`
	Text   string        `json:"text"`
}

func encodeOrder(o bridge.Order) (order, error) {
	w := order{ID: o.ID, Host: o.Host, For: o.For, NotAfter: o.NotAfter, Rule: o.Rule, Actor: o.Actor, State: o.State, Ref: o.Ref}
	if o.Subject != (bridge.Process{}) {
		w.Subject = new(process(o.Subject))
	}
	if o.Task == nil {
		return w, nil
	}
	params, err := bridge.EncodeParams(o.Task)
	if err != nil {
		return w, err
	}
	w.Task, w.Params = o.Task.Kind(), params
	return w, nil
}

// decode reads the order as strictly as one that comes from a rule.
func (w order) decode() (bridge.Order, error) {
	o := bridge.Order{
		ID: w.ID, Host: w.Host, For: w.For, NotAfter: w.NotAfter.UTC(), Rule: w.Rule, Actor: w.Actor, State: w.State, Ref: w.Ref,
	}
	if w.Subject != nil {
		o.Subject = bridge.Process(*w.Subject)
	}
	if w.Task == "" {
		return o, nil
	}
	task, err := bridge.DecodeTask(w.Task, w.Params)
	if err != nil {
		return o, err
	}
	o.Task = task
	return o, nil
}

// classOf returns the class of a word; an unknown word is Unknown, because nobody vouched that nothing happened.
func classOf(word string) bridge.Class {
	for _, c := range []bridge.Class{bridge.Permanent, bridge.Retry, bridge.Unreachable} {
		if c.String() == word {
			return c
		}
	}
	return bridge.Unknown
}

// writeLine sends one document.
func writeLine(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// readLine reads one document of at most limit bytes, strictly.
func readLine(r io.Reader, limit int64, v any) error {
	line, err := bufio.NewReader(io.LimitReader(r, limit+1)).ReadBytes('\n')
	if int64(len(line)) > limit {
		return fmt.Errorf("the document has more than %d bytes", limit)
	}
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one document in a line")
	}
	return nil
}
