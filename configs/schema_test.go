package configs

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/invopop/jsonschema"
	check "github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/edr-bridge/edr-bridge/bridge"
)

var update = flag.Bool("update", false, "write the golden files")

func settingTypes() []reflect.Type {
	return []reflect.Type{
		reflect.TypeFor[Settings](), reflect.TypeFor[Source](), reflect.TypeFor[TLS](), reflect.TypeFor[Sentinel](), reflect.TypeFor[KSC](),
		reflect.TypeFor[KSCTasks](), reflect.TypeFor[Limit](), reflect.TypeFor[Inventory](), reflect.TypeFor[Approvals](), reflect.TypeFor[Hours](),
		reflect.TypeFor[Damping](), reflect.TypeFor[Undo](), reflect.TypeFor[Leases](), reflect.TypeFor[Audit](), reflect.TypeFor[AnchorStream](),
		reflect.TypeFor[Metrics](), reflect.TypeFor[API](), reflect.TypeFor[HTTP](), reflect.TypeFor[ServerTLS](), reflect.TypeFor[Auth](),
		reflect.TypeFor[BasicAuth](), reflect.TypeFor[HMACAuth](), reflect.TypeFor[BodyHMACAuth](), reflect.TypeFor[Rate](), reflect.TypeFor[KUMA](),
		reflect.TypeFor[Feedback](), reflect.TypeFor[ActiveList](), reflect.TypeFor[SOARTags](),
		reflect.TypeFor[Local](), reflect.TypeFor[Start](), reflect.TypeFor[Quarantine](), reflect.TypeFor[Isolation](),
		reflect.TypeFor[Peer](), reflect.TypeFor[Prevention](), reflect.TypeFor[Scan](), reflect.TypeFor[Sensor](), reflect.TypeFor[Baseline](),
		reflect.TypeFor[Protect](), reflect.TypeFor[Dedupe](), reflect.TypeFor[Secrets](), reflect.TypeFor[Log](),
	}
}

func generate(t *testing.T) []byte {
	t.Helper()
	r := &jsonschema.Reflector{
		FieldNameTag: "yaml", RequiredFromJSONSchemaTags: true, DoNotReference: false, ExpandedStruct: true, Anonymous: true,
	}
	if err := r.AddGoComments("github.com/edr-bridge/edr-bridge/configs", "./"); err != nil {
		t.Fatal(err)
	}
	duration := func() *jsonschema.Schema {
		return &jsonschema.Schema{Type: "string", Pattern: `^(0|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$`, Examples: []any{"30s", "15m", "4h"}}
	}
	var kinds []any
	for _, k := range bridge.Kinds() {
		kinds = append(kinds, string(k))
	}
	var week []any
	for _, d := range days() {
		week = append(week, d)
	}
	r.Mapper = func(typ reflect.Type) *jsonschema.Schema {
		switch typ {
		case reflect.TypeFor[bridge.Kind]():
			return &jsonschema.Schema{Type: "string", Enum: kinds}
		case reflect.TypeFor[Share]():
			return &jsonschema.Schema{Type: "string", Pattern: `^(100(\.0*)?|[0-9]{1,2}(\.[0-9]*)?)%$`, Examples: []any{"2%"}}
		case reflect.TypeFor[Size]():
			return &jsonschema.Schema{Type: "string", Pattern: `^[0-9]+ ?(B|KiB|MiB|GiB|TiB)$`, Examples: []any{"100MiB"}}
		case reflect.TypeFor[Clock]():
			return &jsonschema.Schema{Type: "string", Pattern: `^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$`, Examples: []any{"08:00"}}
		case reflect.TypeFor[Day]():
			return &jsonschema.Schema{Type: "string", Enum: week}
		case reflect.TypeFor[Zone]():
			return &jsonschema.Schema{Type: "string", MinLength: new(uint64(1)), Examples: []any{"Europe/Berlin", "UTC", "Local"}}
		case reflect.TypeFor[time.Duration]():
			return duration()
		case reflect.TypeFor[SecretRef]():
			return &jsonschema.Schema{Type: "string", Pattern: `^secret:[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*){0,7}$`, MaxLength: new(uint64(135))}
		case reflect.TypeFor[map[string]time.Duration]():
			names := []any{maxAgePID, maxAgeAny}
			for _, k := range bridge.Kinds() {
				names = append(names, string(k))
			}
			return &jsonschema.Schema{Type: "object", PropertyNames: &jsonschema.Schema{Enum: names}, AdditionalProperties: duration()}
		default:
			return nil
		}
	}
	s := r.Reflect(&Settings{})
	s.Title, s.Description = "edr-bridge settings", "Settings of edr-bridge."
	one, ok := s.Properties.Get("ksc")
	if !ok {
		t.Fatal("no ksc in the schema")
	}
	s.Properties.Set("ksc", &jsonschema.Schema{
		Description: one.Description,
		AnyOf: []*jsonschema.Schema{{Ref: one.Ref}, {
			Type: "object", PropertyNames: &jsonschema.Schema{Pattern: `^[a-z0-9][a-z0-9-]{0,31}$`}, MinProperties: new(uint64(1)),
			AdditionalProperties: &jsonschema.Schema{Ref: one.Ref},
		}},
	})
	source := s.Definitions["Source"]
	tasks, ok := source.Properties.Get("tasks")
	if !ok {
		t.Fatal("no tasks in the schema")
	}
	for _, k := range bridge.Kinds() {
		tasks.Items.Enum = append(tasks.Items.Enum, string(k))
	}
	for _, name := range []string{"Limit", "Hours"} {
		task, ok := s.Definitions[name].Properties.Get("task")
		if !ok {
			t.Fatal("no task in the schema")
		}
		task.Enum = append(slices.Clone(kinds), AnyTask)
	}
	for _, typ := range settingTypes() {
		properties := s.Properties
		if def, ok := s.Definitions[typ.Name()]; ok {
			properties = def.Properties
		}
		for f := range typ.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			if p, ok := properties.Get(name); ok && name != "" {
				// Comments begin with the name in Go; whoever reads the schema knows the one in YAML.
				p.Description = name + strings.TrimPrefix(strings.ReplaceAll(p.Description, "\n", " "), f.Name)
				if p.Description == name {
					p.Description = ""
				}
			}
		}
	}
	var raw bytes.Buffer
	enc := json.NewEncoder(&raw)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(s); err != nil {
		t.Fatal(err)
	}
	return raw.Bytes()
}

