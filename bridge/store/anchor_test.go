package store

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAnchorsComeBackFromTheirFile(t *testing.T) {
	t.Parallel()
	s := openTest(t, Config{})
	path := filepath.Join(t.TempDir(), "anchors")
	if a, err := s.Anchor(t.Context()); a != (Anchor{}) || err != nil {
		t.Errorf("anchor of an empty chain: %+v, %v", a, err)
	}
	var want []Anchor
	at := time.Date(2026, 5, 6, 7, 8, 9, 0, time.FixedZone("x", 3600))
	for i := range 3 {
		admitTest(t, s, numbered(t, i))
		a, err := s.Anchor(t.Context())
		if err != nil || a.Seq != int64(i+1) {
			t.Fatal(a, err)
		}
		if err := AppendAnchor(path, a, at); err != nil {
			t.Fatal(err)
		}
		want = append(want, a)
	}
	got, err := ReadAnchors(path)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("anchors: %v (-want +got):\n%s", err, diff)
	}
	raw, err := os.ReadFile(path)
	if err != nil || strings.Count(string(raw), " 2026-05-06T06:08:09Z\n") != 3 {
		t.Errorf("file: %v\n%s", err, raw)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&^0o640 != 0 {
		t.Errorf("mode %v, %v, want at most 0640", info.Mode(), err)
	}
	if rep, err := s.VerifyAnchors(t.Context(), got); err != nil || rep.FirstBad != 0 {
		t.Errorf("all anchors: %+v, %v", rep, err)
	}
	bad := append([]Anchor{}, got[2], got[0], got[1])
	bad[2].Hash[0] ^= 1
	if rep, err := s.VerifyAnchors(t.Context(), bad); err != nil || rep.FirstBad != 2 {
		t.Errorf("a wrong anchor among them: %+v, %v, want record 2", rep, err)
	}
	tamper(t, s, `DELETE FROM audit WHERE seq = 3`)
	if rep, err := s.VerifyAnchors(t.Context(), got); err != nil || rep.FirstBad != 3 {
		t.Errorf("after a cut: %+v, %v, want record 3", rep, err)
	}
}

func TestTornAnchorFileIsReadAndGoesOn(t *testing.T) {
	t.Parallel()
	one := FormatAnchor(Anchor{Seq: 1, Hash: [32]byte{1}}) + " 2026-05-06T07:08:09Z\n"
	two := FormatAnchor(Anchor{Seq: 22, Hash: [32]byte{2}}) + " 2026-05-06T07:08:10Z\n"
	for cut := range len(two) + 1 {
		path := filepath.Join(t.TempDir(), "anchors")
		if err := os.WriteFile(path, []byte(one+two[:cut]), 0o600); err != nil {
			t.Fatal(err)
		}
		// A line whose anchor is whole counts, torn or not.
		want := 1
		if cut >= strings.IndexByte(two, ' ') {
			want = 2
		}
		got, err := ReadAnchors(path)
		if err != nil || len(got) != want {
			t.Errorf("cut after %d: %d anchors, %v, want %d", cut, len(got), err, want)
		}
		if err := AppendAnchor(path, Anchor{Seq: 3}, time.Now()); err != nil {
			t.Fatal(err)
		}
		if got, err = ReadAnchors(path); err != nil || len(got) != want+1 || got[want].Seq != 3 {
			t.Errorf("cut after %d, then one more: %+v, %v", cut, got, err)
		}
	}
}

func TestAnchorFileWithAnythingElseIsRefused(t *testing.T) {
	t.Parallel()
	good := FormatAnchor(Anchor{Seq: 1}) + "\n"
	for name, text := range map[string]string{
		"rubbish":        good + "rubbish\n" + good,
		"a long line":    good + strings.Repeat("1", 500) + "\n",
		"seq 0":          strings.Replace(good, "1:", "0:", 1),
		"too many bytes": strings.Replace(good, "\n", "00\n", 1),
	} {
		path := filepath.Join(t.TempDir(), "anchors")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadAnchors(path); err == nil {
			t.Errorf("%s: read as %+v", name, got)
		}
	}
}

func TestAnchorFileIsNotFollowedElsewhere(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("symbolic links take a right of administrators")
	}
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("precious\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(victim, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, dir, filepath.Join(dir, "no", "such")} {
		if err := AppendAnchor(path, Anchor{Seq: 1}, time.Now()); err == nil {
			t.Errorf("wrote to %s", path)
		}
	}
	if raw, err := os.ReadFile(victim); string(raw) != "precious\n" || err != nil {
		t.Errorf("the file behind the link: %q, %v", raw, err)
	}
}
