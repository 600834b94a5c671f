package mapping

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func TestPresetSchemaAndLoaderKnowTheSameWords(t *testing.T) {
	t.Parallel()
	type node struct {
		Properties map[string]json.RawMessage `json:"properties"`
		Defs       map[string]json.RawMessage `json:"$defs"`
		OneOf      []struct{ Enum []string }  `json:"oneOf"`
	}
	root := parseSchema[node](t, PresetSchema())
	keys := func(data []byte) []string {
		return keysOf(schemaNode{Properties: parseSchema[node](t, data).Properties})
	}
	sorted := func(list []string) []string { return slices.Sorted(slices.Values(list)) }
	if diff := cmp.Diff(sorted(presetKeys), keys(PresetSchema())); diff != "" {
		t.Errorf("preset: -loader +schema\n%s", diff)
	}
	if diff := cmp.Diff(sorted(append(presetFieldNames(), keyHashes)), keys(root.Properties[keyFields])); diff != "" {
		t.Errorf("fields: -loader +schema\n%s", diff)
	}
	known := map[string]bool{}
	for _, k := range []string{"text", "level", "hashes"} {
		list := parseSchema[struct{ Items json.RawMessage }](t, root.Defs[k])
		object := list.Items
		if alternatives := parseSchema[struct{ OneOf []json.RawMessage }](t, list.Items).OneOf; k != "hashes" {
			object = alternatives[1]
		}
		for _, key := range keys(object) {
			known[key] = true
		}
	}
	for _, key := range candidateKeys {
		if !known[key] {
			t.Errorf("schema does not know %s of a place", key)
		}
		delete(known, key)
	}
	if len(known) > 0 {
		t.Errorf("schema invents %v", known)
	}
	if diff := cmp.Diff(formatNames(), parseSchema[node](t, root.Properties[keyFormat]).OneOf[0].Enum); diff != "" {
		t.Errorf("formats: -loader +schema\n%s", diff)
	}
	for def, k := range map[string]kind{
		"text": kindText, "id": kindID, "level": kindLevel, "time": kindTime, "pid": kindPID, "ticks": kindTicks, "digest": kindMD5, "address": kindAddress,
	} {
		if diff := cmp.Diff(sorted(formsOf(k)), sorted(parseSchema[node](t, root.Defs["as-"+def]).OneOf[0].Enum)); diff != "" {
			t.Errorf("as of %s: -loader +schema\n%s", k, diff)
		}
	}
	fields := parseSchema[node](t, root.Properties[keyFields])
	for _, name := range presetFieldNames() {
		def := alertFields[fieldNamed(name)].kind.String()
		if def == "md5" || def == "sha256" {
			def = "digest"
		}
		if got, want := parseSchema[map[string]string](t, fields.Properties[name])["$ref"], "#/$defs/"+def; got != want {
			t.Errorf("%s: schema has %s, want %s", name, got, want)
		}
	}
}

// TestPresetSchemaTakesThePresetsTheLoaderTakes holds both against the presets of the bridge and against testdata/presetfiles, where
// the name of a file says whether it is good.
func TestPresetSchemaTakesThePresetsTheLoaderTakes(t *testing.T) {
	t.Parallel()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(PresetSchema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("presets.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("presets.json")
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, pattern := range []string{"presets/*.yaml", "testdata/presetfiles/*.yaml"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", pattern, found, err)
		}
		files = append(files, found...)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, problems := loadPreset(PresetFile{Name: file, Data: data})
		bad, _ := filepath.Match("bad-*", filepath.Base(file))
		if bad != (len(problems) > 0) {
			t.Errorf("%s: %v", file, problems)
		}
		converted, err := yaml.YAMLToJSON(data)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(converted))
		if err != nil {
			t.Fatal(err)
		}
		if got := schema.Validate(value); (got == nil) == bad {
			t.Errorf("%s: schema says %v, loader %v", file, got, problems)
		}
	}
}

func TestEveryBuiltInPresetIsInTheFileOfItsName(t *testing.T) {
	t.Parallel()
	for _, name := range builtinNames() {
		p, err := builtinPreset(name)
		if err != nil || p == nil || p.name != name {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
}
