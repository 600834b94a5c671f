package prevention

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// nothing protects nothing.
type nothing struct{}

func (nothing) ByID(files.ID) (bridge.Reason, string)   { return bridge.ReasonNone, "" }
func (nothing) ByDigest(string) (bridge.Reason, string) { return bridge.ReasonNone, "" }
func (nothing) ByPath(string) (bridge.Reason, string)   { return bridge.ReasonNone, "" }
func unprotected(context.Context) (Protected, error)    { return nothing{}, nil }

func newGuard(t *testing.T, change func(*Config)) *Guard {
	t.Helper()
	cfg := Config{State: filepath.Join(t.TempDir(), "state"), Protected: unprotected, Disable: filepath.Join(t.TempDir(), "disable")}
	if change != nil {
		change(&cfg)
	}
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

const md5Of, sha256Of = "0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestI5RulesByUnusableHashesAreRefused(t *testing.T) {
	t.Parallel()
	g := newGuard(t, func(c *Config) { c.DryRun = true })
	for name, c := range map[string]struct {
		task bridge.PreventExecution
		want string
	}{
		"nothing":            {bridge.PreventExecution{}, "params.hash: required when no path is given"},
		"short":              {bridge.PreventExecution{Hash: md5Of[1:]}, "31 characters"},
		"sha1":               {bridge.PreventExecution{Hash: md5Of + "01234567"}, "40 characters"},
		"not hex":            {bridge.PreventExecution{Hash: "g" + md5Of[1:]}, "not 32 lower-case hex digits"},
		"empty file, md5":    {bridge.PreventExecution{Hash: strings.ToUpper(emptyMD5)}, "empty file"},
		"empty file, sha256": {bridge.PreventExecution{Hash: emptySHA256, Path: "/opt/x"}, "empty file"},
		"escape":             {bridge.PreventExecution{Hash: "\x1b[2J" + md5Of[4:]}, `"\x1b[2j`},
	} {
		_, err := g.Add(t.Context(), "o1", c.task)
		if v := verdict.Of(err); err == nil || v.Class != bridge.Permanent || v.Reason != bridge.ReasonInvalid || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	for name, task := range map[string]bridge.PreventExecution{"md5": {Hash: strings.ToUpper(md5Of)}, "sha256": {Hash: sha256Of}} {
		if r, err := g.Add(t.Context(), "o1", task); err != nil || r.State != bridge.StateShadow || !strings.Contains(r.Detail, strings.ToLower(task.Hash)) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	if rules, err := g.Rules(t.Context()); err != nil || len(rules) != 0 {
		t.Errorf("a dry run stored %v, %v", rules, err)
	}
}

func TestI6RulesByUnusablePathsAreRefused(t *testing.T) {
	t.Parallel()
	g := newGuard(t, func(c *Config) { c.DryRun = true })
	for _, path := range []string{
		"evil", "../evil", "/opt/../bin/x", `C:\evil.exe`, `\\server\share\x`, "/opt/*.sh", "/opt/$HOME/x", "/opt/x\x00y", "/", "/opt/e\u202evil",
		"/" + strings.Repeat("x", 300), strings.Repeat("/x", 20000),
	} {
		_, err := g.Add(t.Context(), "o1", bridge.PreventExecution{Path: path})
		if v := verdict.Of(err); err == nil || v.Reason != bridge.ReasonInvalid {
			t.Errorf("%.40q: %v", path, err)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\x00\u202e") {
			t.Errorf("%.40q: the error deceives its reader", path)
		}
	}
}

func TestARuleHasOneIDWhateverItsSpelling(t *testing.T) {
	t.Parallel()
	id := func(task bridge.PreventExecution) string {
		t.Helper()
		r, err := newRule("o1", task, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return r.ID
	}
	same := [][2]bridge.PreventExecution{
		{{Hash: md5Of}, {Hash: strings.ToUpper(md5Of)}},
		{{Path: "/opt/Evil"}, {Path: "/opt/./evil"}},
		{{Hash: md5Of, CaseSensitive: true}, {Hash: md5Of}},
	}
	for _, p := range same {
		if id(p[0]) != id(p[1]) {
			t.Errorf("%+v and %+v have two ids", p[0], p[1])
		}
	}
	seen := map[string]bridge.PreventExecution{}
	for _, task := range []bridge.PreventExecution{
		{Hash: md5Of},
		{Hash: sha256Of},
		{Path: "/opt/evil"},
		{Path: "/opt/evil", CaseSensitive: true},
		{Path: "/opt/Evil", CaseSensitive: true},
		{Path: "/opt/evil", Hash: md5Of},
		{Path: "/opt/evil2"},
	} {
		if other, ok := seen[id(task)]; ok {
			t.Errorf("%+v and %+v have one id", task, other)
		}
		seen[id(task)] = task
	}
}

func TestWithoutAGuardThatRunsNothingIsStored(t *testing.T) {
	t.Parallel()
	g := newGuard(t, nil)
	_, err := g.Add(t.Context(), "o1", bridge.PreventExecution{Hash: md5Of})
	if v := verdict.Of(err); err == nil || v.Class != bridge.Permanent || v.Reason != bridge.ReasonNone || !strings.Contains(err.Error(), "start the agent") {
		t.Errorf("add: %v", err)
	}
	if rules, err := g.Rules(t.Context()); err != nil || len(rules) != 0 {
		t.Errorf("stored: %v, %v", rules, err)
	}
}

func TestWhenNobodyKnowsWhatIsProtectedNothingIsForbidden(t *testing.T) {
	t.Parallel()
	g := newGuard(t, func(c *Config) {
		c.Protected = func(context.Context) (Protected, error) { return nil, errors.New("no list") }
	})
	_, err := g.Add(t.Context(), "o1", bridge.PreventExecution{Hash: md5Of})
	if v := verdict.Of(err); err == nil || v.Class != bridge.Permanent || !strings.Contains(err.Error(), "no list") {
		t.Errorf("add: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Add(ctx, "o1", bridge.PreventExecution{Hash: md5Of}); verdict.Of(err).Class != bridge.Retry {
		t.Errorf("add after the end of ctx: %v", err)
	}
}

func someRules(t testing.TB, n int) []Rule {
	t.Helper()
	var rules []Rule
	for i := range n {
		r, err := newRule("o1", bridge.PreventExecution{Path: fmt.Sprintf("/opt/evil%d", i)}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r)
	}
	return rules
}

func TestOneRuleMoreThanTheLimitIsRefused(t *testing.T) {
	t.Parallel()
	g := newGuard(t, nil)
	rules := someRules(t, MaxRules)
	if err := g.save(rules); err != nil {
		t.Fatal(err)
	}
	_, err := g.Add(t.Context(), "o1", bridge.PreventExecution{Hash: md5Of})
	if v := verdict.Of(err); err == nil || v.Reason != bridge.ReasonLimit {
		t.Errorf("add: %v", err)
	}
	if err := g.Remove(t.Context(), rules[0].ID); err != nil {
		t.Fatal(err)
	}
	if left, err := g.Rules(t.Context()); err != nil || len(left) != MaxRules-1 || left[0].ID != rules[1].ID {
		t.Errorf("after remove: %d rules, %v", len(left), err)
	}
}

func TestDamagedRulesAreAnErrorAndNotAnEmptyList(t *testing.T) {
	t.Parallel()
	good, err := json.Marshal(stored{rulesVersion, someRules(t, 2)})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty": "", "cut": string(good[:len(good)/2]), "version": `{"version":2,"rules":[]}`, "foreign id": strings.Replace(string(good), "/opt/evil1", "/opt/evil3", 1),
		"twice":      strings.ReplaceAll(string(good), "evil1", "evil0"),
		"empty hash": `{"version":1,"rules":[{"id":"x","md5":"` + emptyMD5 + `"}]}`,
	} {
		g := newGuard(t, nil)
		if err := g.save(nil); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(g.cfg.State, rulesFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if rules, err := g.Rules(t.Context()); err == nil {
			t.Errorf("%s: %v", name, rules)
		}
		if err := g.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: run: %v", name, err)
		}
	}
}

func TestNewReportsEveryProblemAtOnce(t *testing.T) {
	t.Parallel()
	_, err := New(Config{State: "relative", Mode: "loud", Deadline: time.Hour, Stall: time.Millisecond, Workers: 1000, Breaker: -1})
	for _, want := range []string{"state:", "mode:", "protected:", "deadline:", "stall:", "workers:", "breaker:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

func FuzzStoredRules(f *testing.F) {
	good, err := json.Marshal(stored{rulesVersion, someRules(f, 3)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version":1,"rules":[{"id":"p","path":"/x"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		rules, err := decodeRules(data)
		if err != nil {
			return
		}
		text, err := json.Marshal(stored{rulesVersion, rules})
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodeRules(text)
		if err != nil || len(again) != len(rules) {
			t.Fatalf("%d rules became %d: %v", len(rules), len(again), err)
		}
		for i := range rules {
			if rules[i].check() != nil || rules[i].id() != again[i].ID {
				t.Fatalf("rule %d: %+v", i, rules[i])
			}
		}
	})
}
