package main

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const modulePath = "github.com/edr-bridge/edr-bridge/"

// arrows is the table of allowed imports inside the project: a new package or a new arrow is first a line here.
// Everything may import bridge; test packages are free.
func arrows() map[string][]string {
	return map[string][]string{
		"bridge":              {},
		"bridge/redisbus":     {"bridge"},
		"bridge/store":        {"bridge"},
		"bridge/api":          {"bridge", "syslog", "peersocket"},
		"bridge/ocsf":         {"bridge"},
		"bridge/bridgetest":   {"bridge"},
		"cef":                 {},
		"syslog":              {},
		"mapping":             {"bridge", "cef", "syslog", "yamltree"},
		"kuma":                {"bridge", "cef", "kuma/callout", "peersocket", "servercert"},
		"peersocket":          {},
		"servercert":          {},
		"yamltree":            {"bridge"},
		"kuma/callout":        {"bridge"},
		"kuma/kumatest":       {},
		"cmd/edr-bridge-call": {"kuma/callout"},
		"ksc":                 {"bridge", "servercert"},
		"ksc/ksctest":         {},
		"localagent": {
			"bridge", "localagent/verdict", "localagent/files", "localagent/firewall", "localagent/vault", "localagent/prevention",
			"localagent/ioc", "localagent/scan", "localagent/jobs", "localagent/safety",
		},
		"localagent/verdict":    {"bridge"},
		"localagent/files":      {"bridge", "localagent/verdict"},
		"localagent/safety":     {"bridge", "localagent/files"},
		"localagent/firewall":   {"bridge", "localagent/verdict", "localagent/files"},
		"localagent/vault":      {"bridge", "localagent/verdict", "localagent/files"},
		"localagent/prevention": {"bridge", "localagent/verdict", "localagent/files", "localagent/safety"},
		"localagent/ioc":        {"bridge", "localagent/verdict", "localagent/files"},
		"localagent/scan":       {"bridge", "localagent/verdict", "localagent/files"},
		"localagent/jobs":       {"bridge", "localagent/verdict", "localagent/files"},
		"localagent/socket":     {"bridge", "peersocket", "localagent/jobs"},
		"localagent/sensor":     {"bridge", "localagent/files", "yamltree"},
		"localagent/agenttest":  {},
		"configs":               {"bridge"},
		"configs/secrets":       {"configs/secrets/nobus"},
		"configs/secrets/nobus": {},
		"bench":                 {"*"},
		"bench/bare":            {},
		"chaos":                 {"*"},
		"cmd/edr-bridge":        {"*"},
	}
}

// goFiles walks the module's own Go files; nested modules are not part of it.
func goFiles(t *testing.T, visit func(dir, path string)) {
	t.Helper()
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			name := d.Name()
			if path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "tools") {
				return filepath.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(path, ".go") {
			rel, err := filepath.Rel(root, filepath.Dir(path))
			if err != nil {
				return err
			}
			visit(filepath.ToSlash(rel), path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestImportsFollowTheArrows(t *testing.T) {
	t.Parallel()
	allowed := arrows()
	goFiles(t, func(dir, path string) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		may, known := allowed[dir]
		if !known {
			t.Errorf("%s: package %q is not in the table of arrows", path, dir)
			return
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			t.Error(err)
			return
		}
		for _, imp := range file.Imports {
			name := strings.Trim(imp.Path.Value, `"`)
			rel, own := strings.CutPrefix(name, modulePath)
			if !own {
				if dir == "bridge" && strings.Contains(strings.SplitN(name, "/", 2)[0], ".") {
					t.Errorf("%s imports %s: bridge knows the standard library only", path, name)
				}
				continue
			}
			if !slices.Contains(may, "*") && !slices.Contains(may, rel) {
				t.Errorf("%s imports %s: no such arrow %s → %s", path, name, dir, rel)
			}
		}
	})
}

// TestTheProgramOfACallLinksNoHTTP keeps out what would cost each call memory (2 MiB) and time before it begins.
func TestTheProgramOfACallLinksNoHTTP(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "../edr-bridge-call").Output()
	if err != nil {
		t.Fatal(err)
	}
	linked := strings.Fields(string(out))
	for _, heavy := range []string{"net/http", "crypto/tls", "encoding/xml", "regexp", "os/user", modulePath + "kuma"} {
		if slices.Contains(linked, heavy) {
			t.Errorf("cmd/edr-bridge-call links %s", heavy)
		}
	}
	if !slices.Contains(linked, modulePath+"kuma/callout") {
		t.Errorf("cmd/edr-bridge-call links %v", linked)
	}
}

func TestEveryPackageHasExactlyOneDoc(t *testing.T) {
	t.Parallel()
	docs := map[string][]string{}
	goFiles(t, func(dir, path string) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Error(err)
			return
		}
		if file.Doc != nil {
			docs[dir] = append(docs[dir], path)
		}
	})
	for dir := range arrows() {
		if len(docs[dir]) != 1 {
			t.Errorf("package %s has %d package docs %v, want exactly 1", dir, len(docs[dir]), docs[dir])
		}
	}
}

func TestFilesAreOneIdeaLong(t *testing.T) {
	t.Parallel()
	goFiles(t, func(_, path string) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			return
		}
		if lines := strings.Count(string(data), "\n"); lines > 400 {
			t.Errorf("%s has %d lines: split it by idea, the limit is 400", path, lines)
		}
	})
}

func TestNothingIsNamedAfterNothing(t *testing.T) {
	t.Parallel()
	grab := []string{"util", "utils", "common", "models", "types", "base", "misc", "helpers", "shared"}
	goFiles(t, func(dir, path string) {
		if slices.Contains(grab, filepath.Base(dir)) {
			t.Errorf("%s: a package is named for what it holds, not %q", path, filepath.Base(dir))
		}
	})
}

func TestModulePinsThatBelongTogether(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join("..", "..", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	mod := string(data)
	for _, want := range []string{
		"modernc.org/sqlite v1.60.1", "modernc.org/libc v1.77.1", // sqlite's generated code fits exactly this libc
		"github.com/dvsekhvalnov/jose2go v1.11.0", // known holes below it
	} {
		if !strings.Contains(mod, want) {
			t.Errorf("go.mod lacks %q", want)
		}
	}
	var minor int
	_, after, _ := strings.Cut(mod, "golang.org/x/net v0.")
	if _, err := fmt.Sscan(strings.SplitN(after, ".", 2)[0], &minor); err != nil || minor < 56 {
		t.Errorf("golang.org/x/net v0.%d: below v0.56 it has known holes", minor)
	}
	if strings.Contains(mod, "\nreplace ") {
		t.Error("go.mod has a replace directive: go install would ignore it")
	}
}
