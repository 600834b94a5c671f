package mapping_test

import (
	"testing"

	"github.com/edr-bridge/edr-bridge/mapping"
)

// FuzzProductPresets reads every delivery by every preset that is not strict.
func FuzzProductPresets(f *testing.F) {
	seeds(f)
	for _, seed := range []string{
		`{"alerts":[{"status":"firing","labels":{"instance":"[::1]:9"}},{"status":["firing","resolved"]}]}`, `[{"matches":{"Computer":"a"},"id":1,"rule_level":[]}]`,
		`{"object":{"properties":{"relatedEntities":[{"kind":"Host","properties":{"hostName":"a"}},{"kind":"Host"}]}},"workspaceId":{}}`,
		`{"winlog":{"event_data":{"Image":"C:\\a"}},"event_data":{"Image":"C:\\b"},"Event":{"EventData":[]}}`, `{"_source":{"_source":{"host.name":"a"}},"_id":"\u0000"}`,
		"<0>1 - - - - - [a b=\"c\"] {\"process\":{\"pid\":1},\"process.pid\":2}", "Computer:\tx\\r\\nObject: C:\\r\\nSHA256: ", `{"event":{"FilePath":"/","FileName":"a"},"metadata":{"eventType":"detectionsummaryevent"}}`,
	} {
		f.Add([]byte(seed))
	}
	mappings := map[string]*mapping.Mapping{}
	for _, p := range mapping.Presets() {
		if !p.Strict {
			mappings[p.Name] = newMapping(f, p.Name, "", fuzzRules)
		}
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		for name, m := range mappings {
			for _, one := range checkDelivery(t, m, doc) {
				if one.Alert.Preset != name {
					t.Fatalf("alert of %s by %s", one.Alert.Preset, name)
				}
			}
		}
	})
}
