package prevention

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// needWine skips outside of wine: the tests change HKEY_LOCAL_MACHINE, and under wine that is a file.
func needWine(t *testing.T) {
	t.Helper()
	if windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() != nil {
		t.Skip("changes the registry of this machine: only under wine, where that is a file (make wine)")
	}
}

// shield protects the paths below a folder and one digest.
type shield struct{ folder, digest string }

func (s shield) ByID(files.ID) (bridge.Reason, string) { return bridge.ReasonNone, "" }

func (s shield) ByDigest(d string) (bridge.Reason, string) {
	if d == s.digest {
		return bridge.ReasonProtectedPath, "shell: services run through it"
	}
	return bridge.ReasonNone, ""
}

func (s shield) ByPath(p string) (bridge.Reason, string) {
	if strings.HasPrefix(strings.ToLower(p), strings.ToLower(s.folder)) {
		return bridge.ReasonProtectedPath, "system program: Windows needs it"
	}
	return bridge.ReasonNone, ""
}

// program makes a file and returns its path and digests.
func program(t *testing.T, name, content string) (path, md, sha string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	m, s := md5.Sum([]byte(content)), sha256.Sum256([]byte(content))
	return path, hex.EncodeToString(m[:]), hex.EncodeToString(s[:])
}

func registryGuard(t *testing.T, change func(*Config)) *Guard {
	t.Helper()
	needWine(t)
	cfg := Config{
		State: t.TempDir(), Mode: Block,
		Protected: func(context.Context) (Protected, error) { return shield{folder: `C:\windows\`}, nil },
	}
	if change != nil {
		change(&cfg)
	}
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.machine.apply(context.WithoutCancel(t.Context()), nil, ""); err != nil {
			t.Errorf("clean the registry: %v", err)
		}
		if left, err := ownEntries(); err != nil || len(left) > 0 {
			t.Errorf("left in the registry: %v, %v", left, err)
		}
		for _, key := range []string{safer, imageOptions + `\evil.exe`} {
			if _, ok, err := machineKey(key, registry.QUERY_VALUE); ok || err != nil {
				t.Errorf("%s is still there, %v", key, err)
			}
		}
	})
	return g
}

// unenforced makes this Windows one that does not look at software restriction policies.
func unenforced(t *testing.T) {
	t.Helper()
	k, err := makeKey(srpGroup)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if err := k.SetDWordValue(ruleCount, 2); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := deleteKey(srpGroup); err != nil {
			t.Error(err)
		}
	})
}

func value(t *testing.T, key, name string) string {
	t.Helper()
	k, ok, err := machineKey(key, registry.QUERY_VALUE)
	if err != nil || !ok {
		t.Fatalf("%s: %v, %v", key, ok, err)
	}
	defer k.Close()
	s, _, err := k.GetStringValue(name)
	if err != nil {
		t.Fatalf("%s %s: %v", key, name, err)
	}
	return s
}

func TestARuleByPathStandsInTheRegistryAndGoes(t *testing.T) {
	g := registryGuard(t, nil)
	path, _, _ := program(t, "Evil.exe", "no program")
	r, err := g.Add(t.Context(), "o1", bridge.PreventExecution{Path: path})
	if err != nil || r.State != bridge.StateDone || !strings.Contains(r.Detail, "it goes by the path") || !strings.Contains(r.Detail, "nothing is reported") {
		t.Fatalf("%+v, %v", r, err)
	}
	key := imageOptions + `\evil.exe`
	if got := value(t, key+`\edr-bridge-`+r.Ref, "FilterFullPath"); got != path {
		t.Errorf("filter on %q, want %q", got, path)
	}
	debug := value(t, key+`\edr-bridge-`+r.Ref, "Debugger")
	if _, err := os.Lstat(debug); !errors.Is(err, os.ErrNotExist) || !filepath.IsAbs(debug) {
		t.Errorf("the debugger %q: %v", debug, err)
	}
	if got := value(t, saferPaths+`\`+guidOf(entry{kind: byPath, rule: r.Ref}), "ItemData"); got != path {
		t.Errorf("policy about %q, want %q", got, path)
	}
	if again, err := g.Add(t.Context(), "o2", bridge.PreventExecution{Path: strings.ToUpper(path)}); err != nil || again.Ref != r.Ref {
		t.Errorf("the same rule again: %+v, %v", again, err)
	}
	if rules, err := g.Rules(t.Context()); err != nil || len(rules) != 1 {
		t.Errorf("rules %+v, %v", rules, err)
	}
	if err := g.Remove(t.Context(), r.Ref); err != nil {
		t.Fatal(err)
	}
	if left, err := ownEntries(); err != nil || len(left) > 0 {
		t.Errorf("left %+v, %v", left, err)
	}
}

func TestARuleByContentHasSizeAndBothDigests(t *testing.T) {
	g := registryGuard(t, nil)
	path, md, sha := program(t, "evil.exe", "no program")
	r, err := g.Add(t.Context(), "o1", bridge.PreventExecution{Path: path, Hash: md})
	if err != nil || !strings.Contains(r.Detail, "by content wherever the file lies") {
		t.Fatalf("%+v, %v", r, err)
	}
	have, err := ownEntries()
	want := entry{kind: byHash, rule: r.Ref, md5: md, sha256: sha, size: int64(len("no program"))}
	if err != nil || len(have) != 1 || have[0] != want {
		t.Fatalf("entries %+v, %v", have, err)
	}
	// The file is gone and the agent starts anew: the rule goes on.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	g.machine.check(t.Context(), false)
	if have, err := ownEntries(); err != nil || len(have) != 1 || g.machine.trouble != nil {
		t.Errorf("entries %+v, %v, %v", have, err, g.machine.trouble)
	}
}

func TestWhatWindowsCannotExpressIsRefused(t *testing.T) {
	path, md, _ := program(t, "evil.exe", "no program")
	script, _, _ := program(t, "evil.ps1", "x")
	for _, tt := range []struct {
		name   string
		task   bridge.PreventExecution
		no     bool // software restriction policies are not enforced
		change func(*Config)
		want   bridge.Reason
		says   string
	}{
		{"a digest alone", bridge.PreventExecution{Hash: md}, false, nil, bridge.ReasonUnsupported, "no rule by digest alone"},
		{"another digest", bridge.PreventExecution{Path: path, Hash: strings.Repeat("ab", 16)}, false, nil, bridge.ReasonUnsupported, "another digest"},
		{"a file that is not there", bridge.PreventExecution{Path: path + ".x.exe", Hash: md}, false, nil, bridge.ReasonUnsupported, "not there"},
		{"a script without policies", bridge.PreventExecution{Path: script}, true, nil, bridge.ReasonUnsupported, "22H2"},
		{"a program of the system", bridge.PreventExecution{Path: `C:\windows\system32\cmd.exe`}, false, nil, bridge.ReasonProtectedPath, "Windows needs it"},
		{"log only", bridge.PreventExecution{Path: path}, false, func(c *Config) { c.Mode = LogOnly }, bridge.ReasonUnsupported, "no log-only mode"},
		{"a copy of a shell", bridge.PreventExecution{Path: path}, false, func(c *Config) {
			c.Protected = func(context.Context) (Protected, error) { return shield{`C:\windows\`, md}, nil }
		}, bridge.ReasonProtectedPath, "never denied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := registryGuard(t, tt.change)
			if tt.no {
				unenforced(t)
			}
			_, err := g.Add(t.Context(), "o", tt.task)
			if !refusedFor(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %s: …%s…", err, tt.want, tt.says)
			}
			if rules, err := g.Rules(t.Context()); err != nil || len(rules) > 0 {
				t.Errorf("the rule was stored: %+v, %v", rules, err)
			}
		})
	}
}

// refusedFor reports whether a refusal with the reason is anywhere in err.
func refusedFor(err error, want bridge.Reason) bool {
	for err != nil {
		v, ok := errors.AsType[*verdict.Error](err)
		if !ok {
			return false
		}
		if v.Reason == want {
			return true
		}
		err = v.Err
	}
	return false
}

func TestWithoutPoliciesAProgramGoesByItsPathAndTheReceiptSaysSo(t *testing.T) {
	g := registryGuard(t, nil)
	unenforced(t)
	path, md, _ := program(t, "evil.exe", "no program")
	r, err := g.Add(t.Context(), "o1", bridge.PreventExecution{Path: path, Hash: md})
	if err != nil || !strings.Contains(r.Detail, "NOT by the digest") || !strings.Contains(r.Detail, "does not enforce") {
		t.Fatalf("%+v, %v", r, err)
	}
	if have, err := ownEntries(); err != nil || len(have) != 1 || have[0].kind != byDebugger {
		t.Errorf("entries %+v, %v", have, err)
	}
}

func TestWhatSomebodyTookAwayIsPutBack(t *testing.T) {
	g := registryGuard(t, nil)
	path, _, _ := program(t, "evil.exe", "no program")
	r, err := g.Add(t.Context(), "o1", bridge.PreventExecution{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	want, err := ownEntries()
	if err != nil || len(want) != 2 {
		t.Fatalf("entries %+v, %v", want, err)
	}
	sub := imageOptions + `\evil.exe\edr-bridge-` + r.Ref
	for name, spoil := range map[string]func() error{
		"the policy is removed":     func() error { return deleteKey(policyKey(entry{kind: byPath, rule: r.Ref})) },
		"the subkey is removed":     func() error { return deleteKey(sub) },
		"another debugger":          func() error { return setString(sub, "Debugger", `C:\windows\system32\cmd.exe`) },
		"another path":              func() error { return setString(sub, "FilterFullPath", `C:\other.exe`) },
		"another path, same name":   func() error { return setString(sub, "FilterFullPath", `C:\evil.exe`) },
		"the filter is off":         func() error { return setDWord(imageOptions+`\evil.exe`, "UseFilter", 0) },
		"the policy is about other": func() error { return setString(policyKey(entry{kind: byPath, rule: r.Ref}), "ItemData", `C:\x`) },
	} {
		if err := spoil(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		g.machine.check(t.Context(), false)
		got, err := ownEntries()
		if err != nil || g.machine.trouble != nil || len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
			t.Errorf("%s: entries %+v, %v, %v", name, got, err, g.machine.trouble)
		}
		if on, err := dword(imageOptions+`\evil.exe`, "UseFilter"); err != nil || on != 1 {
			t.Errorf("%s: UseFilter is %d, %v", name, on, err)
		}
	}
	var s Status
	if g.machine.status(t.Context(), &s); s.Restarts == 0 {
		t.Error("nobody is told that the rules had to be written again")
	}
}

func setString(key, name, v string) error {
	k, _, err := machineKey(key, registry.ALL_ACCESS)
	if err != nil {
		return err
	}
	defer k.Close()
	return k.SetStringValue(name, v)
}

func setDWord(key, name string, v uint32) error {
	k, _, err := machineKey(key, registry.ALL_ACCESS)
	if err != nil {
		return err
	}
	defer k.Close()
	return k.SetDWordValue(name, v)
}

func dword(key, name string) (uint64, error) {
	k, _, err := machineKey(key, registry.QUERY_VALUE)
	if err != nil {
		return 0, err
	}
	defer k.Close()
	v, _, err := k.GetIntegerValue(name)
	return v, err
}

func TestTheEmergencySwitchEmptiesTheRegistry(t *testing.T) {
	off := filepath.Join(t.TempDir(), "disable")
	g := registryGuard(t, func(c *Config) { c.Disable = off })
	path, _, _ := program(t, "evil.exe", "no program")
	if _, err := g.Add(t.Context(), "o1", bridge.PreventExecution{Path: path}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(off, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	g.machine.check(t.Context(), g.machine.cfg.disabled())
	if have, err := ownEntries(); err != nil || len(have) > 0 || g.Running() {
		t.Errorf("entries %+v, %v", have, err)
	}
	if _, err := g.Add(t.Context(), "o2", bridge.PreventExecution{Path: path}); err == nil {
		t.Error("a rule was taken while the switch is on")
	}
	if err := os.Remove(off); err != nil {
		t.Fatal(err)
	}
	g.machine.check(t.Context(), g.machine.cfg.disabled())
	if have, err := ownEntries(); err != nil || len(have) != 2 {
		t.Errorf("entries %+v, %v", have, err)
	}
}

func TestTheEmergencySwitchEmptiesTheRegistryWhateverTheRulesAreLike(t *testing.T) {
	off := filepath.Join(t.TempDir(), "disable")
	for name, change := range map[string]func(*Guard) error{
		"damaged": func(g *Guard) error { return os.WriteFile(filepath.Join(g.cfg.State, rulesFile), []byte("{"), 0o600) },
		"dry run": func(g *Guard) error { g.machine.cfg.DryRun = true; return nil },
	} {
		g := registryGuard(t, func(c *Config) { c.Disable = off })
		path, _, _ := program(t, "evil.exe", "no program")
		if _, err := g.Add(t.Context(), "o1", bridge.PreventExecution{Path: path}); err != nil {
			t.Fatal(err)
		}
		if err := change(g); err != nil {
			t.Fatal(err)
		}
		g.machine.check(t.Context(), true)
		if have, err := ownEntries(); err != nil || len(have) > 0 {
			t.Errorf("%s: entries %+v, %v", name, have, err)
		}
	}
}

func TestARuleThatCannotBeExpressedAnyMoreKeepsNoOtherFromComingAndGoing(t *testing.T) {
	g := registryGuard(t, nil)
	old, sum, _ := program(t, "old.exe", "no program")
	if _, err := g.Add(t.Context(), "o1", bridge.PreventExecution{Path: old, Hash: sum}); err != nil {
		t.Fatal(err)
	}
	have, err := ownEntries()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range have { // a group policy took them
		if err := e.remove(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(old); err != nil {
		t.Fatal(err)
	}
	path, _, _ := program(t, "evil.exe", "another program")
	rule, err := g.Add(t.Context(), "o2", bridge.PreventExecution{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if have, err := ownEntries(); err != nil || len(have) == 0 {
		t.Errorf("entries %+v, %v", have, err)
	}
	if err := g.Remove(t.Context(), rule.Ref); err != nil {
		t.Error(err)
	}
	if have, err := ownEntries(); err != nil || len(have) != 0 {
		t.Errorf("entries %+v, %v", have, err)
	}
}

func TestForeignSettingsAreNotTouched(t *testing.T) {
	g := registryGuard(t, nil)
	const key = imageOptions + `\foreign.exe`
	k, err := makeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = deleteKey(key) }()
	defer k.Close()
	if err := k.SetStringValue("Debugger", `C:\vsjitdebugger.exe`); err != nil {
		t.Fatal(err)
	}
	path, _, _ := program(t, "foreign.exe", "x")
	if _, err := g.Add(t.Context(), "o1", bridge.PreventExecution{Path: path}); err == nil || !strings.Contains(err.Error(), "another product") {
		t.Errorf("a foreign debugger: %v", err)
	}
	if rules, err := g.Rules(t.Context()); err != nil || len(rules) > 0 {
		t.Errorf("the rule was stored: %+v, %v", rules, err)
	}
	if got := value(t, key, "Debugger"); got != `C:\vsjitdebugger.exe` {
		t.Errorf("the foreign debugger is %q", got)
	}
}

func TestStoredRulesMustBelongToUs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, rulesFile)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := trusted(dir, path); err != nil {
		t.Errorf("own files: %v", err)
	}
	if err := trusted(dir, path+".missing"); err == nil {
		t.Error("a missing file was trusted")
	}
}

func TestASignedProgramIsSeen(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	img, err := lookAt(t.Context(), self)
	if err != nil || img == nil || img.signed || img.size == 0 || len(img.md5) != 32 {
		t.Fatalf("the program of the test: %+v, %v", img, err)
	}
	raw, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	// The security directory is entry 4 of the table behind the optional header of a 64-bit program.
	pe := int(raw[0x3c]) | int(raw[0x3d])<<8
	raw[pe+24+112+4*8+4] = 1
	signed := filepath.Join(t.TempDir(), "signed.exe")
	if err := os.WriteFile(signed, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(signed)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !carriesSignature(f) {
		t.Error("a program with a table of certificates counts as unsigned")
	}
	r := &Rule{ID: "p", Path: signed, MD5: "m"}
	if found, err := means(r, &image{md5: "m", signed: true}, true); err != nil || len(found) != 2 || found[0].kind != byDebugger || found[1].kind != byPath {
		t.Errorf("a signed program goes by %+v, %v", found, err)
	}
}
