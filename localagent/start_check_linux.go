package localagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/kballard/go-shellquote"
	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// maxShebang is how much the kernel reads of the first line of a script (BINPRM_BUF_SIZE, execve(2)).
const maxShebang = 256

// maxArguments bounds the words of an argument string.
const maxArguments = 4096

// prepared is a program that may be started.
type prepared struct {
	path    string
	file    *os.File
	digests files.Digests
	// id is the identity of the executable; script says that the kernel runs another program for it.
	id     files.ID
	script bool
	args   []string
	folder string
	as     *syscall.Credential
}

func (p *prepared) close() { _ = p.file.Close() }

// prepare opens, judges and hashes the executable and splits the arguments. It starts nothing.
func (l *Launcher) prepare(ctx context.Context, t bridge.StartProcess) (_ *prepared, err error) {
	p := &prepared{folder: "/"}
	if p.args, err = splitArguments(t.Arguments); err != nil {
		return nil, verdict.Refuse(bridge.ReasonInvalid, "params.arguments: %w", err)
	}
	if p.as, err = credential(l.cfg.User); err != nil {
		return nil, verdict.Hopeless("run programs as %s: %w", verdict.Shown(l.cfg.User), err)
	}
	if t.WorkingFolder != "" {
		if info, err := os.Stat(t.WorkingFolder); err != nil || !info.IsDir() {
			return nil, verdict.Refuse(bridge.ReasonInvalid, "params.workingFolder: %s is no folder", verdict.Shown(t.WorkingFolder))
		}
		p.folder = path.Clean(t.WorkingFolder)
	}
	if err := p.open(t.ExecutablePath); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if err := p.judge(); err != nil {
		return nil, err
	}
	if p.digests, err = l.trees.digests.Of(ctx, p.file, true, true); err != nil {
		if verr := verdict.Stopped(ctx, "not begun"); verr != nil {
			return nil, verr
		}
		return nil, verdict.Hopeless("digest of %s: %w", verdict.Shown(p.path), err)
	}
	return p, nil
}

// open takes the spelling of the path that leads over no link.
func (p *prepared) open(name string) (err error) {
	for _, spelling := range slices.Backward(spellings(name)) {
		if p.file, err = files.Open(spelling); err == nil {
			p.path = spelling
			return nil
		}
	}
	switch {
	case errors.Is(err, files.ErrLink):
		real, rerr := filepath.EvalSymlinks(name)
		if rerr != nil {
			real = "it leads nowhere"
		}
		return verdict.Refuse(bridge.ReasonInvalid, "%s: %w: name the file itself (%s)", verdict.Shown(name), files.ErrLink, verdict.Shown(real))
	case errors.Is(err, files.ErrNotRegular):
		return verdict.Refuse(bridge.ReasonInvalid, "%s is not a regular file", verdict.Shown(name))
	case errors.Is(err, fs.ErrNotExist):
		return verdict.Hopeless("%s: there is no such file", verdict.Shown(name))
	default:
		return verdict.Hopeless("open %s: %w", verdict.Shown(name), cause(err))
	}
}

