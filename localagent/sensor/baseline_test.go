package sensor

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func frequenciesFor(b Baseline) *frequencies {
	b.fill()
	return newFrequencies(b)
}

func TestFirstChildOfASteadyParentIsSurprising(t *testing.T) {
	t.Parallel()
	f := frequenciesFor(Baseline{Learn: time.Hour})
	for range 1000 {
		if _, alert := f.observe("/nginx", "/cgi"); alert {
			t.Fatal("alert while learning")
		}
	}
	if _, alert := f.observe("/nginx", "/rare"); alert {
		t.Fatal("alert while learning")
	}
	f.ran(time.Hour)
	bits, alert := f.observe("/nginx", "/sh")
	// 1001 starts of 2 kinds: P = 2/1003.
	if want := -math.Log2(2.0 / 1003); !alert || math.Abs(bits-want) > 1e-9 {
		t.Errorf("%v bits, alert %v, want %v and an alert", bits, alert, want)
	}
	if _, alert := f.observe("/nginx", "/sh"); alert {
		t.Error("the second time is an alert as well")
	}
	if _, alert := f.observe("/nginx", "/rare"); alert {
		t.Error("what was learned is an alert")
	}
}

func TestParentThatStartsSomethingElseEachTimeSurprisesNobody(t *testing.T) {
	t.Parallel()
	f := frequenciesFor(Baseline{Learn: time.Nanosecond})
	f.ran(time.Second)
	for i := range 2 * maxChildKeys {
		if bits, alert := f.observe("/go", fmt.Sprint("/tmp/go-build", i)); alert {
			t.Fatalf("alert at child %d with %v bits", i, bits)
		}
	}
	if n := len(f.parents["/go"].children); n > maxChildKeys {
		t.Errorf("%d children kept, want at most %d", n, maxChildKeys)
	}
}

func TestParentIsNotScoredBeforeItsObservations(t *testing.T) {
	t.Parallel()
	f := frequenciesFor(Baseline{Learn: time.Nanosecond, Observations: 500, Score: 1})
	f.ran(time.Second)
	for range 499 {
		f.observe("/p", "/c")
	}
	if _, alert := f.observe("/p", "/new"); alert {
		t.Error("alert at observation 500")
	}
	if _, alert := f.observe("/p", "/newer"); !alert {
		t.Error("no alert at observation 501")
	}
	if _, alert := f.observe("/unknown", "/c"); alert {
		t.Error("alert of a parent never seen")
	}
}

func TestBaselineOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "baseline.json")
	f := frequenciesFor(Baseline{Learn: time.Minute, File: file})
	if err := f.load(); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		f.observe("/p", "/c\xff")
	}
	f.ran(time.Minute)
	if err := f.save(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info, err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := f.save(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Fatal("written although nothing changed")
	}
	f.observe("/p", "/c\xff")
	if err := f.save(); err != nil {
		t.Fatal(err)
	}
	g := frequenciesFor(Baseline{Learn: time.Minute, File: file})
	if err := g.load(); err != nil {
		t.Fatal(err)
	}
	if left, pairs, _ := g.left(); left != 0 || pairs != 1 || g.parents["/p"].starts != 1001 {
		t.Errorf("left %s, %d pairs, %+v", left, pairs, g.parents["/p"])
	}
	if _, alert := g.observe("/p", "/c\xff"); alert {
		t.Error("what was learned before is an alert")
	}
	if _, alert := g.observe("/p", "/d"); !alert {
		t.Error("a first start is no alert")
	}
	if names, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".*")); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
}

func TestDamagedBaselineIsSetAsideAndLearnedAgain(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "baseline.json")
	if err := os.WriteFile(file, []byte(`{"version":1,"parents":{`), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Name: "s", Baseline: Baseline{Enabled: true, File: file}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file + damagedSuffix); err != nil {
		t.Error(err)
	}
	if st := s.Status(); st.Learning != defaultLearn {
		t.Errorf("status %+v", st)
	}
}

func TestBaselineStaysBounded(t *testing.T) {
	t.Parallel()
	f := frequenciesFor(Baseline{})
	long := strings.Repeat("\x01", maxKey-10)
	for i := range maxParentKeys + 10 {
		for j := range 4 {
			f.observe(fmt.Sprint("/", i, long), fmt.Sprint("/", j, long))
		}
		for _, fam := range f.parents {
			fam.starts = 1e6 // what would make alerts is kept
		}
	}
	if f.known > maxKnown || f.refused == 0 {
		t.Fatalf("%d bytes known, %d refused", f.known, f.refused)
	}
	data, _, err := f.text()
	if err != nil || len(data) > maxBaselineFile {
		t.Fatalf("a file of %d bytes could not be read again: %v", len(data), err)
	}
	g := frequenciesFor(Baseline{})
	if err := g.restore(data); err != nil || g.pairs != f.pairs {
		t.Errorf("%d pairs, want %d: %v", g.pairs, f.pairs, err)
	}
}

