package socket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os/user"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/peersocket"
)

const (
	maxConns = 256
	// rootConns are those of them only root gets: whoever may give orders cannot keep people from taking them back.
	rootConns      = 32
	requestTimeout = 10 * time.Second
	answerTimeout  = 10 * time.Second
	// drainTimeout is how long orders under way may take when the server ends.
	drainTimeout = 5 * time.Second
)

// errLeft is the cause of the end of an order whose bridge went away.
var errLeft = errors.New("the bridge closed its connection")

// Agent is what the server gives orders to. Its errors are *bridge.ExecError.
type Agent interface {
	bridge.Executor
	bridge.ProcessResolver
	bridge.Follower
}

// Ask answers what a person asks the agent: params is JSON or nil, the result is marshalled. It must heed ctx.
type Ask func(ctx context.Context, params json.RawMessage) (any, error)

// ServerConfig says who may give orders and where.
type ServerConfig struct {
	// Path is where the socket appears, Group whose members may connect (empty = the group of the process); mode 0660. Both required but Group.
	Path, Group string
	// Users are the accounts (names or numbers) that may give orders. Root and the user of this process always may. Names are looked up for
	// each connection: an agent may start before the accounts are known.
	Users []string
	Agent Agent
	// Asks are what people may ask beside orders, by name.
	Asks map[string]Ask
	// Check judges each order before the agent sees it: never-touch lists and the tasks this machine allows. Nil = nothing more
	// than the agent's own safety table.
	Check  func(o bridge.Order) (bridge.Reason, string)
	Logger *slog.Logger
}

// Server answers on the socket.
type Server struct {
	cfg      ServerConfig
	log      *slog.Logger
	listener *peersocket.Listener
	others   chan struct{} // connections of others than root
}

// NewServer checks cfg and opens nothing.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Path == "" || cfg.Agent == nil {
		return nil, errors.New("agent socket: path and agent are required")
	}
	if len(cfg.Path) > peersocket.MaxPath {
		return nil, fmt.Errorf("agent socket: the path has %d bytes, allowed are %d", len(cfg.Path), peersocket.MaxPath)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, log: cfg.Logger, others: make(chan struct{}, maxConns-rootConns)}, nil
}

// Open makes the socket: who connects before Serve waits. The error wraps peersocket.ErrInUse when somebody answers there already.
func (s *Server) Open(ctx context.Context) error {
	listener, err := peersocket.Listen(ctx, s.cfg.Path, s.cfg.Group, func(err error) {
		s.log.Warn("agent socket: cannot tell who connects, refused", "err", err)
	})
	if err != nil {
		return fmt.Errorf("agent socket %w", err)
	}
	s.listener = listener
	return nil
}

// Close takes the socket away. Serve does so too.
func (s *Server) Close() error {
	if s.listener == nil {
		return nil
	}
	return s.listener.Close()
}

// Serve makes the socket unless Open did, calls stands when it answers, and answers until ctx ends. Then no new order is taken, those under way get 5 s, and what
// is left is told to stop. It returns nil after such an end.
func (s *Server) Serve(ctx context.Context, stands func()) error {
	if s.listener == nil {
		if err := s.Open(ctx); err != nil {
			return err
		}
	}
	listener := s.listener
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	closer := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer closer()
	if stands != nil {
		stands()
	}
	var serving sync.WaitGroup
	slots := make(chan struct{}, maxConns)
	for {
		slots <- struct{}{}
		conn, err := listener.Accept()
		if err != nil {
			<-slots
			if ctx.Err() == nil {
				err = errors.Join(fmt.Errorf("agent socket: %w", err), listener.Close())
			} else {
				err = nil
			}
			drain := time.AfterFunc(drainTimeout, func() { stop(context.Cause(ctx)) })
			serving.Wait()
			drain.Stop()
			return err
		}
		serving.Go(func() {
			defer func() { <-slots }()
			s.serve(work, conn)
		})
	}
}