// cause is a path error without the path, which comes from an alert.
func cause(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

// judge refuses what is no program, and what somebody else than root, the agent and the user it is to run as could replace: groups
// other than root's can as well.
func (p *prepared) judge() error {
	var st unix.Stat_t
	if err := unix.Fstat(int(p.file.Fd()), &st); err != nil {
		return verdict.Hopeless("look at %s: %w", verdict.Shown(p.path), err)
	}
	p.id = files.ID{Dev: st.Dev, Ino: st.Ino}
	if st.Mode&0o111 == 0 {
		return verdict.Refuse(bridge.ReasonInvalid, "%s may not be executed: nobody has the permission (chmod +x)", verdict.Shown(p.path))
	}
	var head [maxShebang]byte
	n, err := p.file.ReadAt(head[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return verdict.Hopeless("read %s: %w", verdict.Shown(p.path), err)
	}
	if err := p.trusted(p.path, &st, false); err != nil {
		return err
	}
	if err := p.judgeFolders(p.path, unix.Lstat); err != nil {
		return err
	}
	line, script := strings.CutPrefix(string(head[:n]), "#!")
	if p.script = script; !script {
		return nil
	}
	line, _, _ = strings.Cut(line, "\n")
	return p.judgeInterpreter(line)
}

// judgeInterpreter judges what the kernel runs for a script: the file, and the name that leads to it, which may be a link.
func (p *prepared) judgeInterpreter(line string) error {
	words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' || r == 0 })
	if len(words) == 0 {
		return nil // the kernel refuses it
	}
	name := words[0]
	if !path.IsAbs(name) {
		name = path.Join(p.folder, name)
	}
	real, err := filepath.EvalSymlinks(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // so does the kernel
	}
	if err != nil {
		return verdict.Hopeless("the interpreter of %s: %w", verdict.Shown(p.path), cause(err))
	}
	var st unix.Stat_t
	for _, file := range []string{name, real} {
		if err := unix.Lstat(file, &st); err != nil {
			return verdict.Hopeless("look at %s: %w", verdict.Shown(file), err)
		}
		// Whoever owns a link may change it; its permissions mean nothing.
		if err := p.trusted(file, &st, st.Mode&unix.S_IFMT == unix.S_IFLNK); err != nil {
			return err
		}
		if err := p.judgeFolders(file, unix.Stat); err != nil {
			return err
		}
	}
	return nil
}

func (p *prepared) judgeFolders(name string, look func(string, *unix.Stat_t) error) error {
	var st unix.Stat_t
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		if err := look(dir, &st); err != nil {
			return verdict.Hopeless("look at the folder %s: %w", verdict.Shown(dir), err)
		}
		// Where the sticky bit is set only owners replace what is theirs, and the owner of what is in it was looked at before.
		if err := p.trusted(dir, &st, st.Mode&unix.S_ISVTX != 0); err != nil {
			return err
		}
		if dir == "/" {
			return nil
		}
	}
}

func (p *prepared) trusted(name string, st *unix.Stat_t, sticky bool) error {
	if st.Mode&0o002 != 0 && !sticky {
		return verdict.Refuse(bridge.ReasonInvalid, "anybody can write to %s, and so could put another program in its place: chmod o-w", verdict.Shown(name))
	}
	if st.Mode&0o020 != 0 && !sticky {
		if st.Gid != 0 {
			return verdict.Refuse(bridge.ReasonInvalid, "group %d can write to %s, and so could put another program in its place: chmod g-w",
				st.Gid, verdict.Shown(name))
		}
		// With an access list these bits are the most any single user or group on it has (acl(5)).
		n, err := unix.Lgetxattr(name, "system.posix_acl_access", nil)
		if n > 0 || err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
			return verdict.Refuse(bridge.ReasonInvalid, "somebody on the access list of %s can write to it, and so could put another program "+
				"in its place: chmod g-w", verdict.Shown(name))
		}
	}
	owners := []uint32{0, uint32(os.Geteuid())} //nolint:gosec // a user id
	if p.as != nil {
		owners = append(owners, p.as.Uid)
	}
	if !slices.Contains(owners, st.Uid) {
		return verdict.Refuse(bridge.ReasonInvalid, "user %d owns %s and could put another program in its place: chown it to root, or start programs as that user",
			st.Uid, verdict.Shown(name))
	}
	return nil
}

// splitArguments splits like a POSIX shell splits words, without any expansion.
func splitArguments(s string) ([]string, error) {
	words, err := shellquote.Split(s)
	if err != nil {
		return nil, fmt.Errorf("cannot be split into words: %w", err)
	}
	if len(words) > maxArguments {
		return nil, fmt.Errorf("holds %d words, allowed are %d", len(words), maxArguments)
	}
	return words, nil
}

// credential looks the account up; nil = the agent's own.
func credential(name string) (*syscall.Credential, error) {
	if name == "" {
		return nil, nil //nolint:nilnil // nobody else, and no error
	}
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			return nil, fmt.Errorf("there is no such user: %w", err)
		}
	}
	groups, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("groups of the user: %w", err)
	}
	as := &syscall.Credential{}
	if as.Uid, err = number(u.Uid); err != nil {
		return nil, err
	}
	if as.Gid, err = number(u.Gid); err != nil {
		return nil, err
	}
	for _, g := range groups {
		id, err := number(g)
		if err != nil {
			return nil, err
		}
		as.Groups = append(as.Groups, id)
	}
	return as, nil
}

func number(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}
