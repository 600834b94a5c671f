package callout

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

const (
	handOverBudget    = 35 * time.Millisecond
	handOverMaxAnswer = 64 << 10
)

// ErrNotKept says that a call reached no bridge and could not be spooled: nothing will come of it (exit code 9).
var ErrNotKept = errors.New("the call could not be kept")

// HandOverConfig says where a call goes. Socket or Spool is required.
type HandOverConfig struct {
	// Socket is the path of the bridge's socket for calls, Spool its spool directory.
	Socket, Spool string
	// Budget is how long the bridge may take to answer before the call is spooled: 0 = 35 ms, negative = do not ask it.
	Budget time.Duration
	// Limits say when the spool directory is full.
	Limits SpoolLimits
	// Now is the clock; nil = time.Now.
	Now func() time.Time
}

// Result says what became of a call.
type Result struct {
	// ID is the id of the call.
	ID string
	// State is the state of its order (bridge.State), or CallSpooled, CallStored, CallNone.
	State string
	// OrderID names the order, CoveredBy the order a duplicate is covered by.
	OrderID, CoveredBy string
	// Reason is the closed word (bridge.Reason) for why it stands so, Detail says it in words.
	Reason, Detail string
	// Spooled says that a bridge takes it up later; Detail then says why it was not asked or did not answer.
	Spooled bool
}

// CallError says that the bridge read a call and does not take it: sent again it would be refused again. It was not spooled.
type CallError struct {
	// Status is the HTTP status, Problem what the bridge says, fit to be printed.
	Status  int
	Problem string
}

// Error returns what the bridge says.
func (e *CallError) Error() string { return "the bridge refuses the call: " + e.Problem }

// HandOver gives a call to the bridge over its socket, or keeps it in the spool directory when no bridge answers within the
// budget. It returns within 50 ms on a quiet machine and fills in ID and At where they are empty. Calls with an event id to
// fetch are always spooled. When both ways were taken, because the answer came too late, the bridge knows the call by its id.
// Errors: *CallError, or one that wraps ErrNotKept (and ErrSpoolFull).
func HandOver(ctx context.Context, cfg HandOverConfig, call Call) (Result, error) {
	now := cfg.Now
	if now == nil {
		now = time.Now
	}
	if call.ID == "" {
		call.ID = NewCallID()
	}
	if call.At.IsZero() {
		call.At = now().UTC()
	}
	budget := cmp.Or(cfg.Budget, handOverBudget)
	why := errors.New("no socket is set")
	switch {
	case call.EventID != "" && call.Event == nil:
		why = errors.New("its event has to be fetched first")
	case cfg.Socket != "" && budget < 0:
		why = errors.New("the bridge was not asked")
	case cfg.Socket != "":
		result, err := handOverSocket(ctx, cfg.Socket, budget, call)
		if err == nil {
			return result, nil
		}
		if _, refused := errors.AsType[*CallError](err); refused {
			return Result{ID: call.ID}, err
		}
		why = err
	}
	if cfg.Spool == "" {
		return Result{ID: call.ID}, fmt.Errorf("%w: %w, and no spool directory is set", ErrNotKept, why)
	}
	if err := Spool(cfg.Spool, cfg.Limits, call); err != nil {
		return Result{ID: call.ID}, fmt.Errorf("%w: %w; %w", ErrNotKept, why, err)
	}
	return Result{ID: call.ID, State: CallSpooled, Detail: argsDisplay(why.Error()), Spooled: true}, nil
}

// handOverSocket is one HTTP/1.1 request written by hand: an HTTP client would cost more than the rest of the process.
func handOverSocket(ctx context.Context, path string, budget time.Duration, call Call) (Result, error) {
	doc, err := call.MarshalJSON()
	if err != nil {
		return Result{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return Result{}, fmt.Errorf("no bridge answers: %w", err)
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return Result{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	request := make([]byte, 0, len(doc)+200)
	request = append(request, "POST "+RequestPath+" HTTP/1.1\r\nHost: kuma\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: "...)
	request = strconv.AppendInt(request, int64(len(doc)), 10)
	request = append(append(request, "\r\n\r\n"...), doc...)
	if _, err := conn.Write(request); err != nil {
		return Result{}, fmt.Errorf("the bridge did not take the call in time: %w", err)
	}
	answer, err := io.ReadAll(io.LimitReader(conn, handOverMaxAnswer))
	if err != nil {
		return Result{}, fmt.Errorf("the bridge did not answer in time: %w", err)
	}
	return handOverAnswer(answer, call.ID)
}

// handOverAnswer reads a whole response; what is not exactly one of ours counts as no answer.
func handOverAnswer(response []byte, id string) (Result, error) {
	head, body, ok := bytes.Cut(response, []byte("\r\n\r\n"))
	const line = "HTTP/1.1 "
	if !ok || len(head) < len(line)+3 || string(head[:len(line)]) != line {
		return Result{}, errors.New("what answers is no bridge")
	}
	status, err := strconv.Atoi(string(head[len(line) : len(line)+3]))
	if err != nil {
		return Result{}, errors.New("what answers is no bridge")
	}
	// The line end is the last byte of every answer: without it the answer was cut off.
	if !bytes.HasSuffix(body, []byte("\n")) {
		return Result{}, errors.New("the answer of the bridge was cut off")
	}
	var a Answer
	if err := json.Unmarshal(body, &a); err != nil {
		return Result{}, errors.New("the bridge answers something else than expected")
	}
	switch {
	case status == 200 && a.ID == id && a.State != "":
		return Result{ID: id, State: argsDisplay(a.State), OrderID: argsDisplay(a.Order), CoveredBy: argsDisplay(a.Covers), Reason: argsDisplay(a.Reason), Detail: argsDisplay(a.Detail)}, nil
	case status == 400 || status == 403 || status == 413 || status == 422:
		return Result{}, &CallError{Status: status, Problem: argsDisplay(a.Problem)}
	default:
		return Result{}, fmt.Errorf("the bridge answers %d: %s", status, argsDisplay(a.Problem))
	}
}
