package socket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"syscall"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/jobs"
	"github.com/edr-bridge/edr-bridge/peersocket"
)

const (
	// dialTimeout is how long the client waits for a full socket.
	dialTimeout = 5 * time.Second
	// lookTimeout is how long an agent may take for what changes nothing, and for what people ask: it answers such questions from memory, disk
	// and the kernel.
	lookTimeout = 10 * time.Second
	// executeTimeout bounds an order although its own context ends it, because a bridge that has no such end must not wait for good.
	executeTimeout = 30 * time.Minute
)

// errSilent is the cause of the end of a call that the agent took and did not answer.
var errSilent = errors.New("the agent took the call and did not answer in time: look at its log, and restart it when it hangs")

// ErrNoAgent is returned when nobody answers on the socket, and where the system does not tell who connects: no agent has a socket there.
var ErrNoAgent = errors.New("no agent answers on its socket")

// Client is the agent as the bridge sees it. It is safe for many goroutines.
type Client struct {
	path          string
	look, execute time.Duration // how long calls may take
}

var (
	_ bridge.Executor        = (*Client)(nil)
	_ bridge.ProcessResolver = (*Client)(nil)
	_ bridge.Follower        = (*Client)(nil)
	_ bridge.Repeater        = (*Client)(nil)
)

// NewClient returns the client of the agent that listens at path. It connects with each call.
func NewClient(path string) *Client {
	return &Client{path: path, look: lookTimeout, execute: executeTimeout}
}

// Execute has the agent carry out o; see localagent.Agent. Without an agent the error is Unreachable; one that goes away before it answered
// leaves the order Unknown, and so does one that has not answered after 30 min. It blocks until then or until ctx ends.
func (c *Client) Execute(ctx context.Context, o bridge.Order) (bridge.Receipt, error) {
	w, err := encodeOrder(o)
	if err != nil {
		return bridge.Receipt{}, &bridge.ExecError{
			Executor: bridge.ExecutorLocal, OrderID: o.ID, Class: bridge.Permanent, Reason: bridge.ReasonInvalid, Err: err,
		}
	}
	a, err := c.call(ctx, request{Method: methodExecute, Order: &w})
	if err != nil {
		return bridge.Receipt{}, named(err, o.ID)
	}
	if a.Receipt == nil {
		return bridge.Receipt{}, named(&bridge.ExecError{Class: bridge.Unknown, Err: errors.New("the agent's answer holds no receipt")}, o.ID)
	}
	return bridge.Receipt{State: a.Receipt.State, Ref: a.Receipt.Ref, Detail: a.Receipt.Detail}, nil
}

// ResolveProcess has the agent look at a process; see localagent.Agent. It blocks for 10 s at most; the error is Retry then.
func (c *Client) ResolveProcess(ctx context.Context, p bridge.Process, digests bool) (bridge.Process, error) {
	a, err := c.call(ctx, request{Method: methodResolve, Process: new(process(p)), Digests: digests})
	if err == nil && a.Process == nil {
		err = &bridge.ExecError{Class: bridge.Permanent, Err: errors.New("the agent's answer holds no process")}
	}
	if err != nil {
		return bridge.Process{}, named(err, "")
	}
	return bridge.Process(*a.Process), nil
}

// Follow asks the agent how orders it accepted go on. It blocks for 10 s at most; the error is Retry then.
func (c *Client) Follow(ctx context.Context, orders []bridge.Order) ([]bridge.Progress, error) {
	if len(orders) == 0 {
		return nil, nil
	}
	req := request{Method: methodFollow}
	for _, o := range orders {
		o.Task = nil // what was asked for is known by the id
		w, err := encodeOrder(o)
		if err != nil {
			return nil, named(err, o.ID)
		}
		req.Orders = append(req.Orders, w)
	}
	a, err := c.call(ctx, req)
	told := make([]bridge.Progress, 0, len(a.Progress))
	for _, p := range a.Progress {
		told = append(told, bridge.Progress(p))
	}
	if err != nil {
		return told, named(err, "")
	}
	return told, nil
}

