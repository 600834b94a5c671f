package localagent

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// platform is what the agent keeps on Linux.
type platform struct {
	own    onceFacts
	images imageTable
}

// ownFacts is what the agent knows of itself. Ancestors have their start times, because they may end and their
// numbers be given away; no process becomes an ancestor later.
type ownFacts struct {
	pid       int
	exe       files.ID
	size      int64
	ancestors map[int]uint64
}

// onceFacts reads ownFacts when they are first needed. Its zero value is ready.
type onceFacts struct {
	// mu makes one goroutine read, facts is set once.
	mu    sync.Mutex
	facts atomic.Pointer[ownFacts]
}

func (o *onceFacts) get() (*ownFacts, error) {
	if f := o.facts.Load(); f != nil {
		return f, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	f, err := readOwnFacts()
	if err != nil {
		return nil, fmt.Errorf("who this agent is: %w", err)
	}
	o.facts.Store(f)
	return f, nil
}

func readOwnFacts() (*ownFacts, error) {
	f := &ownFacts{pid: os.Getpid(), ancestors: make(map[int]uint64)}
	self, err := pin(f.pid)
	if err != nil {
		return nil, err
	}
	defer self.close()
	f.exe, f.size = self.exe, self.size
	for pid := self.ppid; pid > 0; {
		// The images of ancestors do not matter, and hardened systems hide that of process 1 even from root.
		p, err := open(pid)
		if err == nil {
			err = p.readStat()
			p.close()
		}
		if errors.Is(err, errGone) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("ancestor %d: %w", pid, err)
		}
		f.ancestors[pid], pid = p.start, p.ppid
	}
	return f, nil
}
