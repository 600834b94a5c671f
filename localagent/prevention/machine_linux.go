package prevention

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// machine is the agent's side of the guard: it keeps a listener process running and tells it what to do.
type machine struct {
	cfg *Config
	// mu guards the rest.
	mu       sync.Mutex
	link     *link // nil = no listener answers
	last     Status
	restarts int
	trouble  string
	lost     uint64 // reports nobody took here
	reports  chan Denial
}

func newMachine(cfg *Config) *machine {
	return &machine{cfg: cfg, reports: make(chan Denial, maxReports)}
}

func (m *machine) running() bool { return m.current() != nil }

func (m *machine) current() *link {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.link
}

// apply makes the listener read the stored rules, and answers what keeps the one of this id from being in effect; empty = none.
func (m *machine) apply(ctx context.Context, _ []Rule, added string) error {
	return m.tell(ctx, ask{Do: doReload, Rule: added})
}

func (m *machine) resume(ctx context.Context) error { return m.tell(ctx, ask{Do: doResume}) }

func (m *machine) tell(ctx context.Context, a ask) error {
	l := m.current()
	if l == nil {
		return errors.New("the guard does not run: start the agent")
	}
	s, err := l.ask(ctx, a)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = *s.Status
	return nil
}

// status fills in what the listener says, or said last.
func (m *machine) status(ctx context.Context, s *Status) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	err := m.tell(ctx, ask{Do: doStatus})
	m.mu.Lock()
	defer m.mu.Unlock()
	mode, rules, disabled := s.Mode, s.Rules, s.Disabled
	*s = m.last
	s.Mode, s.Rules, s.Disabled, s.Running, s.Restarts = mode, rules, disabled, m.link != nil, m.restarts
	s.Dropped += m.lost
	switch {
	case !s.Running:
		s.PID, s.LastError = 0, m.trouble
	case err != nil:
		s.LastError = err.Error()
	case s.LastError == "":
		s.LastError = m.trouble
	}
}

// gaps says what a rule does not cover; nil = any rule.
func (m *machine) gaps(r *Rule) []string {
	var gaps []string
	if r == nil || r.Path == "" {
		gaps = append(gaps, "an interpreter, loader or viewer that opens a file (bash FILE, ld.so FILE) known by its digest alone, "+
			"until that file was executed directly once since the guard started: give the path as well")
	}
	if r == nil || r.Path != "" {
		gaps = append(gaps, "a file put at the path, opened by an interpreter before it is marked (milliseconds; 2 seconds when a folder above is renamed)")
	}
	if r == nil || r.Path != "" && !r.CaseSensitive {
		gaps = append(gaps, "an interpreter that opens a file whose folders are spelled in another case than the folders that were there when the rule came")
	}
	if r == nil || r.digest() != "" {
		gaps = append(gaps, fmt.Sprintf("the first execution of a file that takes more than %s to hash, or is written to meanwhile, and files over 4 GiB", m.cfg.Deadline))
	}
	gaps = append(gaps, "programs in memory (memfd_create), processes that run already, "+
		"and file systems the listener cannot see or does not watch (network, FUSE, those of other mount namespaces)")
	return gaps
}

