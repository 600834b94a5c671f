package ioc

import (
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

func sums(content string) (m, s1, s256 string) {
	a, b, c := md5.Sum([]byte(content)), sha1.Sum([]byte(content)), sha256.Sum256([]byte(content))
	return hex.EncodeToString(a[:]), hex.EncodeToString(b[:]), hex.EncodeToString(c[:])
}

// scanned runs a scan of own roots that must not fail.
func scanned(t testing.TB, q *Query, cfg Config, roots ...string) Result {
	t.Helper()
	cfg.Scope, cfg.Roots = ScopeCustom, roots
	r, err := Scan(context.Background(), q, cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func paths(r Result) []string {
	list := []string{}
	for _, f := range r.Files {
		list = append(list, string(f.Path))
	}
	slices.Sort(list)
	return list
}

func skippedCount(r Result, why string) int64 {
	for _, s := range r.Skipped {
		if s.Why == why {
			return s.Count
		}
	}
	return 0
}

func TestFilesAreFoundByNameDigestSizeTimeAndOwner(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m, s1, s256 := sums("evil content")
	evil := write(t, dir+"/deep/er/Evil.Bin", "evil content")
	write(t, dir+"/deep/good.bin", "good content")
	hostile := write(t, dir+"/bad\xff\x1b[2J\u202ename", "x")
	old := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	if err := os.Chtimes(evil, old, old); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		criteria string
		want     string
	}{
		"name":      {item("FileItem/FileName is evil.bin"), evil},
		"path":      {item("FileItem/FullPath contains /deep/er/"), evil},
		"folder":    {item("FileItem/FilePath is " + dir + "/deep/er/"), evil},
		"ending":    {all(items("FileItem/FileExtension is bin", "FileItem/FilePath contains /er")), evil},
		"size":      {all(items("FileItem/SizeInBytes is 12 TO 12", "FileItem/FileName isnot good.bin")), evil},
		"md5":       {item("FileItem/Md5sum is " + m), evil},
		"sha1":      {item("FileItem/Sha1sum is " + s1), evil},
		"sha256":    {item("FileItem/Sha256sum is " + s256), evil},
		"modified":  {item("FileItem/Modified is 2020-02-03"), evil},
		"changed":   {all(items("FileItem/Changed is 2020-01-01 TO 2200-01-01", "FileItem/FileName is evil.bin")), evil},
		"owner":     {all(items("FileItem/Username is root", "FileItem/FileName is evil.bin")), evil},
		"uid":       {all(items("FileItem/SecurityID is 0", "FileItem/FileName is evil.bin")), evil},
		"odd bytes": {item("FileItem/SizeInBytes is 1"), hostile},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "owner" || name == "uid" {
				agenttest.NeedRoot(t)
			}
			q, _ := query(t, v10("d", either(c.criteria)))
			r := scanned(t, q, Config{}, dir)
			if got := paths(r); !slices.Equal(got, []string{c.want}) {
				t.Fatalf("files %q, want %q", got, c.want)
			}
			f := r.Files[0]
			content, err := os.ReadFile(c.want)
			if err != nil {
				t.Fatal(err)
			}
			wantMD5, _, wantSHA := sums(string(content))
			var st unix.Stat_t
			if err := unix.Stat(c.want, &st); err != nil {
				t.Fatal(err)
			}
			if f.MD5 != wantMD5 || f.SHA256 != wantSHA || f.Inode != st.Ino || f.Device != st.Dev || f.Size != st.Size || !slices.Equal(f.Documents, []Text{"d"}) {
				t.Errorf("file %+v", f)
			}
			rec := r.Matches[0].Records[0]
			if string(rec.Fields["FullPath"][0]) != c.want || string(rec.Fields["Sha256sum"][0]) != wantSHA || len(rec.Fields["Modified"]) != 1 {
				t.Errorf("record %v", rec.Fields)
			}
			if !r.Complete() {
				t.Errorf("not complete: %+v", r)
			}
		})
	}
}

