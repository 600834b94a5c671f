package files

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

// tree makes a folder with two files, one below, a link to each kind, a FIFO and a socketless device.
func tree(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{"a": "a", "b": "bb", "sub/c": "ccc", "sub/deep/d": "dddd"} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for to, name := range map[string]string{"a": "link", "sub": "dirlink", "..": "up", "/proc": "proc"} {
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(root, "sub", "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestWalkVisitsRegularFilesOnly(t *testing.T) {
	t.Parallel()
	root := tree(t)
	for _, tt := range []struct {
		name  string
		cfg   WalkConfig
		want  []string
		stats WalkStats
	}{
		{"one folder", WalkConfig{}, []string{"a", "b"}, WalkStats{Files: 2, Dirs: 1, Links: 4}},
		{"all below", WalkConfig{Recursive: true}, []string{"a", "b", "sub/c", "sub/deep/d"}, WalkStats{Files: 4, Dirs: 3, Links: 4, Others: 1}},
		{
			"without a folder",
			WalkConfig{Recursive: true, SkipDir: func(p string) bool { return p == filepath.Join(root, "sub", "deep") }},
			[]string{"a", "b", "sub/c"},
			WalkStats{Files: 3, Dirs: 2, Links: 4, Others: 1, Skipped: 1},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			stats, err := Walk(t.Context(), root, tt.cfg, func(e Entry) error {
				rel, err := filepath.Rel(root, e.Path)
				if err != nil {
					return err
				}
				got = append(got, rel)
				f, err := e.Open()
				if err != nil {
					return err
				}
				defer f.Close()
				text, err := io.ReadAll(f)
				if err != nil || int64(len(text)) != e.Info.Size() {
					t.Errorf("%s: read %q, %v; size %d", rel, text, err, e.Info.Size())
				}
				return nil
			})
			slices.Sort(got)
			if err != nil || !slices.Equal(got, tt.want) || stats != tt.stats {
				t.Errorf("got %v %+v %v\nwant %v %+v", got, stats, err, tt.want, tt.stats)
			}
		})
	}
}

func TestWalkEntryOpensWhatWasSeenAlsoAfterTheWalk(t *testing.T) {
	t.Parallel()
	root := tree(t)
	var all []Entry
	if _, err := Walk(t.Context(), root, WalkConfig{Recursive: true}, func(e Entry) error { all = append(all, e); return nil }); err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		f, err := e.Open()
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		// The old inode is kept alive under another name, so that its number is not given out again.
		if err := os.Rename(e.Path, e.Path+".old"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(e.Path, []byte("other"), 0o600); err != nil {
			t.Fatal(err)
		}
		if f, err := e.Open(); !errors.Is(err, ErrSwapped) {
			t.Errorf("%s after a swap: %v, %v", e.Path, f, err)
		}
		_ = os.Remove(e.Path)
		_ = os.Symlink(e.Path+".old", e.Path)
		if f, err := e.Open(); !errors.Is(err, ErrLink) {
			t.Errorf("%s after a link: %v, %v", e.Path, f, err)
		}
	}
	if _, err := (Entry{Path: "/etc/passwd"}).Open(); !errors.Is(err, errNotWalked) {
		t.Errorf("an entry made by hand: %v", err)
	}
}

func TestWalkEndsWhereItIsTold(t *testing.T) {
	t.Parallel()
	root := tree(t)
	mine := errors.New("mine")
	gone, cancel := context.WithCancelCause(t.Context())
	cancel(mine)
	for _, tt := range []struct {
		name  string
		ctx   context.Context
		root  string
		cfg   WalkConfig
		visit error
		want  error
		cut   bool
	}{
		{"limit", t.Context(), root, WalkConfig{Recursive: true, MaxEntries: 3}, nil, nil, true},
		{"visitor", t.Context(), root, WalkConfig{Recursive: true}, mine, mine, false},
		{"ctx", gone, root, WalkConfig{}, nil, mine, false},
		{"no such root", t.Context(), root + "/none", WalkConfig{}, nil, fs.ErrNotExist, false},
		{"root below a link", t.Context(), root + "/dirlink/deep", WalkConfig{}, nil, ErrLink, false},
		{"root is a link", t.Context(), root + "/dirlink", WalkConfig{}, nil, ErrLink, false},
		{"root is a FIFO", t.Context(), root + "/sub/fifo", WalkConfig{}, nil, ErrNotRegular, false},
		{"proc", t.Context(), "/proc", WalkConfig{Recursive: true}, nil, ErrPseudo, false},
		{"sys", t.Context(), "/sys/kernel", WalkConfig{Recursive: true}, nil, ErrPseudo, false},
		{"a file", t.Context(), root + "/a", WalkConfig{}, nil, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			stats, err := Walk(tt.ctx, tt.root, tt.cfg, func(Entry) error { return tt.visit })
			if !errors.Is(err, tt.want) || stats.Truncated != tt.cut {
				t.Errorf("got %+v, %v", stats, err)
			}
		})
	}
}

