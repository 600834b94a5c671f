package scan

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

const (
	// maxStartText is how much of a start file is searched for names of programs.
	maxStartText = 1 << 20
	// maxStartWords bounds the different names looked up in one scan.
	maxStartWords = 50_000
	// maxStartDepth is how deep the folders of start files are listed; systemd's drop-ins and wants lie one level down.
	maxStartDepth = 4
)

// startFiles are the files the system reads, or runs, when it or a session starts (systemd.unit(5), crontab(5), init(8), bash(1),
// ld.so(8)).
func startFiles() []string {
	return []string{
		"/etc/crontab", "/etc/anacrontab", "/etc/rc.local", "/etc/rc.sysinit", "/etc/inittab", "/etc/profile",
		"/etc/bash.bashrc", "/etc/bashrc", "/etc/environment", "/etc/ld.so.preload", "/etc/zsh/zshenv",
		"/etc/zsh/zprofile", "/etc/zsh/zshrc", "/etc/csh.cshrc", "/etc/csh.login",
	}
}

// startFolders hold such files.
func startFolders() []string {
	return []string{
		"/etc/systemd/system", "/etc/systemd/user", "/run/systemd/system", "/run/systemd/transient",
		"/run/systemd/generator", "/usr/lib/systemd/system", "/usr/lib/systemd/user", "/lib/systemd/system",
		"/usr/local/lib/systemd/system", "/usr/local/lib/systemd/user", "/usr/lib/systemd/system-generators",
		"/etc/systemd/system-generators", "/usr/lib/systemd/system-sleep", "/usr/lib/systemd/system-shutdown",
		"/etc/cron.d", "/etc/cron.hourly", "/etc/cron.daily", "/etc/cron.weekly", "/etc/cron.monthly",
		"/var/spool/cron", "/var/spool/at", "/etc/init.d", "/etc/rc.d", "/etc/rcS.d", "/etc/rc2.d", "/etc/rc3.d",
		"/etc/rc5.d", "/etc/profile.d", "/etc/update-motd.d", "/etc/init", "/etc/xdg/autostart", "/usr/share/autostart",
		"/etc/X11/Xsession.d", "/etc/network/if-up.d", "/etc/network/if-pre-up.d", "/etc/NetworkManager/dispatcher.d",
		"/usr/lib/NetworkManager/dispatcher.d", "/etc/dhcp/dhclient-enter-hooks.d", "/etc/dhcp/dhclient-exit-hooks.d",
		"/etc/udev/rules.d", "/run/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d",
		"/usr/local/lib/udev/rules.d",
	}
}

// homeStarts are the files and folders a session of one account reads, below its home.
func homeStarts() []string {
	return []string{
		".bashrc", ".bash_profile", ".bash_login", ".profile", ".zshenv", ".zprofile", ".zshrc", ".zlogin", ".cshrc",
		".login", ".xinitrc", ".xsession", ".xsessionrc", ".xprofile", ".ssh/rc", ".config/fish/config.fish",
		".config/autostart", ".config/systemd/user", ".config/environment.d", ".config/plasma-workspace/env",
		".local/share/systemd/user",
	}
}

// programFolders are where a name without a folder is looked for; udev looks in its own.
func programFolders() []string {
	return []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/lib/udev", "/lib/udev"}
}

// starts looks for start files and the programs they name.
type starts struct {
	*finder
	// seen are the places and names met so far.
	seen map[string]bool
}

// objectsOfStartup offers all start files, every program they name (one step: what a script calls that a start file calls is not
// looked for), and the image of each process. Links are resolved, because a start file means what the system would run.
func (f *finder) objectsOfStartup(ctx context.Context) error {
	s := &starts{finder: f, seen: map[string]bool{}}
	places := append(startFiles(), startFolders()...)
	for _, home := range f.homes() {
		for _, name := range homeStarts() {
			places = append(places, home+"/"+name)
		}
	}
	for _, p := range places {
		if err := s.start(ctx, p, 0); err != nil {
			return err
		}
	}
	return f.images(ctx)
}

// start offers the start file path, or those in the folder path.
func (s *starts) start(ctx context.Context, path string, depth int) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	s.r.busy(s.sl, path, s.r.s.cfg.PerFile)
	defer s.r.busy(s.sl, "", 0)
	real, err := resolve(s.r.s.cfg.Roots.Root, path)
	if err != nil || s.known(real) {
		return nil
	}
	st, err := os.Lstat(real)
	switch {
	case err != nil || s.r.s.cfg.Exclude(real):
		return nil
	case st.IsDir() && depth < maxStartDepth:
		names, err := os.ReadDir(real)
		if err != nil {
			return nil
		}
		for _, n := range names {
			if err := s.start(ctx, path+"/"+n.Name(), depth+1); err != nil {
				return err
			}
		}
		return nil
	case !st.Mode().IsRegular():
		return nil
	}
	if err := s.file(ctx, real); err != nil {
		return err
	}
	return s.named(ctx, real)
}

// known reports whether a place or name was met before, and notes it. Past its bound everything was.
func (s *starts) known(what string) bool {
	if s.seen[what] || len(s.seen) >= maxStartWords {
		return true
	}
	s.seen[what] = true
	return false
}

// named offers the programs a start file names.
func (s *starts) named(ctx context.Context, real string) error {
	f, err := files.Open(real)
	if err != nil {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(f, maxStartText))
	_ = f.Close()
	if err != nil || bytes.IndexByte(text, 0) >= 0 {
		return nil
	}
	for word := range words(string(text)) {
		if s.known("word " + word) {
			continue
		}
		if strings.HasPrefix(word, "/") {
			if err := s.program(ctx, word); err != nil {
				return err
			}
			continue
		}
		for _, dir := range programFolders() {
			if err := s.program(ctx, dir+"/"+word); err != nil {
				return err
			}
		}
	}
	return nil
}

// program offers the file a name leads to.
func (s *starts) program(ctx context.Context, path string) error {
	real, err := resolve(s.r.s.cfg.Roots.Root, path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil || s.known(real) {
		return nil //nolint:nilerr // a link into nowhere
	}
	return s.file(ctx, real)
}

// words yields what may be the name of a program in a start file: absolute paths, and plain names.
func words(text string) func(func(string) bool) {
	const apart = " \t\r\n\"'`=;|&(),<>{}[]:$"
	return func(yield func(string) bool) {
		for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(apart, r) }) {
			// systemd.service(5): "@", "-", "+", "!" before the program of Exec lines.
			word = strings.TrimLeft(word, "-@+!")
			if len(word) < 2 || len(word) >= unix.PathMax || !strings.HasPrefix(word, "/") && !isProgramName(word) {
				continue
			}
			if !yield(strings.TrimRight(filepath.Clean(word), ".")) {
				return
			}
		}
	}
}

// isProgramName takes names without a folder.
func isProgramName(s string) bool {
	if len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		if (c|' ' < 'a' || c|' ' > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("._+-", rune(c)) {
			return false
		}
	}
	return strings.Trim(s, ".0123456789") != ""
}
