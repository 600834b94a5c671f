package mapping

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/edr-bridge/edr-bridge/bridge"
)

type schemaNode struct {
	Properties        map[string]json.RawMessage `json:"properties"`
	PatternProperties map[string]json.RawMessage `json:"patternProperties"`
	Items             *schemaNode                `json:"items"`
	Enum              []string                   `json:"enum"`
	AllOf             []struct {
		If struct {
			Properties struct {
				Task struct{ Const string } `json:"task"`
			} `json:"properties"`
		} `json:"if"`
		Then struct {
			Properties struct {
				Params schemaNode `json:"params"`
			} `json:"properties"`
		} `json:"then"`
	} `json:"allOf"`
	Defs map[string]json.RawMessage `json:"$defs"`
}

func parseSchema[T any](t *testing.T, data []byte) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func keysOf(n schemaNode) []string {
	var keys []string
	for k := range n.Properties {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func TestSchemaAndLoaderKnowTheSameKeys(t *testing.T) {
	t.Parallel()
	root := parseSchema[schemaNode](t, Schema())
	def := func(name string) schemaNode { return parseSchema[schemaNode](t, root.Defs[name]) }
	for name, c := range map[string]struct {
		node schemaNode
		keys []string
	}{
		"file": {root, fileKeys}, "rule": {def("rule"), ruleKeys}, "step": {def("step"), stepKeys}, "dedupe": {def("dedupe"), dedupeKeys}, "after": {def("after"), afterKeys},
	} {
		if diff := cmp.Diff(slices.Sorted(slices.Values(c.keys)), keysOf(c.node)); diff != "" {
			t.Errorf("%s: -loader +schema\n%s", name, diff)
		}
	}
	step := def("step")
	var kinds []string
	for _, k := range bridge.Kinds() {
		kinds = append(kinds, string(k))
	}
	if diff := cmp.Diff(kinds, parseSchema[schemaNode](t, step.Properties["task"]).Enum); diff != "" {
		t.Errorf("tasks: -bridge +schema\n%s", diff)
	}
	params := map[string][]string{}
	for _, branch := range step.AllOf {
		n := branch.Then.Properties.Params
		if n.Items != nil {
			n = *n.Items
		}
		params[branch.If.Properties.Task.Const] = keysOf(n)
	}
	for _, k := range bridge.Kinds() {
		rd, _, err := newReading(k)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(slices.Sorted(slices.Values(rd.names)), params[string(k)]); diff != "" {
			t.Errorf("params of %s: -loader +schema\n%s", k, diff)
		}
	}
}

func TestSchemaKnowsExactlyTheFactsAndModifiersOfMatch(t *testing.T) {
	t.Parallel()
	root := parseSchema[schemaNode](t, Schema())
	match := parseSchema[schemaNode](t, root.Defs["match"])
	if len(match.PatternProperties) != 1 {
		t.Fatalf("want one pattern, got %d", len(match.PatternProperties))
	}
	var key *regexp.Regexp
	for pattern := range match.PatternProperties {
		key = regexp.MustCompile(pattern)
	}
	for _, name := range append(fieldNames(), "raw.a.b") {
		for _, mod := range append([]string{""}, modifiers...) {
			full := strings.TrimSuffix(name+"|"+mod, "|")
			if !key.MatchString(full) {
				t.Errorf("schema does not know %q", full)
			}
		}
	}
	for _, wrong := range []string{"levels", "age", "raw", "alert.level", "level|endwith", "levelx"} {
		if key.MatchString(wrong) {
			t.Errorf("schema takes %q", wrong)
		}
	}
	inSchema := regexp.MustCompile(`[a-z]+`).FindAllString(key.String()[strings.LastIndex(key.String(), "(\\|("):], -1)
	if diff := cmp.Diff(slices.Sorted(slices.Values(modifiers)), slices.Sorted(slices.Values(inSchema))); diff != "" {
		t.Errorf("modifiers: -loader +schema\n%s", diff)
	}
}

func TestSchemaKnowsExactlyTheFactsOfBy(t *testing.T) {
	t.Parallel()
	root := parseSchema[schemaNode](t, Schema())
	for def, wrong := range map[string][]string{"dedupe": nil, "after": {"time", "alert.time"}} {
		node := parseSchema[schemaNode](t, root.Defs[def])
		by := parseSchema[struct{ Items struct{ Pattern string } }](t, node.Properties[keyBy])
		pattern := regexp.MustCompile(by.Items.Pattern)
		for _, name := range append(fieldNames(), "raw.a.b") {
			for _, full := range []string{name, alertPrefix + name} {
				if got, want := pattern.MatchString(full), !slices.Contains(wrong, full); got != want {
					t.Errorf("%s.by: schema takes %q: %v, want %v", def, full, got, want)
				}
			}
		}
		for _, name := range []string{"levels", "age", "raw", "hosts", "host|not", ""} {
			if pattern.MatchString(name) {
				t.Errorf("%s.by: schema takes %q", def, name)
			}
		}
	}
}

func TestSchemaTakesTheRulesTheLoaderTakes(t *testing.T) {
	t.Parallel()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("rules.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("rules.json")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/golden/*.golden")
	if err != nil || len(files) == 0 {
		t.Fatalf("golden files: %v, %v", files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		rules, _, _ := strings.Cut(string(data), "----------\n")
		problems := newLoader(defaultWindow, defaultIsolation).load(RuleFile{Name: "rules.yaml", Data: []byte(rules)})
		if strings.HasPrefix(filepath.Base(file), "syntax") || strings.HasPrefix(filepath.Base(file), "aliases") {
			continue
		}
		converted, err := yaml.YAMLToJSON([]byte(rules))
		if err != nil {
			if len(problems) == 0 {
				t.Errorf("%s: %v", file, err)
			}
			continue
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(converted))
		if err != nil {
			t.Fatal(err)
		}
		if got := schema.Validate(value); (got == nil) != (len(problems) == 0) {
			t.Errorf("%s: schema says %v, loader %v", file, got, problems)
		}
	}
}

func TestEveryAlertFieldHasNameAndKind(t *testing.T) {
	t.Parallel()
	for i := range alertFields {
		if alertFields[i].name == "" || alertFields[i].kind == 0 {
			t.Errorf("field %d is empty", i)
		}
	}
}
