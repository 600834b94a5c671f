package store_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// machine is one endpoint of the world the policy tests play in, with everything it is called.
type machine struct {
	guid, netbios, fqdn, address, group string
	own                                 bool // the bridge runs there
}

// machines are the endpoints there are. The group of the laptop cannot be read.
func machines() []machine {
	return []machine{
		{"0ecd7a1c-0001-4a5b-8c0d-000000000001", "WS-1", "ws-1.corp.local", "10.0.1.11", "Managed devices/Desks", false},
		{"0ecd7a1c-0002-4a5b-8c0d-000000000002", "WS-2", "ws-2.corp.local", "10.0.1.12", "Managed devices/Desks/Second floor", false},
		{"0ecd7a1c-0003-4a5b-8c0d-000000000003", "DC01", "dc01.corp.local", "10.0.5.10", "Managed devices/Servers/Domain", false},
		{"0ecd7a1c-0004-4a5b-8c0d-000000000004", "SRV-DB", "srv-db.corp.local", "10.0.5.20", "Managed devices/Servers", false},
		{"0ecd7a1c-0005-4a5b-8c0d-000000000005", "BRIDGE", "bridge.corp.local", "10.0.9.9", "Managed devices/Security", true},
		{"0ecd7a1c-0006-4a5b-8c0d-000000000006", "LAP-7", "lap-7.branch.local", "10.7.0.7", "", false},
		{"0ecd7a1c-0007-4a5b-8c0d-000000000007", "KSC01", "ksc01.corp.local", "10.0.5.1", "Managed devices/Security", false},
		{"0ecd7a1c-0008-4a5b-8c0d-000000000008", "SIEM", "siem.corp.local", "10.0.8.8", "Managed devices/Security", false},
	}
}

const ownMachine = 4

func (m machine) names() []string { return []string{m.fqdn, m.netbios, m.address, m.guid} }