// Repeats reports whether the agent remembers orders of this kind.
func (c *Client) Repeats(k bridge.Kind) bool { return jobs.Remembers(k) }

// Ask asks the agent what it was told to answer people, and fills in out (nil = the answer does not matter). The error wraps ErrNoAgent when nobody
// answers. It blocks for 10 s at most, or until ctx ends; an agent that went away or kept
// silent leaves it Unknown, because some of what people ask has an effect.
func (c *Client) Ask(ctx context.Context, what string, params, out any) error {
	req := request{Method: methodAsk, Ask: what}
	if params != nil {
		b, err := json.Marshal(params)
		if err != nil {
			return err
		}
		req.Params = b
	}
	a, err := c.call(ctx, req)
	if err != nil || out == nil {
		return err
	}
	return json.Unmarshal(a.Result, out)
}

// call sends one request and reads its answer. Errors are *bridge.ExecError.
func (c *Client) call(ctx context.Context, req request) (answer, error) {
	if cause := context.Cause(ctx); cause != nil {
		return answer{}, &bridge.ExecError{Class: bridge.Retry, Err: fmt.Errorf("not begun: %w", cause)}
	}
	if !peersocket.TellsPeers {
		return answer{}, &bridge.ExecError{Class: bridge.Unreachable, Err: fmt.Errorf("%w: on this system agents have none", ErrNoAgent)}
	}
	wait := c.look
	if req.Method == methodExecute {
		wait = c.execute
	}
	ctx, cancel := context.WithTimeoutCause(ctx, wait, errSilent)
	defer cancel()
	req.Version = version
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", c.path)
	if err != nil {
		return answer{}, c.noAnswer(ctx, err)
	}
	defer func() { _ = conn.Close() }()
	// Whoever could make the socket's folder his own would tell the bridge that everything is done.
	if uid, err := peersocket.PeerUID(conn); err != nil || uid != 0 && int64(uid) != int64(ownUID()) {
		return answer{}, &bridge.ExecError{Class: bridge.Unreachable, Err: errors.Join(fmt.Errorf("%w at %s: user %d answers there, who is neither root nor this user", ErrNoAgent, c.path, uid), err)}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	// A refused user is told before the request is read, so an error of writing does not end the call.
	werr := writeLine(conn, req)
	var a answer
	if err := readLine(conn, maxAnswer, &a); err != nil {
		class := bridge.Unknown
		if req.Method == methodFollow || req.Method == methodResolve { // they change nothing
			class = bridge.Retry
		}
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		} else if errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("the agent closed the connection before it answered")
		}
		return a, &bridge.ExecError{Class: class, Err: errors.Join(fmt.Errorf("agent at %s: %w", c.path, err), werr)}
	}
	if a.Error != nil {
		return a, &bridge.ExecError{Executor: bridge.ExecutorLocal, Class: classOf(a.Error.Class), Reason: a.Error.Reason, Err: errors.New(a.Error.Text)}
	}
	return a, nil
}

// noAnswer says what to do when nobody took the connection.
func (c *Client) noAnswer(ctx context.Context, err error) error {
	class := bridge.Unreachable
	switch {
	case context.Cause(ctx) != nil:
		class, err = bridge.Retry, fmt.Errorf("not begun: %w", context.Cause(ctx))
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		err = fmt.Errorf("%w at %s: start it (edr-bridge agent run, or systemctl start edr-bridge-agent)", ErrNoAgent, c.path)
	case errors.Is(err, fs.ErrPermission):
		err = fmt.Errorf("the agent's socket %s may not be opened by this user: add it to the socket's group (local.group)", c.path)
	}
	return &bridge.ExecError{Class: class, Err: err}
}

// named puts executor and order into an error of call.
func named(err error, orderID string) error {
	ee, ok := errors.AsType[*bridge.ExecError](err)
	if !ok {
		return &bridge.ExecError{Executor: bridge.ExecutorLocal, OrderID: orderID, Class: bridge.Permanent, Err: err}
	}
	return &bridge.ExecError{Executor: bridge.ExecutorLocal, OrderID: orderID, Class: ee.Class, Reason: ee.Reason, Err: ee.Err}
}