// serve answers one request.
func (s *Server) serve(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	peer, ok := conn.(*peersocket.Conn)
	if !ok || !s.mayAsk(peer.UID) {
		if ok {
			s.log.Warn("agent socket: a user who may not give orders was refused", "uid", peer.UID)
		}
		s.reply(conn, answer{Error: &failure{
			Class: bridge.Permanent.String(), Reason: bridge.ReasonInvalid,
			Text: "this user may not give orders to the agent: name it in local.users of the agent's settings",
		}})
		return
	}
	if peer.UID != 0 {
		select {
		case s.others <- struct{}{}:
			defer func() { <-s.others }()
		default:
			s.reply(conn, answer{Error: &failure{Class: bridge.Retry.String(), Text: "the agent answers too many calls at once"}})
			return
		}
	}
	var req request
	_ = conn.SetReadDeadline(time.Now().Add(requestTimeout))
	if err := readLine(conn, maxRequest, &req); err != nil {
		s.reply(conn, answer{Error: &failure{Class: bridge.Permanent.String(), Reason: bridge.ReasonInvalid, Text: "request: " + err.Error()}})
		return
	}
	if req.Version != version {
		s.reply(conn, answer{Error: &failure{
			Class: bridge.Permanent.String(), Reason: bridge.ReasonInvalid,
			Text: fmt.Sprintf("bridge and agent are of different versions (protocol %d and %d): install the same one", req.Version, version),
		}})
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var watching sync.WaitGroup
	watching.Go(func() {
		// The bridge says nothing more; whatever comes back from the read, it is not there to hear the answer.
		_, err := conn.Read(make([]byte, 1))
		if err == nil || !errors.Is(err, net.ErrClosed) {
			cancel(errLeft)
		}
	})
	a := s.do(ctx, req, peer.UID)
	s.reply(conn, a)
	_ = conn.Close()
	watching.Wait()
}

func (s *Server) reply(conn net.Conn, a answer) {
	_ = conn.SetWriteDeadline(time.Now().Add(answerTimeout))
	if err := writeLine(conn, a); err != nil && !errors.Is(err, net.ErrClosed) {
		s.log.Warn("agent socket: an answer was not delivered", "err", err)
	}
}

func (s *Server) mayAsk(uid uint32) bool {
	if uid == 0 || int64(uid) == int64(ownUID()) {
		return true
	}
	number := strconv.FormatUint(uint64(uid), 10)
	if slices.Contains(s.cfg.Users, number) {
		return true
	}
	u, err := user.LookupId(number)
	return err == nil && slices.Contains(s.cfg.Users, u.Username)
}

// do carries out one request.
func (s *Server) do(ctx context.Context, req request, uid uint32) answer {
	switch req.Method {
	case methodExecute:
		return s.execute(ctx, req)
	case methodResolve:
		if req.Process == nil {
			return failed(invalid("resolve: no process"))
		}
		p, err := s.cfg.Agent.ResolveProcess(ctx, bridge.Process(*req.Process), req.Digests)
		if err != nil {
			return failed(err)
		}
		return answer{Process: new(process(p))}
	case methodFollow:
		return s.follow(ctx, req)
	case methodAsk:
		return s.ask(ctx, req, uid)
	default:
		return failed(invalid("there is no method %q", req.Method))
	}
}

func (s *Server) execute(ctx context.Context, req request) answer {
	if req.Order == nil {
		return failed(invalid("execute: no order"))
	}
	o, err := req.Order.decode()
	if err == nil && o.Task != nil {
		err = validate(o)
	}
	if err != nil {
		return failed(invalid("%w", err))
	}
	if s.cfg.Check != nil {
		if reason, why := s.cfg.Check(o); reason != bridge.ReasonNone {
			return failed(&bridge.ExecError{Class: bridge.Permanent, Reason: reason, Err: errors.New(why + ", says the agent")})
		}
	}
	r, err := s.cfg.Agent.Execute(ctx, o)
	if err != nil {
		return failed(err)
	}
	return answer{Receipt: &receipt{r.State, r.Ref, r.Detail}}
}

// validate checks the params again; an order about a process itself needs no other criteria.
func validate(o bridge.Order) error {
	t, ok := o.Task.(bridge.TerminateProcess)
	if ok && o.Subject.PID != 0 && t.Path == "" && t.MD5 == "" && t.SHA256 == "" {
		return nil
	}
	return o.Task.Validate()
}

func (s *Server) follow(ctx context.Context, req request) answer {
	orders := make([]bridge.Order, 0, len(req.Orders))
	for _, w := range req.Orders {
		o, err := w.decode()
		if err != nil {
			return failed(invalid("%w", err))
		}
		orders = append(orders, o)
	}
	told, err := s.cfg.Agent.Follow(ctx, orders)
	a := answer{}
	if err != nil {
		a = failed(err)
	}
	for _, p := range told {
		a.Progress = append(a.Progress, progress(p))
	}
	return a
}

func (s *Server) ask(ctx context.Context, req request, uid uint32) answer {
	f, ok := s.cfg.Asks[req.Ask]
	if !ok {
		return failed(invalid("the agent does not know what %q is", req.Ask))
	}
	result, err := f(ctx, req.Params)
	if err != nil {
		return failed(err)
	}
	b, err := json.Marshal(result)
	if err != nil {
		return failed(err)
	}
	s.log.Debug("agent was asked", "ask", req.Ask, "uid", uid)
	return answer{Result: b}
}

func invalid(format string, args ...any) error {
	return &bridge.ExecError{Class: bridge.Permanent, Reason: bridge.ReasonInvalid, Err: fmt.Errorf(format, args...)}
}

func failed(err error) answer {
	f := &failure{Class: bridge.Permanent.String(), Text: err.Error()}
	if ee, ok := errors.AsType[*bridge.ExecError](err); ok {
		f.Class, f.Reason, f.Text = ee.Class.String(), ee.Reason, ee.Err.Error()
	}
	return answer{Error: f}
}
