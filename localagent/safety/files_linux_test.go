package safety

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
	"github.com/edr-bridge/edr-bridge/localagent/files"
)

func newFiles(t testing.TB, change ...func(*Config)) *Files {
	t.Helper()
	var cfg Config
	for _, c := range change {
		c(&cfg)
	}
	f, err := NewFiles(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func write(t testing.TB, name string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(name), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// check opens the file as the file tasks do and wants the entry in the refusal; "" = not protected.
func check(t *testing.T, f *Files, name, want string) {
	t.Helper()
	fd, err := unix.Open(name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	file := os.NewFile(uintptr(fd), name)
	defer func() { _ = file.Close() }()
	reason, why, err := f.Check(t.Context(), file, name)
	switch {
	case err != nil:
		t.Errorf("%s: %v", name, err)
	case want == "" && reason != bridge.ReasonNone:
		t.Errorf("%s is protected: %s", name, why)
	case want != "" && (reason != bridge.ReasonProtectedPath || !strings.Contains(why, want)):
		t.Errorf("%s: reason %q, %q, want %q", name, reason, why, want)
	}
}

func real(t *testing.T, name string) string {
	t.Helper()
	p, err := filepath.EvalSymlinks(name)
	if err != nil {
		t.Skipf("this test needs %s", name)
	}
	return p
}

func TestCheckRefusesWhatTheMachineNeeds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	own := write(t, filepath.Join(dir, "state", "vault", "blob"))
	settings := write(t, filepath.Join(dir, "edr-bridge.yaml"))
	free := write(t, filepath.Join(dir, "evil"))
	pipe, link := filepath.Join(dir, "pipe"), filepath.Join(dir, "link")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(free, link); err != nil {
		t.Fatal(err)
	}
	hidden, second := filepath.Join(dir, "innocent"), filepath.Join(dir, "evil2")
	for from, to := range map[string]string{own: hidden, free: second} {
		if err := os.Link(from, to); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f := newFiles(t, func(c *Config) { c.Own = []string{filepath.Join(dir, "state"), settings} })
	for name, want := range map[string]string{
		"/": Folder, "/usr/bin": Folder, dir: Folder, "/dev/null": Device, pipe: Device, link: Device, "/proc/self/status": KernelFiles,
		"/etc/passwd": "accounts and logins", real(t, "/bin/sh"): "login and service programs", real(t, "/bin/ls"): "package coreutils",
		real(t, "/lib64/ld-linux-x86-64.so.2"): "loader and libc", self: OwnFiles, own: OwnFiles, settings: OwnFiles,
		hidden: "another name of", free: "", second: "",
	} {
		check(t, f, name, want)
	}
	if text, err := f.Scope(t.Context()); err != nil || !strings.Contains(text, "belong to packages") {
		t.Errorf("scope = %q, %v", text, err)
	}
}

// database makes a dpkg database with one essential package that owns a file.
func database(t *testing.T, dir, file string) string {
	t.Helper()
	text := "Package: core\nStatus: install ok installed\nEssential: yes\nArchitecture: amd64\n"
	for name, body := range map[string]string{"status": text, "info/core:amd64.list": "/.\n" + filepath.Dir(file) + "\n" + file + "\n"} {
		if err := os.WriteFile(write(t, filepath.Join(dir, name)), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFilesOfNeededPackagesAreProtectedByIdentityAndByName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	owned, other := write(t, filepath.Join(dir, "real", "owned")), write(t, filepath.Join(dir, "real", "other"))
	if err := os.Symlink("real", filepath.Join(dir, "alias")); err != nil {
		t.Fatal(err)
	}
	second := filepath.Join(dir, "second")
	if err := os.Link(owned, second); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	f := newFiles(t, func(c *Config) {
		c.Packages = database(t, filepath.Join(dir, "db"), filepath.Join(dir, "alias", "owned"))
		c.Now = func() time.Time { return now }
	})
	check(t, f, owned, "package core")
	check(t, f, second, "package core")
	check(t, f, other, "")
	// An update puts another file in place, and what was there is not the package's any more.
	if err := os.Remove(owned); err != nil {
		t.Fatal(err)
	}
	write(t, owned)
	check(t, f, owned, "package core")
	check(t, f, second, "")
	// The list changes: it is read again after a minute.
	database(t, filepath.Join(dir, "db"), other)
	check(t, f, other, "")
	now = now.Add(2 * time.Minute)
	check(t, f, other, "package core")
}

func TestWithoutAPackageDatabaseProgramFoldersAreProtectedWhole(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := newFiles(t, func(c *Config) { c.Packages = filepath.Join(dir, "none") })
	check(t, f, real(t, "/bin/ls"), "not known")
	check(t, f, write(t, filepath.Join(dir, "evil")), "")
	x, err := f.Executables(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if reason, why := x.ByPath("/usr/bin/anything"); reason != bridge.ReasonProtectedPath {
		t.Errorf("by path: %q %q", reason, why)
	}
	if text, err := f.Scope(t.Context()); err != nil || !strings.Contains(text, "no dpkg database") {
		t.Errorf("scope = %q, %v", text, err)
	}
}

func TestADatabaseNobodyCanReadLetsNothingThrough(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	free := write(t, filepath.Join(dir, "evil"))
	folder := database(t, filepath.Join(dir, "db"), free)
	if err := os.Remove(filepath.Join(folder, "info", "core:amd64.list")); err != nil {
		t.Fatal(err)
	}
	f := newFiles(t, func(c *Config) { c.Packages = folder })
	file, err := os.Open(free)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if reason, why, err := f.Check(t.Context(), file, free); err == nil {
		t.Errorf("check = %q, %q without an error", reason, why)
	}
	if _, err := f.Executables(t.Context()); err == nil {
		t.Error("executables without an error")
	}
	if _, _, err := f.Check(t.Context(), nil, free); err == nil {
		t.Error("a file that is not open without an error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := newFiles(t).Check(ctx, file, free); err == nil {
		t.Error("an ended ctx without an error")
	}
}

func TestMountsGiveProtectedFilesNoOtherName(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	dir := t.TempDir()
	own := filepath.Join(dir, "state")
	blob := write(t, filepath.Join(own, "vault", "blob"))
	bind := func(from, to, kind string, flags uintptr) {
		t.Helper()
		if err := unix.Mount(from, to, kind, flags, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(to, unix.MNT_DETACH) })
	}
	for from, to := range map[string]string{own: filepath.Join(dir, "a b"), filepath.Join(own, "vault"): filepath.Join(dir, "deep")} {
		if err := os.Mkdir(to, 0o700); err != nil {
			t.Fatal(err)
		}
		bind(from, to, "", unix.MS_BIND)
	}
	covered := write(t, filepath.Join(dir, "covered"))
	bind(write(t, filepath.Join(dir, "over")), covered, "", unix.MS_BIND)
	proc := filepath.Join(dir, "innocent")
	if err := os.Mkdir(proc, 0o700); err != nil {
		t.Fatal(err)
	}
	bind("proc", proc, "proc", 0)
	f := newFiles(t, func(c *Config) { c.Own = []string{own} })
	check(t, f, blob, OwnFiles)
	check(t, f, filepath.Join(dir, "a b", "vault", "blob"), OwnFiles)
	check(t, f, filepath.Join(dir, "deep", "blob"), OwnFiles)
	check(t, f, covered, MountPoint)
	check(t, f, filepath.Join(proc, "self", "status"), KernelFiles)
	check(t, f, write(t, filepath.Join(dir, "free")), "")
}

func digestsOf(t *testing.T, name string) (md5Hex, sha256Hex string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	m, s := md5.Sum(b), sha256.Sum256(b)
	return hex.EncodeToString(m[:]), hex.EncodeToString(s[:])
}

func TestProgramsTheMachineNeedsCanNeverBeDenied(t *testing.T) {
	t.Parallel()
	f := newFiles(t)
	x, err := f.Executables(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/bin/sh", "/bin/ls", "/usr/bin/env", "/usr/bin/perl", "/lib64/ld-linux-x86-64.so.2", self} {
		md5Hex, sha256Hex := digestsOf(t, real(t, name))
		id, err := files.IDOf(name)
		if err != nil {
			t.Fatal(err)
		}
		for how, ask := range map[string]func() (bridge.Reason, string){
			"md5": func() (bridge.Reason, string) { return x.ByDigest(strings.ToUpper(md5Hex)) },
			"sha": func() (bridge.Reason, string) { return x.ByDigest(sha256Hex) },
			"id":  func() (bridge.Reason, string) { return x.ByID(id) },
			"path": func() (bridge.Reason, string) {
				return x.ByPath(name)
			},
		} {
			if reason, why := ask(); reason != bridge.ReasonProtectedPath || why == "" {
				t.Errorf("%s by %s: %q %q", name, how, reason, why)
			}
		}
	}
	other := agenttest.Program(t, "sh", "evil")
	md5Hex, sha256Hex := digestsOf(t, other)
	id, err := files.IDOf(other)
	if err != nil {
		t.Fatal(err)
	}
	for _, ask := range []func() (bridge.Reason, string){
		func() (bridge.Reason, string) { return x.ByDigest(md5Hex) }, func() (bridge.Reason, string) { return x.ByDigest(sha256Hex) },
		func() (bridge.Reason, string) { return x.ByID(id) }, func() (bridge.Reason, string) { return x.ByPath(other) },
	} {
		if reason, why := ask(); reason != bridge.ReasonNone {
			t.Errorf("a program of the test is protected: %q", why)
		}
	}
	// A link to a shell is the shell.
	link := filepath.Join(t.TempDir(), "x")
	if err := os.Symlink("/bin/sh", link); err != nil {
		t.Fatal(err)
	}
	if reason, _ := x.ByPath(link); reason != bridge.ReasonProtectedPath {
		t.Error("a link to a shell may be denied")
	}
	for _, sum := range []string{emptyMD5, emptySHA256} {
		if reason, _ := x.ByDigest(sum); reason != bridge.ReasonProtectedPath {
			t.Errorf("the digest %s of the empty file may be denied", sum)
		}
	}
	again, err := f.Executables(t.Context())
	if err != nil || again != x {
		t.Errorf("read again within a minute: %v", err)
	}
	t.Logf("%d digests", x.Len())
}

func TestALinkAnybodyCanMakeProtectsNothing(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	dir := t.TempDir()
	evil, link := write(t, filepath.Join(dir, "evil")), filepath.Join(dir, "listed")
	if err := os.Symlink(evil, link); err != nil {
		t.Fatal(err)
	}
	id, err := files.IDOf(evil)
	if err != nil {
		t.Fatal(err)
	}
	e := Entry{Kind: KindFile, Name: "test", Why: "x", Paths: []string{link}}
	if _, ok := newIndex([]Entry{e}).identified(id); !ok {
		t.Error("a link root made is not followed")
	}
	if err := os.Lchown(link, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if _, ok := newIndex([]Entry{e}).identified(id); ok {
		t.Error("a link somebody else made is followed")
	}
}

func TestNewFilesReportsEveryProblem(t *testing.T) {
	t.Parallel()
	_, err := NewFiles(Config{Own: []string{"/", "relative", "/ok"}, Packages: "relative"})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"own[0]", "own[1]", "packages:"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not mention %s", err, want)
		}
	}
}

func FuzzAliases(f *testing.F) {
	f.Add(`36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - ext3 /dev/root rw`)
	f.Add("1 2 3 4 5\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := files.ParseMounts(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, m := range all {
			for _, name := range aliases(all, m.ID, m.Point) {
				if name == "" {
					t.Errorf("mount %+v gives an empty name", m)
				}
			}
		}
		_, _ = mountID([]byte(text))
	})
}

func BenchmarkCheck(b *testing.B) {
	f := newFiles(b)
	name := write(b, filepath.Join(b.TempDir(), "evil"))
	file, err := os.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	for b.Loop() {
		if reason, why, err := f.Check(b.Context(), file, name); err != nil || reason != bridge.ReasonNone {
			b.Fatal(reason, why, err)
		}
	}
}

func BenchmarkReadTheTable(b *testing.B) {
	for b.Loop() {
		if _, err := newFiles(b).Scope(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadExecutables(b *testing.B) {
	for b.Loop() {
		if _, err := newFiles(b).Executables(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