// probe asks the kernel for a group and for a mark on a file nobody else has.
func (m *machine) probe(context.Context) (string, error) {
	g, err := newGroup(Block)
	if err != nil {
		if errors.Is(err, unix.EPERM) {
			return "", fmt.Errorf("%w: root (CAP_SYS_ADMIN in the initial user namespace) is needed", err)
		}
		return "", fmt.Errorf("%w: the kernel needs CONFIG_FANOTIFY", err)
	}
	defer g.close()
	fd, err := unix.MemfdCreate("edr-bridge-probe", unix.MFD_CLOEXEC)
	if err != nil {
		return "", os.NewSyscallError("memfd_create", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := g.markFile(fd); err != nil {
		return "", fmt.Errorf("%w: the kernel needs CONFIG_FANOTIFY_ACCESS_PERMISSIONS", os.NewSyscallError("fanotify_mark", err))
	}
	if len(m.cfg.Listener) == 0 {
		return "", errors.New("no command for the listener process is configured")
	}
	return "fanotify asks before files are executed", nil
}

// settle refuses paths of protected files, of links, of folders, and on file systems that are never looked at. Folders on the way that are
// links are replaced by what they lead to, once and for all: the kernel names files by their real folders, and a link that is turned
// around must not turn the rule. Without regard to case the folders are spelled as they are.
func (m *machine) settle(_ context.Context, protected Protected, r Rule) (Rule, error) {
	if r.Path == "" {
		return r, nil
	}
	all, err := files.Mounts()
	if err != nil && !errors.Is(err, files.ErrMountsPartial) {
		return Rule{}, verdict.Untouched("%w", err)
	}
	at := newPlaces(all)
	refused := func(err error) error {
		switch {
		case errors.Is(err, errServed):
			return verdict.Refuse(bridge.ReasonUnsupported, "params.path: %w; give the digest alone, or send the order through KSC", err)
		case errors.Is(err, errMoved):
			return verdict.Untouched("%w", err)
		default:
			return verdict.Hopeless("%w", err)
		}
	}
	given := r.Path
	if r.Path, err = at.resolve(given, !r.CaseSensitive); err != nil {
		return Rule{}, refused(err)
	}
	names := []string{r.Path}
	if !r.CaseSensitive {
		if lower, err := at.resolve(strings.ToLower(given), false); err == nil {
			names = append(names, lower)
		}
		names = append(names, at.spellings(r.Path)...)
	}
	for _, name := range names {
		if why := at.why(name); why != "" {
			if name == r.Path {
				return Rule{}, refused(served(name, why))
			}
			continue
		}
		if reason, why := protected.ByPath(name); reason != bridge.ReasonNone {
			return Rule{}, verdict.Refuse(reason, "%s is never denied: %s", verdict.Shown(r.Path), why)
		}
		st, err := at.stat(name)
		switch {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
			continue
		case errors.Is(err, errServed), errors.Is(err, errMoved):
			return Rule{}, refused(err)
		case err != nil:
			return Rule{}, verdict.Hopeless("look at %s: %w", verdict.Shown(name), err)
		}
		if reason, why := protected.ByID(files.ID{Dev: st.Dev, Ino: st.Ino}); reason != bridge.ReasonNone {
			return Rule{}, verdict.Refuse(reason, "%s is never denied: %s", verdict.Shown(name), why)
		}
		if name == r.Path {
			if err := nameable(at, name, st.Mode); err != nil {
				return Rule{}, err
			}
		}
	}
	r.ID = r.id()
	return r, nil
}

// nameable refuses what a rule by path would never meet.
func nameable(at *places, name string, mode uint32) error {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return nil
	case unix.S_IFLNK:
		to := "nowhere"
		if real, err := at.resolve(path.Join(name, "x"), false); err == nil {
			to = path.Dir(real)
		}
		return verdict.Refuse(bridge.ReasonInvalid, "params.path: %s is a link, and may lead elsewhere tomorrow: name the file it leads to (%s)",
			verdict.Shown(name), verdict.Shown(to))
	case unix.S_IFDIR:
		return verdict.Refuse(bridge.ReasonInvalid, "params.path: %s is a folder: name one file", verdict.Shown(name))
	default:
		return verdict.Refuse(bridge.ReasonInvalid, "params.path: %s is no regular file", verdict.Shown(name))
	}
}

// spellings returns the paths in the folder of name that differ from it in the case of the last name only.
func (p *places) spellings(name string) []string {
	names, err := p.names(path.Dir(name))
	if err != nil {
		return nil
	}
	var found []string
	for _, n := range names {
		if other := path.Join(path.Dir(name), n); other != name && folded(other) == folded(name) {
			found = append(found, other)
		}
	}
	return found
}

// trusted reports whether somebody else can have written the stored rules: file and folder must be the agent's, and nobody else may
// write to them.
func trusted(names ...string) error {
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return fmt.Errorf("%s: %w", verdict.Shown(name), err)
		}
		if int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 || st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return fmt.Errorf("%s belongs to another user, others may write to it, or it is a link: its rules are not believed; "+
				"look at them, then chown it to the agent's user and chmod it to 0700 (folder) or 0600 (file)", verdict.Shown(name))
		}
	}
	return nil
}