func TestResultsComeBackFromJSONUnchanged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir+"/bad\xff\x1b[2J\u202e<name>", "x")
	q, _ := query(t, v10("d", either(items("FileItem/SizeInBytes is 1", `RegistryItem/Path is x`))))
	r := scanned(t, q, Config{}, dir)
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range b {
		if c < ' ' || c > '~' {
			t.Fatalf("byte %#x in %s", c, b)
		}
	}
	if strings.Contains(string(b), "null") {
		t.Errorf("null in %s", b)
	}
	var back Result
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(back)
	if err != nil {
		t.Fatal(err)
	}
	if string(again) != string(b) || back.Files[0].Path != r.Files[0].Path {
		t.Errorf("got  %s\nwant %s", again, b)
	}
}

func TestOnlyFilesThatMayMatchAreRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m, _, _ := sums("evil")
	for i := range 50 {
		write(t, fmt.Sprintf("%s/f%02d", dir, i), strings.Repeat("x", i))
	}
	write(t, dir+"/evil", "evil")
	for name, c := range map[string]struct {
		documents []string
		hashed    int64
		matches   int
	}{
		"name only":                {[]string{v10("d", either(item("FileItem/FileName is nothing")))}, 0, 0},
		"name, matching":           {[]string{v10("d", either(item("FileItem/FileName is evil")))}, 1, 1},
		"digest alone":             {[]string{v10("d", either(item("FileItem/Md5sum is "+m)))}, 52, 1}, // one twice: SHA-256 for the record
		"digest of one size":       {[]string{v10("d", all(items("FileItem/Md5sum is "+m, "FileItem/SizeInBytes is 4")))}, 3, 1},
		"digest of no file":        {[]string{v10("d", all(items("FileItem/Md5sum is "+m, "FileItem/SizeInBytes is 4000")))}, 0, 0},
		"digest and no process":    {[]string{v10("d", all(items("FileItem/Md5sum is "+m, "ProcessItem/name is no-such-process-here")))}, 0, 0},
		"digest or no process":     {[]string{v10("d", either(items("FileItem/Md5sum is "+m, "ProcessItem/name is no-such-process-here")))}, 52, 1},
		"two documents, one needs": {[]string{v10("d", all(items("FileItem/Md5sum is "+m, "FileItem/FileName is evil"))), v10("e", either(item("FileItem/FileName is f01")))}, 3, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q, _ := query(t, c.documents...)
			r := scanned(t, q, Config{}, dir)
			if r.Counts.Hashed != c.hashed || len(r.Matches) != c.matches || r.Counts.Files != 51 {
				t.Errorf("hashed %d, want %d; %d matches, want %d; %d files", r.Counts.Hashed, c.hashed, len(r.Matches), c.matches, r.Counts.Files)
			}
		})
	}
}

func TestKindsNobodyAsksForAreNotCollected(t *testing.T) {
	t.Parallel()
	q, _ := query(t, v10("d", either(item("SystemInfoItem/hostname is nobody"))), v10("e", all(items("UserItem/Username is x", "RegistryItem/Path is x"))))
	r := scanned(t, q, Config{}, t.TempDir())
	if len(r.Collected) != 1 || r.Collected[0].Kind != KindSystem || r.Collected[0].Objects != 1 {
		t.Errorf("collected %+v", r.Collected)
	}
}

func TestExcludedPlacesAreNotLookedAt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"a/evil", "vault/evil", "vault/deep/evil", "vaulted/evil", "evil"} {
		write(t, dir+"/"+name, "evil")
	}
	q, _ := query(t, v10("d", either(item("FileItem/FileName is evil"))))
	r := scanned(t, q, Config{Exclude: []string{dir + "/vault/", dir + "/evil"}}, dir)
	if got, want := paths(r), []string{dir + "/a/evil", dir + "/vaulted/evil"}; !slices.Equal(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
	if r.Counts.Folders != 3 || skippedCount(r, whyKeptOut) != 1 || skippedCount(r, whyExcluded) != 1 {
		t.Errorf("%d folders were looked into, skipped %+v", r.Counts.Folders, r.Skipped)
	}
}