func TestLongPathIsCountedLikeAnyOther(t *testing.T) {
	t.Parallel()
	f := frequenciesFor(Baseline{Learn: time.Nanosecond})
	f.ran(time.Second)
	parent := "/" + strings.Repeat("p", maxKey)
	for range 1000 {
		f.observe(parent, "/c")
	}
	child := "/tmp/" + strings.Repeat("d/", maxKey)
	if _, alert := f.observe(parent, child+"x"); !alert {
		t.Error("a long path that was never seen is no alert")
	}
	if _, alert := f.observe(parent, child+"x"); alert {
		t.Error("it is one again")
	}
	if _, alert := f.observe(parent, child+"y"); !alert {
		t.Error("another long path is no alert")
	}
	data, _, err := f.text()
	if err != nil {
		t.Fatal(err)
	}
	g := frequenciesFor(Baseline{Learn: time.Nanosecond})
	if err := g.restore(data); err != nil || g.pairs != 3 {
		t.Errorf("%d pairs after a restart, want 3: %v", g.pairs, err)
	}
}

func TestInventedNamesDoNotFillTheBaseline(t *testing.T) {
	t.Parallel()
	for name, parent := range map[string]func(i int) string{
		"parents":                  func(i int) string { return fmt.Sprint("/tmp/", i) },
		"children of a few":        func(i int) string { return fmt.Sprint("/tmp/", i/maxChildKeys) },
		"children of one, at most": func(int) string { return "/tmp/x" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := frequenciesFor(Baseline{Learn: time.Nanosecond})
			f.ran(time.Second)
			for range 1000 {
				f.observe("/cron", "/job")
			}
			long := strings.Repeat("x", maxKey-20)
			for i := range 2 * maxKnown / maxKey {
				f.observe(parent(i), fmt.Sprint("/tmp/", i, long))
			}
			for range 1000 {
				f.observe("/nginx", "/cgi")
			}
			if _, alert := f.observe("/cron", "/sh"); !alert {
				t.Error("what was learned before is forgotten")
			}
			if _, alert := f.observe("/cron", "/nc"); !alert {
				t.Error("there was no room for the one before")
			}
			if _, alert := f.observe("/nginx", "/sh"); !alert {
				t.Error("nothing new is learned")
			}
			if _, pairs, refused := f.left(); refused > maxKnown/maxKey*2 || f.known > maxKnown || pairs == 0 {
				t.Errorf("%d bytes, %d pairs, %d refused", f.known, pairs, refused)
			}
		})
	}
}

func TestRareChainMakesAnAlert(t *testing.T) {
	t.Parallel()
	o := observe(t, Config{Rules: []Rule{}, Baseline: Baseline{Enabled: true, Learn: time.Minute}})
	o.w.run(10, 0, 5, "/usr/sbin/cron")
	_ = o.seed()
	start := func(pid int, file string, args ...string) {
		o.forked(10, pid)
		o.w.run(pid, 10, 9, file, args...)
		o.executed(pid, 9)
		o.table.end(pid)
	}
	for i := range 600 {
		start(100+i, "/usr/bin/dash", "sh", "/etc/cron.hourly/job")
	}
	start(90, "/usr/bin/nc")
	o.none(t)
	o.s.known.ran(time.Minute)
	start(91, "/usr/bin/nc")
	o.none(t)
	start(92, "/usr/bin/dash", "sh", "/tmp/other-job") // the script counts, not its interpreter
	d := o.one(t)
	if d.Rule != RuleBaseline || d.Level != LevelMedium || d.Score < defaultScore || d.Script != "/tmp/other-job" || d.ActionablePID != 92 ||
		!strings.Contains(d.Description, "the parent never started it before, 8.") {
		t.Errorf("alert %+v", d)
	}
}

func FuzzRestoreBaseline(f *testing.F) {
	f.Add([]byte(`{"version":1,"learned_seconds":5,"parents":{"/p":{"starts":3,"children":{"/c":3}}}}`))
	f.Add([]byte(`{"version":1,"learned_seconds":-5,"parents":{"":null,"/p":{"starts":18446744073709551615,"children":{"":1}}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		a := frequenciesFor(Baseline{Learn: time.Second})
		if a.restore(data) != nil {
			return
		}
		a.observe("/p", "/c")
		text, changed, err := a.text()
		if err != nil || !changed {
			t.Fatalf("%v %v", changed, err)
		}
		b := frequenciesFor(Baseline{Learn: time.Second})
		if err := b.restore(text); err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, text)
		}
		again := frequenciesFor(Baseline{})
		if err := again.restore(bytes.Clone(text)); err != nil || again.pairs != a.pairs {
			t.Fatalf("%d pairs, want %d", again.pairs, a.pairs)
		}
	})
}
