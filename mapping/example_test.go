package mapping_test

import (
	"fmt"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/mapping"
)

func ExampleMapping_Map() {
	m, err := mapping.New(mapping.Config{
		Files: []mapping.RuleFile{{Name: "rules.yaml", Data: []byte(`
rules:
  - name: kill
    mode: enforce
    match: {level: HIGH, process.pid|exists: true}
    do:
      - {task: terminateProcess, subject: process}
`)}},
		Sources: map[string]mapping.Source{"bus": {Preset: "python-edr", Host: "lab01"}},
		Ceiling: bridge.ModeEnforce,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	mapped, err := m.Map(bridge.Alert{
		Source: "bus", Received: time.Now(),
		Raw: []byte(`{"level":"HIGH","title":"suspicious chain","actionable_pid":7312}`),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, o := range mapped[0].Orders {
		fmt.Println(o.Task.Kind(), o.Host, o.Subject.PID, o.Mode, o.At)
	}
	// Output: terminateProcess lab01 7312 enforce rules.yaml:3
}

func ExamplePresets() {
	for _, p := range mapping.Presets() {
		if p.Strict {
			fmt.Println(p.Name, len(p.Fields))
		}
	}
	// Output:
	// generic 23
	// python-edr 15
}

func ExampleMapping_Map_presetOfTheUser() {
	m, err := mapping.New(mapping.Config{
		Presets: []mapping.PresetFile{{Name: "presets.d/acme.yaml", Data: []byte(`
preset: acme
about: alerts of Acme Shield
format: json
each: [hits]
fields:
  id: [uuid]
  host: [device.name]
  case: [^.incident]
`)}},
		Sources: map[string]mapping.Source{"hook": {Preset: "acme"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	mapped, err := m.Map(bridge.Alert{
		Source: "hook", Received: time.Now(),
		Raw: []byte(`{"incident":"i-7","hits":[{"uuid":"a","device":{"name":"ws-1"}},{"uuid":"b","device.name":["ws-2"]}]}`),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, one := range mapped {
		fmt.Println(one.Alert.ID, one.Alert.Host, one.Alert.Case)
	}
	// Output:
	// a ws-1 i-7
	// b ws-2 i-7
}
