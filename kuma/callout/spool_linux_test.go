package callout

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// newSpool makes a spool directory of this test. Socket paths are short: so is the folder.
func newSpool(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kuma") //nolint:usetesting // the paths of sockets are short, and other users have to get in
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	spool := filepath.Join(dir, "spool")
	if err := MakeSpool(spool, -1); err != nil {
		t.Fatal(err)
	}
	return spool
}

func newCall(n int) Call {
	return Call{
		ID: fmt.Sprintf("k%08d", n), Task: bridge.KindIsolateHost, Host: fmt.Sprintf("ws-%d.corp.example", n), Params: bridge.IsolateHost{Action: 1},
		At: time.Date(2026, 11, 20, 20, 6, 56, n, time.UTC), Reason: "a test",
	}
}

func mustSpool(t testing.TB, dir string, c Call) {
	t.Helper()
	if err := Spool(dir, SpoolLimits{}, c); err != nil {
		t.Fatal(err)
	}
}

func spoolNames(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestSpooledCallsSortByTimeAndAreForTheGroupOnly(t *testing.T) {
	t.Parallel()
	dir := newSpool(t)
	for _, n := range []int{3, 1, 2} {
		mustSpool(t, dir, newCall(n))
	}
	var ids []string
	for _, name := range spoolNames(t, dir) {
		n, ok := ParseSpoolName(name)
		if !ok {
			t.Fatalf("%s is no name", name)
		}
		ids = append(ids, n.ID)
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil || info.Mode() != 0o640 || info.Size() != n.Size {
			t.Errorf("%s has mode %s, size %d: %v", name, info.Mode(), info.Size(), err)
		}
	}
	if want := []string{"k00000001", "k00000002", "k00000003"}; !slices.Equal(ids, want) {
		t.Errorf("got %v, want %v", ids, want)
	}
	info, err := os.Stat(dir)
	if want := fs.ModeDir | fs.ModeSetgid | fs.ModeSticky | 0o770; err != nil || info.Mode() != want {
		t.Errorf("the directory has mode %s, want %s (%v)", info.Mode(), want, err)
	}
}

func TestSpoolWorksWithoutUnnamedFiles(t *testing.T) {
	t.Parallel()
	dir := newSpool(t)
	d, err := OpenSpool(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	c := newCall(1)
	doc, err := c.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	name := SpoolName{c.At.UnixNano(), c.ID, int64(len(doc))}
	if err := d.writeNamed(name.String(), doc); err != nil {
		t.Fatal(err)
	}
	if got := spoolNames(t, dir); !slices.Equal(got, []string{name.String()}) {
		t.Errorf("got %v", got)
	}
	if got, err := d.Read(name.String(), name, nil); err != nil || string(got) != string(doc) {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestSpoolThatIsFullRefuses(t *testing.T) {
	t.Parallel()
	dir := newSpool(t)
	for n := range 3 {
		if err := Spool(dir, SpoolLimits{Files: 3}, newCall(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := Spool(dir, SpoolLimits{Files: 3}, newCall(3)); !errors.Is(err, ErrSpoolFull) {
		t.Errorf("by number: got %v", err)
	}
	if err := Spool(dir, SpoolLimits{Bytes: 500}, newCall(3)); !errors.Is(err, ErrSpoolFull) {
		t.Errorf("by size: got %v", err)
	}
	if got := len(spoolNames(t, dir)); got != 3 {
		t.Errorf("%d files, want 3", got)
	}
}

func TestSpoolRefusesDirectoriesNobodyShouldTrust(t *testing.T) {
	t.Parallel()
	dir := newSpool(t)
	link := filepath.Join(filepath.Dir(dir), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(filepath.Dir(dir), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(filepath.Dir(dir), "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, file, open, filepath.Join(dir, "none")} {
		if err := Spool(path, SpoolLimits{}, newCall(1)); err == nil {
			t.Errorf("%s is taken", path)
		}
	}
	if err := os.Chmod(open, fs.ModeSticky|0o777); err != nil {
		t.Fatal(err)
	}
	if err := Spool(open, SpoolLimits{}, newCall(1)); err != nil {
		t.Errorf("a sticky directory: %v", err)
	}
}

func TestSpoolRefusesCallsNoBridgeWouldTake(t *testing.T) {
	t.Parallel()
	dir := newSpool(t)
	for name, change := range map[string]func(*Call){
		"id":     func(c *Call) { c.ID = "../../etc/passwd" },
		"no id":  func(c *Call) { c.ID = "" },
		"time":   func(c *Call) { c.At = time.Time{} },
		"params": func(c *Call) { c.Params = nil },
		"host":   func(c *Call) { c.Host = "*" },
		"task":   func(c *Call) { c.Task = bridge.KindGetFile },
	} {
		c := newCall(1)
		change(&c)
		if err := Spool(dir, SpoolLimits{}, c); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if got := spoolNames(t, dir); len(got) != 0 {
		t.Errorf("files %v", got)
	}
}

// TestEntriesThatAreNoCallAreNeverRead puts every kind of foreign entry into the directory under the name of a call.
func TestEntriesThatAreNoCallAreNeverRead(t *testing.T) {
	t.Parallel()
	dir := newSpool(t)
	outside := filepath.Join(filepath.Dir(dir), "outside")
	doc, err := newCall(1).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(outside, doc, 0o640); err != nil {
		t.Fatal(err)
	}
	name := SpoolName{time.Now().UnixNano(), "k00000001", int64(len(doc))}
	path := filepath.Join(dir, name.String())
	d, err := OpenSpool(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	for what, make := range map[string]func() error{
		"link":      func() error { return os.Symlink(outside, path) },
		"hard link": func() error { return os.Link(outside, path) },
		"pipe":      func() error { return syscall.Mkfifo(path, 0o640) },
		"folder":    func() error { return os.Mkdir(path, 0o750) },
		"socket":    func() error { return syscall.Mknod(path, syscall.S_IFSOCK|0o640, 0) },
		"cut off":   func() error { return os.WriteFile(path, doc[:len(doc)-1], 0o640) },
		"longer":    func() error { return os.WriteFile(path, append(slices.Clone(doc), ' '), 0o640) },
		"open": func() error {
			return errors.Join(os.WriteFile(path, doc, 0o640), os.Chmod(path, 0o666))
		},
	} {
		if err := make(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		begin := time.Now()
		if _, err := d.Read(name.String(), name, nil); !errors.Is(err, ErrSpoolForeign) {
			t.Errorf("%s: got %v", what, err)
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("%s took %s", what, took)
		}
		kept, err := d.SetAside(name.String(), time.Now())
		if err != nil {
			t.Errorf("%s cannot be put aside: %v", what, err)
		}
		if err := os.RemoveAll(filepath.Join(dir, kept)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, doc, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Read(name.String(), name, []uint32{4711}); !errors.Is(err, ErrSpoolForeign) {
		t.Errorf("another writer: got %v", err)
	}
	if _, err := d.Read(name.String(), name, nil); err != nil {
		t.Errorf("a good file: %v", err)
	}
	huge := SpoolName{1, "k00000002", MaxCallBytes + 1}
	if err := os.WriteFile(filepath.Join(dir, huge.String()), nil, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, huge.String()), huge.Size); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Read(huge.String(), huge, nil); !errors.Is(err, ErrSpoolForeign) {
		t.Errorf("a huge file: got %v", err)
	}
}

func TestFolderOfWhatIsPutAsideIsBounded(t *testing.T) {
	t.Parallel()
	dir := newSpool(t)
	bad := filepath.Join(dir, SpoolBad)
	if err := os.Mkdir(bad, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range spoolMaxBad + 2 {
		if err := os.WriteFile(filepath.Join(bad, fmt.Sprintf("%05d.foreign", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d, err := OpenSpool(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	for range 3 {
		if err := os.WriteFile(filepath.Join(dir, "x\n\u202ey"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		kept, err := d.SetAside("x\n\u202ey", time.Now())
		if err != nil || strings.ContainsAny(kept, "\n\u202e") {
			t.Errorf("kept as %q: %v", kept, err)
		}
	}
	if got := len(spoolNames(t, bad)); got > spoolMaxBad+2 {
		t.Errorf("%d files are put aside", got)
	}
	if err := errors.Join(os.RemoveAll(bad), os.Symlink("/tmp", bad), os.WriteFile(filepath.Join(dir, "x"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.SetAside("x", time.Now()); err == nil {
		t.Error("the folder is a link and was followed")
	}
}

func FuzzSpoolName(f *testing.F) {
	f.Add("1732104000123000000-k0123456789abcdef-231.json")
	f.Add("1732104000123000000-a-b-c-d-e-f-g-1.json")
	f.Add("9999999999999999999-aaaaaaaa-00.json")
	f.Add("../../etc/passwd")
	f.Fuzz(func(t *testing.T, name string) {
		n, ok := ParseSpoolName(name)
		if ok && (n.String() != name || strings.ContainsAny(name, "/\x00\n") || !callIsID(n.ID)) {
			t.Errorf("%q is taken for %+v", name, n)
		}
	})
}

func BenchmarkSpool(b *testing.B) {
	dir := newSpool(b)
	n := 0
	for b.Loop() {
		n++
		if err := Spool(dir, SpoolLimits{Files: 1 << 20}, newCall(n)); err != nil {
			b.Fatal(err)
		}
		if n%500 == 0 { // what a bridge leaves there at most for long
			b.StopTimer()
			for _, name := range spoolNames(b, dir) {
				_ = os.Remove(filepath.Join(dir, name))
			}
			b.StartTimer()
		}
	}
}