func TestSchemaIsGeneratedFromTheTypes(t *testing.T) {
	want := generate(t)
	path := filepath.Join("schema", "edr-bridge.schema.json")
	if *update {
		if err := os.WriteFile(path, want, 0o600); err != nil {
			t.Fatal(err)
		}
		t.Skip("written; run the tests again")
	}
	if diff := cmp.Diff(string(want), string(Schema())); diff != "" {
		t.Errorf("run go test ./configs -update (-want +got):\n%s", diff)
	}
}

func compiled(t *testing.T) *check.Schema {
	t.Helper()
	doc, err := check.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := check.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func bySchema(t *testing.T, s *check.Schema, text string) error {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := check.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(doc)
}

func noEnv(string) (string, bool) { return "", false }

func TestSamplesLoadAndFitTheSchema(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob("samples/*.yaml")
	if err != nil || len(names) != 3 {
		t.Fatal(names, err)
	}
	s := compiled(t)
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := bySchema(t, s, string(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		loaded, err := Load(name, noEnv)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		resolved, err := loaded.Resolved()
		if err != nil {
			t.Fatal(err)
		}
		if err := bySchema(t, s, string(resolved)); err != nil {
			t.Errorf("%s resolved: %v\n%s", name, err, resolved)
		}
	}
}

func TestSchemaDescribesEverySetting(t *testing.T) {
	t.Parallel()
	type object struct {
		Properties map[string]struct {
			Description string `json:"description"`
			Ref         string `json:"$ref"`
		} `json:"properties"`
		Defs map[string]json.RawMessage `json:"$defs"`
	}
	var top object
	if err := json.Unmarshal(Schema(), &top); err != nil {
		t.Fatal(err)
	}
	objects := map[string]object{"": top}
	for name, raw := range top.Defs {
		var o object
		if err := json.Unmarshal(raw, &o); err != nil {
			t.Fatal(err)
		}
		objects[name] = o
	}
	for name, o := range objects {
		for key, p := range o.Properties {
			if p.Description == "" {
				t.Errorf("%s.%s has no description", name, key)
			}
		}
	}
}

// A setting that the schema knows and the full sample does not show is a setting nobody finds.
func TestFullSampleShowsEverySetting(t *testing.T) {
	t.Parallel()
	loaded, err := Load("samples/full.yaml", noEnv)
	if err != nil {
		t.Fatal(err)
	}
	shown := make(map[string]bool)
	for path := range loaded.places.at {
		shown[path[strings.LastIndexByte(path, '.')+1:]] = true
	}
	for _, typ := range settingTypes() {
		_, names := fieldByName(reflect.New(typ).Elem(), "-")
		for _, name := range names {
			if !shown[name] {
				t.Errorf("%s.%s is not in samples/full.yaml", typ.Name(), name)
			}
		}
	}
}

// The schema is what editors check by; it must not call wrong what Load takes, nor the other way round where a schema can tell.
func TestSchemaAndLoaderAgree(t *testing.T) {
	t.Parallel()
	s := compiled(t)
	const head = "version: 1\n"
	source := func(rest string) string {
		return head + "sources: {a: {type: redis-pubsub, address: 127.0.0.1:6379, channel: c, preset: p" + rest + "}}"
	}
	ksc := func(rest string) string {
		return head + "ksc: {address: k, user: u, ca: c.pem" + rest + "}"
	}
	for text, good := range map[string]bool{
		head: true, "mode: shadow": false, "version: 2": false, `version: "1"`: false, head + "mode: off": true, head + "mode: on": false,
		head + "fallback: ksc": false, head + "profile: soc": false,
		head + "limits: []": true, head + "limits: [{task: isolateHost, max: 5, per: 1h}]": true, head + "limits: [{task: '*', max: 5, per: 1h, by: rule}]": true,
		head + "limits: {task: isolateHost, max: 5, per: 1h}": false, head + "limits: [{max: 5, per: 1h}]": false, head + "limits: [{task: isolateHost, max: 5}]": false,
		head + "limits: [{task: isolate, max: 5, per: 1h}]": false, head + "limits: [{task: isolateHost, max: 0, per: 1h}]": false,
		head + "limits: [{task: isolateHost, max: 1000001, per: 1h}]": false, head + "limits: [{task: isolateHost, max: 5, per: 1h, by: host}]": false,
		head + "limits: [{task: isolateHost, max: 5, per: 1h, on_breach: drop}]":             false,
		head + "inventory: {hosts: 10}\nlimits: [{task: isolateHost, share: 2.5%, per: 1h}]": true,
		head + "inventory: {hosts: 10}\nlimits: [{task: isolateHost, share: 2, per: 1h}]":    false,
		head + "inventory: {hosts: 10}\nlimits: [{task: isolateHost, share: 101%, per: 1h}]": false,
		head + "inventory: {hosts: 10}\nlimits: [{task: isolateHost, share: -1%, per: 1h}]":  false,
		head + "inventory: {hosts: 10}\nlimits: [{task: isolateHost, share: [2%], per: 1h}]": false,
		head + "inventory: {hosts: -1}": false, head + "inventory: {hosts: 10000001}": false,
		head + "approvals: {}": true, head + "approvals: {tasks: []}": true, head + "approvals: {tasks: [isolate]}": false, head + "approvals: {four_eyes: 2}": false,
		head + "hours: []": true, head + `hours: [{task: "*", from: "18:00", to: "24:00", days: [sun], zone: Europe/Berlin}]`: true,
		head + "hours: [{task: isolateHost, from: 8:00, to: 18:00}]": false, head + "hours: [{task: isolateHost, from: 08:00, to: 24:01}]": false,
		head + "hours: [{task: isolateHost, from: 08:00}]": false, head + "hours: [{task: isolateHost, to: 08:00}]": false,
		head + "hours: [{from: 08:00, to: 18:00}]": false, head + "hours: [{task: isolateHost, from: 08:00, to: 18:00, days: [monday]}]": false,
		head + "hours: [{task: isolateHost, from: 08:00, to: 18:00, days: []}]": false, head + "hours: [{task: isolateHost, from: 08:00, to: 18:00, zone: 3}]": false,
		head + "damping: {max: 0}": false, head + "undo: {max: 0}": true, head + "undo: {max: 1001}": false,
		head + "leases: {on_product_off: ignore}": false, head + "leases: {product_off: 0s, on_product_off: record}": true, head + "give_up: 1h": true, head + "give_up: 1": false,
		head + "audit: {key: hunter2}": false, head + "audit: {key: \"secret:audit/key\"}": true, head + "audit: {anchor_stream: {source: a}}": false,
		head + "metrics: {}": true, head + "metrics: {listen: 7}": false, head + "api: {enabled: false}": true, head + "api: {enabled: no}": false,
		ksc(", tasks: {hold: 1, keep: 0, per: host}"): true, ksc(", tasks: {hold: 0}"): false, ksc(", tasks: {keep: 100001}"): false, ksc(", tasks: {per: group}"): false,
		source(""): true, source(", tls: {}"): true, source(", bogus: 1"): false, source(", db: 1"): true, source(`, db: "1"`): false,
		source(", db: -1"): false, source(", queue: 0"): false, source(", tasks: [isolateHost]"): true, source(", tasks: [isolate]"): false,
		source(", password: hunter2"): false, source(`, password: "secret:a/b"`): true, source(`, password: "secret:A"`): false,
		source(", sentinel: {}"): false, source(", cluster: yes"): false, source(", cluster: true"): true,
		head + "sources: {a: {type: sensor}}": true, head + "sources: {a: {type: webhook, preset: generic}}": true, head + "sources: []": false,
		ksc(""): true, ksc(", timeout: 30s"): true, ksc(", timeout: 30"): false, ksc(", timeout: soon"): false, ksc(", in_flight: 2000"): false,
		ksc(", domain_encoding: rot13"): false, head + "ksc: {user: u, ca: c.pem}": false,
		head + "max_age: {pid: 30s, isolateHost: 1h}": true, head + "max_age: {isolate: 1h}": false, head + "max_age: {pid: 30}": false,
		head + "protect: {hosts: [a]}": true, head + "protect: {hosts: a}": false, head + "protect: {users: [a]}": false,
		head + "rules: [a.yaml]": true, head + "rules: a.yaml": false, head + "secrets: {backend: vault}": false,
		head + "secrets: {backend: keyctl, keyctl_scope: session}": true, head + "log: {level: trace}": false, head + "local: {grace: 5s}": true,
	} {
		_, loadErr := build("x.yaml", "/etc", []byte(text), noEnv)
		schemaErr := bySchema(t, s, text)
		if (loadErr == nil) != good || (schemaErr == nil) != good {
			t.Errorf("%s\nwant good=%v\nload: %v\nschema: %v", text, good, loadErr, schemaErr)
		}
	}
}