func TestOtherFilesystemsAreNotEntered(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	dir := t.TempDir()
	write(t, dir+"/evil", "x")
	if err := os.Mkdir(dir+"/other", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", dir+"/other", "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(dir+"/other", unix.MNT_DETACH) }()
	write(t, dir+"/other/evil", "x")
	q, _ := query(t, v10("d", either(item("FileItem/FileName is evil"))))
	r := scanned(t, q, Config{}, dir)
	if got := paths(r); !slices.Equal(got, []string{dir + "/evil"}) || skippedCount(r, whyDevice) != 1 {
		t.Errorf("files %v, skipped %+v", got, r.Skipped)
	}
	// Named as a root of its own it is looked at, and once.
	r = scanned(t, q, Config{}, dir, dir+"/other", dir)
	if got := paths(r); !slices.Equal(got, []string{dir + "/evil", dir + "/other/evil"}) || r.Counts.Files != 2 {
		t.Errorf("files %v of %d", got, r.Counts.Files)
	}
}

func TestAFileThatChangesWhileItIsReadHasNoDigest(t *testing.T) {
	t.Parallel()
	name := write(t, t.TempDir()+"/log", "one")
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := newReader()
	ctx := &touching{Context: t.Context(), touch: func() {
		// The kernel's stamps are no finer than its tick: written until the time of the file has moved.
		st, _ := f.Stat()
		for now := st; now.ModTime().Equal(st.ModTime()); now, _ = f.Stat() {
			write(t, name, "two")
		}
	}}
	var d digests
	if _, _, err := r.hash(ctx, f, useMD5, 1<<20, &d); !errors.Is(err, errChanged) || d.have != 0 {
		t.Errorf("error %v, digests %+v", err, d)
	}
	if _, n, err := r.hash(t.Context(), f, useMD5|useSHA1|useSHA256, 1<<20, &d); err != nil || n != 3 {
		t.Fatal(err)
	}
	m, s1, s256 := sums("two")
	if d.md5 != m || d.sha1 != s1 || d.sha256 != s256 {
		t.Errorf("digests %+v", d)
	}
	if _, _, err := r.hash(t.Context(), f, useMD5, 2, &d); !errors.Is(err, errChanged) {
		t.Errorf("a file larger than the limit: %v", err)
	}
}

// touching changes a file when it is asked whether to go on.
type touching struct {
	context.Context
	touch func()
}

func (c *touching) Err() error {
	c.touch()
	return c.Context.Err()
}

func TestSettingsThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	q, _ := query(t, plain("d"))
	_, err := Scan(t.Context(), q, Config{
		Scope: "everything", Exclude: []string{"relative", "/a\x00b"}, MaxTime: -1, MaxFiles: -1, MaxBytes: -1, MaxFile: -1, Workers: 65, MaxRecords: -1,
	}, nil)
	if v := verdict.Of(err); v.Class != bridge.Permanent || v.Reason != bridge.ReasonInvalid {
		t.Errorf("%v %q", v.Class, v.Reason)
	}
	for _, want := range []string{"scope: everything is not", "exclude: relative is", `"/a\x00b"`, "max_time", "max_files", "max_bytes", "max_file:", "workers: 65", "max_records"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not tell of %q", err, want)
		}
	}
	for _, cfg := range []Config{{Scope: ScopeCustom}, {Roots: []string{"/x"}}, {Scope: ScopeCustom, Roots: make([]string, 1001)}} {
		if _, err := Scan(t.Context(), q, cfg, nil); err == nil {
			t.Errorf("%v was taken", cfg.Scope)
		}
	}
}

func TestProgressIsReportedToTheEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir+"/a", "x")
	q, _ := query(t, plain("d"))
	var last Progress
	if _, err := Scan(t.Context(), q, Config{Scope: ScopeCustom, Roots: []string{dir}}, func(p Progress) { last = p }); err != nil {
		t.Fatal(err)
	}
	if last.Kind != KindFile || last.Objects != 1 || last.Counts.Files != 1 || last.Counts.Folders != 1 {
		t.Errorf("progress %+v", last)
	}
}
