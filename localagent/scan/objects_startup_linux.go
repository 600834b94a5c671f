package scan

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

const (
	// maxStartText is how much of a start file is searched for names of programs.
	maxStartText = 16 << 20
	// maxStartWords bounds the different names looked up for the start files of the system, and for those of each account. Who names
	// more hides nothing but what his own files start.
	maxStartWords = 50_000
	// maxStartFiles bounds the start files and folders of each of them.
	maxStartFiles = 20_000
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

// starts looks for the start files of the system or of one account, and the programs they name.
type starts struct {
	*finder
	// home is that of the account; /root for the system, which account tells apart.
	home    string
	account bool
	// met are the files and folders looked at so far, words the names looked up.
	met, words map[string]bool
}

// objectsOfStartup offers all start files, every program they name (one step: what a script calls that a start file calls is not
// looked for), and the image of each process. Links are resolved, because a start file means what the system would run.
func (f *finder) objectsOfStartup(ctx context.Context) error {
	if err := f.starts("/root", false).all(ctx, append(startFiles(), startFolders()...)); err != nil {
		return err
	}
	for _, home := range f.homes() {
		var places []string
		for _, name := range homeStarts() {
			places = append(places, home+"/"+name)
		}
		if err := f.starts(home, true).all(ctx, places); err != nil {
			return err
		}
	}
	return f.images(ctx)
}

func (f *finder) starts(home string, account bool) *starts {
	return &starts{finder: f, home: home, account: account, met: map[string]bool{}, words: map[string]bool{}}
}

func (s *starts) all(ctx context.Context, places []string) error {
	for _, p := range places {
		if err := s.start(ctx, p, 0); err != nil {
			return err
		}
	}
	return nil
}

// start offers the start file path, or those in the folder path.
func (s *starts) start(ctx context.Context, path string, depth int) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	s.r.busy(s.sl, path, s.r.s.cfg.PerFile)
	defer s.r.busy(s.sl, "", 0)
	real, err := resolve(s.r.s.cfg.Roots.Root, path)
	if err != nil || s.met[real] {
		return nil // a link into nowhere
	}
	if len(s.met) >= maxStartFiles {
		s.leftOut(reasonManyStarts, real)
		return nil
	}
	s.met[real] = true
	st, err := os.Lstat(real)
	switch {
	case err != nil || s.r.s.cfg.Exclude(real):
		return nil
	case st.IsDir() && depth < maxStartDepth:
		names, err := os.ReadDir(real)
		if err != nil {
			s.unread(real, err)
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

// named offers the programs a start file names.
func (s *starts) named(ctx context.Context, real string) error {
	s.r.busy(s.sl, real, s.r.s.cfg.PerFile)
	defer s.r.busy(s.sl, "", 0)
	f, err := files.Open(real)
	if err != nil {
		return nil // whoever looks at its content says so
	}
	text, err := io.ReadAll(io.LimitReader(f, maxStartText+1))
	_ = f.Close()
	// The programs among the start files of the system name nobody. An account's file may be read as text whatever it begins with.
	if err != nil || !s.account && bytes.HasPrefix(text, []byte("\x7fELF")) {
		return nil
	}
	if len(text) > maxStartText {
		s.leftOut(reasonManyNames, real)
	}
	folders := programFolders()
	if s.account {
		folders = append(folders, s.home+"/bin", s.home+"/.local/bin")
	}
	for word := range words(string(text), s.home) {
		if s.words[word] {
			continue
		}
		if len(s.words) >= maxStartWords {
			s.leftOut(reasonManyNames, real)
			return nil
		}
		s.words[word] = true
		s.r.busy(s.sl, real, s.r.s.cfg.PerFile)
		if strings.HasPrefix(word, "/") {
			if err := s.program(ctx, word); err != nil {
				return err
			}
			continue
		}
		for _, dir := range folders {
			if err := s.program(ctx, dir+"/"+word); err != nil {
				return err
			}
		}
	}
	return nil
}

// leftOut counts a start file that was not looked at whole.
func (s *starts) leftOut(reason, path string) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.r.skipped.add(reason, path)
	s.r.res.Found++
	s.r.settled++
}

// program offers the file a name leads to.
func (s *starts) program(ctx context.Context, path string) error {
	real, err := resolve(s.r.s.cfg.Roots.Root, path)
	if err != nil {
		return nil //nolint:nilerr // no such program, or a link into nowhere
	}
	return s.file(ctx, real)
}

// words yields what may be the name of a program in a start file: absolute paths, those below the home, and plain names.
func words(text, home string) func(func(string) bool) {
	const apart = "\x00 \t\r\n\"'`=;|&(),<>{}[]:$"
	// As shells and systemd.unit(5) write it.
	text = strings.NewReplacer("${HOME}", home, "$HOME", home, "%h", home, "~/", home+"/").Replace(text)
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
