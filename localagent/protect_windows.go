package localagent

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/firewall"
	"github.com/edr-bridge/edr-bridge/localagent/safety"
)

// protected returns why the pinned process must not be ended, or ReasonNone; an error means that it cannot be told,
// and then nothing may be done.
func (a *Agent) protected(_ context.Context, p *pinned) (bridge.Reason, string, error) {
	own, err := a.own.get()
	if err != nil {
		return bridge.ReasonNone, "", err
	}
	switch start, ancestor := own.ancestors[uint32(p.pid)]; { //nolint:gosec // checkPID bounds it
	case p.pid == os.Getpid():
		return bridge.ReasonProtectedProcess, "self: it is this agent", nil
	case ancestor && start == p.start:
		return bridge.ReasonProtectedProcess, "ancestor: this agent was started by it", nil
	case strings.EqualFold(p.image, own.image):
		return bridge.ReasonProtectedProcess, "own program: it runs the program of this agent", nil
	}
	critical, err := isCritical(p.handle)
	if err != nil {
		return bridge.ReasonNone, "", err
	}
	if critical {
		return bridge.ReasonProtectedProcess, "critical process: the system stops when it ends", nil
	}
	// Besides the table, whatever the system itself calls critical is protected.
	if e, hit, err := safety.Covers(safety.KindProcess, p.image); err != nil {
		return bridge.ReasonNone, "", err
	} else if hit {
		return bridge.ReasonProtectedProcess, e.Name + ": " + e.Why, nil
	}
	if a.cfg.Protected != nil {
		if reason, why := a.cfg.Protected(p.image); reason != bridge.ReasonNone {
			return reason, why, nil
		}
	}
	return bridge.ReasonNone, "", nil
}

// isCritical asks the system. Source: learn.microsoft.com, IsProcessCritical, Windows 8.1 and later.
func isCritical(h windows.Handle) (bool, error) {
	var critical int32
	proc := windows.NewLazySystemDLL("kernel32.dll").NewProc("IsProcessCritical")
	if err := proc.Find(); err != nil {
		return false, fmt.Errorf("ask whether the process is critical: %w", err)
	}
	ok, _, err := proc.Call(uintptr(h), uintptr(unsafe.Pointer(&critical))) //nolint:gosec // an out parameter
	if ok == 0 {
		return false, fmt.Errorf("ask whether the process is critical: %w", err)
	}
	return critical != 0, nil
}

// platform is what the agent keeps on Windows.
type platform struct {
	own    onceFacts
	images imageTable
}

type ownFacts struct {
	image     string
	ancestors map[uint32]uint64
}

// onceFacts reads ownFacts when they are first needed. Its zero value is ready.
type onceFacts struct {
	// mu guards facts.
	mu    sync.Mutex
	facts *ownFacts
}

func (o *onceFacts) get() (*ownFacts, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.facts != nil {
		return o.facts, nil
	}
	// By the same words as of others: os.Executable says what was typed, short names too.
	self := pinned{pid: os.Getpid(), handle: windows.CurrentProcess()}
	if err := self.identify(); err != nil {
		return nil, fmt.Errorf("own program: %w", err)
	}
	f := &ownFacts{image: self.image, ancestors: make(map[uint32]uint64)}
	parents := make(map[uint32]uint32)
	if err := eachProcess(func(e *windows.ProcessEntry32) bool { parents[e.ProcessID] = e.ParentProcessID; return true }); err != nil {
		return nil, err
	}
	child := ^uint64(0)
	for pid := parents[uint32(os.Getpid())]; pid > 4; pid = parents[pid] { //nolint:gosec // a process id
		p, err := pin(int(pid))
		if err != nil {
			break
		}
		start := p.start
		p.close()
		// A parent is older than its child, else its number was given away.
		if start > child {
			break
		}
		f.ancestors[pid], child = start, start
	}
	o.facts = f
	return f, nil
}

// imageTable is empty: images are compared by path, which the system keeps from being replaced while they run.
type imageTable struct{}

func (*imageTable) refresh(time.Time) {}

func (*imageTable) refreshIfOld(time.Time) {}

// Probe looks for what the agent needs from the machine and answers for each. It changes nothing.
func (a *Agent) Probe(ctx context.Context) []Capability {
	admin := Capability{Name: "administrator", OK: windows.GetCurrentProcessToken().IsElevated(), Detail: "runs with elevated rights"}
	if !admin.OK {
		admin.Detail = "does not run as SYSTEM or administrator: only own processes can be ended"
	}
	list := Capability{Name: "processes", OK: true, Detail: "processes can be listed"}
	if err := eachProcess(func(*windows.ProcessEntry32) bool { return false }); err != nil {
		list.OK, list.Detail = false, err.Error()
	}
	filter := Capability{Name: "packet filter", OK: true}
	var err error
	if filter.Detail, err = firewall.ProbeTables(ctx); err != nil {
		filter.OK, filter.Detail = false, err.Error()
	}
	return []Capability{admin, probePrivileges(), list, filter}
}