func TestWalkStaysOnItsDevice(t *testing.T) {
	t.Parallel()
	stats, err := Walk(t.Context(), "/dev", WalkConfig{Recursive: true}, func(e Entry) error { return nil })
	if err != nil || stats.OtherDevices == 0 || stats.Others == 0 {
		t.Errorf("got %+v, %v; /dev holds devices and the folders shm and pts of other filesystems", stats, err)
	}
}

func BenchmarkWalkOfUsr(b *testing.B) {
	var n int
	for b.Loop() {
		stats, err := Walk(b.Context(), "/usr", WalkConfig{Recursive: true}, func(Entry) error { return nil })
		if err != nil {
			b.Fatal(err)
		}
		n = stats.Files + stats.Dirs + stats.Links + stats.Others
	}
	b.ReportMetric(float64(n), "entries")
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

func BenchmarkWalkDirOfUsr(b *testing.B) {
	for b.Loop() {
		if err := filepath.WalkDir("/usr", func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				_, _ = d.Info()
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
}

func TestWalkSeesFilesOfAnOverlayOverTwoFilesystemsAndNotWhatIsMountedBelow(t *testing.T) {
	if !agenttest.Inside(t, unix.CLONE_NEWNS) {
		return
	}
	dir := t.TempDir()
	for _, name := range []string{"low", "up", "seen"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	layers := "xino=off,lowerdir=" + dir + "/low,upperdir=" + dir + "/up/d,workdir=" + dir + "/up/w"
	for _, err := range []error{
		unix.Mount("tmpfs", dir+"/low", "tmpfs", 0, ""),
		unix.Mount("tmpfs", dir+"/up", "tmpfs", 0, ""),
		os.MkdirAll(dir+"/low/sub/other", 0o700),
		os.Mkdir(dir+"/up/d", 0o700),
		os.Mkdir(dir+"/up/w", 0o700),
		os.WriteFile(dir+"/low/sub/a", nil, 0o600),
		os.WriteFile(dir+"/up/d/b", nil, 0o600),
		unix.Mount("overlay", dir+"/seen", "overlay", 0, layers),
		unix.Mount("tmpfs", dir+"/seen/sub/other", "tmpfs", 0, ""),
		os.WriteFile(dir+"/seen/sub/other/c", nil, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, at := range []string{"/seen/sub/other", "/seen", "/up", "/low"} {
			_ = unix.Unmount(dir+at, unix.MNT_DETACH)
		}
	})
	var got []string
	stats, err := Walk(t.Context(), dir+"/seen", WalkConfig{Recursive: true}, func(e Entry) error {
		f, err := e.Open()
		if err == nil {
			err = f.Close()
		}
		got = append(got, e.Info.Name())
		return err
	})
	slices.Sort(got)
	if err != nil || !slices.Equal(got, []string{"a", "b"}) || stats.OtherDevices != 1 {
		t.Errorf("got %v, %+v, %v: want a and b, and one folder on another filesystem", got, stats, err)
	}
}