// spellings are the ways to write a name that some product uses.
func spellings(name string) []string {
	return []string{
		name, strings.ToUpper(name), strings.ToLower(name), name + ".", `CORP\` + name, "[" + name + "]", "::ffff:" + name, " " + name,
		strings.ToUpper(name[:1]) + strings.ToLower(name[1:]),
	}
}

// whoIs returns the machine a text stands for, with more good will than any product has; -1 = none.
func whoIs(text string) int {
	text = strings.ToLower(strings.TrimSpace(text))
	text = strings.TrimSuffix(text[strings.LastIndexByte(text, '\\')+1:], ".")
	text = strings.Trim(text, "[]")
	if addr, err := netip.ParseAddr(text); err == nil {
		text = addr.Unmap().String()
	}
	for i, m := range machines() {
		for _, name := range m.names() {
			if strings.EqualFold(name, text) {
				return i
			}
		}
	}
	return -1
}

func ownIdentity() bridge.Identity {
	m := machines()[ownMachine]
	return bridge.Identity{Names: []string{m.fqdn, m.netbios, m.guid}, Addresses: []netip.Addr{netip.MustParseAddr(m.address)}}
}

// answer is what an executor does with one call.
type answer struct {
	// Word is ok, lost, gone, refused, busy or unreachable: the answer got lost after (lost) or before (gone) the effect.
	Word string
	// Takes is how long the call lasts after it was judged.
	Takes time.Duration
}

// site is KSC, the local agent and the processes of the world.
type site struct {
	groups  bool // administration groups are told
	answers []answer
	finds   []bool         // whether the nth search works
	follows []bridge.State // what is told of accepted tasks, in turn; empty = nothing
	// judge is asked before each effect, done is told when nothing came of it.
	judge func(o bridge.Order, executor string, machine int)
	done  func(o bridge.Order)

	mu       sync.Mutex // guards everything below
	calls    int
	searches int
	told     int
	there    map[string]bool // effects by order and second
	isolated map[int]bool
	last     map[int]int // the last action sent to a machine
}

func newSite(answers []answer, finds []bool, follows []bridge.State) *site {
	return &site{answers: answers, finds: finds, follows: follows, there: map[string]bool{}, isolated: map[int]bool{}, last: map[int]int{}}
}

func (s *site) next() answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.calls <= len(s.answers) {
		return s.answers[s.calls-1]
	}
	return answer{Word: "ok"}
}

func (s *site) happen(o bridge.Order, m int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.there[o.ID+o.Intent.Second.String()] = true
	if iso, is := o.Task.(bridge.IsolateHost); is {
		s.isolated[m] = iso.Action == bridge.IsolationOn
		s.last[m] = iso.Action
	}
}

// run carries out an order as the next answer says.
func (s *site) run(ctx context.Context, executor string, o bridge.Order, m int) error {
	s.judge(o, executor, m)
	a := s.next()
	nothing := a.Word != "ok" && a.Word != "lost"
	if !nothing {
		s.happen(o, m)
	}
	if a.Takes > 0 {
		select {
		case <-time.After(a.Takes):
		case <-ctx.Done():
			if a.Word = "gone"; !nothing {
				a.Word = "lost"
			}
		}
	}
	if nothing {
		s.done(o)
	}
	switch a.Word {
	case "ok":
		return nil
	case "refused":
		return execError(executor, o, bridge.Permanent, "")
	case "busy":
		return execError(executor, o, bridge.Retry, "")
	case "unreachable":
		return execError(executor, o, bridge.Unreachable, bridge.ReasonUnreachable)
	default:
		return execError(executor, o, bridge.Unknown, "")
	}
}

func execError(executor string, o bridge.Order, class bridge.Class, reason bridge.Reason) error {
	return &bridge.ExecError{Executor: executor, OrderID: o.ID, Class: class, Reason: reason, Err: errors.New(class.String())}
}

// server is the site as KSC.
type server struct{ *site }

var (
	_ bridge.Intender   = server{}
	_ bridge.Reconciler = server{}
	_ bridge.Follower   = server{}
)

// Intend resolves the host and fixes the intent; when it may not wait it does not know the host.
func (s server) Intend(_ context.Context, o bridge.Order, wait bool) (bridge.Intent, bool, error) {
	i := whoIs(o.Host)
	if i < 0 {
		return bridge.Intent{}, false, execError(bridge.ExecutorKSC, o, bridge.Permanent, bridge.ReasonHostNotFound)
	}
	if !wait && len(o.ID)%2 == 0 && o.ID[len(o.ID)-1]%3 == 0 {
		return bridge.Intent{}, false, nil
	}
	m := machines()[i]
	params, err := bridge.EncodeParams(o.Task)
	if err != nil {
		return bridge.Intent{}, false, execError(bridge.ExecutorKSC, o, bridge.Permanent, bridge.ReasonInvalid)
	}
	names := m.names()
	if s.groups && m.group != "" {
		names = append(names, bridge.GroupPrefix+m.group)
	}
	body := fmt.Sprintf("%s %s %s", m.guid, o.Task.Kind(), params)
	return bridge.Intent{Target: m.guid, Names: names, Second: time.Now().UTC().Truncate(time.Second), Body: body}, true, nil
}

// Execute acts on the machine of the intent, whatever the order says.
func (s server) Execute(ctx context.Context, o bridge.Order) (bridge.Receipt, error) {
	m := slices.IndexFunc(machines(), func(m machine) bool { return m.guid == o.Intent.Target })
	if err := s.run(ctx, bridge.ExecutorKSC, o, m); err != nil {
		return bridge.Receipt{}, err
	}
	return bridge.Receipt{State: bridge.StateAccepted, Ref: "1"}, nil
}

// Reconcile tells the truth, when the search works.
func (s server) Reconcile(_ context.Context, o bridge.Order) (bridge.Receipt, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.searches++
	if s.searches <= len(s.finds) && !s.finds[s.searches-1] {
		return bridge.Receipt{}, false, execError(bridge.ExecutorKSC, o, bridge.Unreachable, bridge.ReasonUnreachable)
	}
	if !s.there[o.ID+o.Intent.Second.String()] {
		return bridge.Receipt{}, false, nil
	}
	return bridge.Receipt{State: bridge.StateAccepted, Ref: "1"}, true, nil
}

// Follow tells of each order what comes next in follows.
func (s server) Follow(_ context.Context, orders []bridge.Order) ([]bridge.Progress, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []bridge.Progress
	for _, o := range orders {
		if s.told++; s.told > len(s.follows) || s.follows[s.told-1] == "" {
			continue
		}
		out = append(out, bridge.Progress{OrderID: o.ID, State: s.follows[s.told-1]})
	}
	return out, nil
}

// agent is the site as the local agent.
type agent struct{ *site }

// Execute acts on the machine the bridge runs on.
func (a agent) Execute(ctx context.Context, o bridge.Order) (bridge.Receipt, error) {
	if err := a.run(ctx, bridge.ExecutorLocal, o, ownMachine); err != nil {
		return bridge.Receipt{}, err
	}
	return bridge.Receipt{State: bridge.StateDone}, nil
}

// images are the processes of the machine the bridge runs on.
func images() map[int]string {
	return map[int]string{100: "/tmp/evil", 101: "/opt/x/klnagent", 102: "/usr/sbin/sshd", 103: "/opt/agent/bin/helper", 104: "/home/u/evil"}
}

// ResolveProcess finds a process by its number.
func (a agent) ResolveProcess(_ context.Context, p bridge.Process, _ bool) (bridge.Process, error) {
	image, lives := images()[p.PID]
	if !lives || p.Path != "" && p.Path != image {
		return p, execError(bridge.ExecutorLocal, bridge.Order{}, bridge.Permanent, bridge.ReasonProcessGone)
	}
	p.Path, p.Name, p.Start = image, bridge.BaseName(image), uint64(1000+p.PID)
	return p, nil
}
