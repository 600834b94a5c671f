package mapping_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// BenchmarkMap measures one alert of 1 KB: decoding alone, under fifty rules that do not match, and with a
// rule that asks for two orders.
func BenchmarkMap(b *testing.B) {
	details := "\\u547d\\u4ee4\\u884c: powershell -enc " + strings.Repeat("QUFB", 190)
	seed := fmt.Sprintf(`{"level": "HIGH", "title": "\u53ef\u7591\u7684\u8fdb\u7a0b\u521b\u5efa\u94fe (LotL)!", "description": "\u7236\u8fdb\u7a0b 'winword.exe' (PID: 3120)", "details": "%s", "timestamp": "2026-11-20T20:06:56.123456", "actionable_pid": 7312}`, details)
	var many strings.Builder
	many.WriteString("rules:\n")
	for i := range 50 {
		fmt.Fprintf(&many, "  - {name: r%d, mode: enforce, match: {level: [HIGH, CRITICAL], \"title|contains\": [ransom%d, mimikatz], process.pid|gt: 1}, do: [{task: isolateHost, params: {action: 1}}]}\n", i, i)
	}
	static := "rules: [{name: k, mode: enforce, match: {level: [HIGH, CRITICAL], process.pid|exists: true}, do: [{task: terminateProcess, subject: process}, {task: isolateHost, params: {action: 1}}]}]"
	dynamic := `rules: [{name: k, mode: enforce, match: {level: HIGH}, do: [{task: terminateProcess, params: {path: "${process.path}", sha256hash: "${process.sha256}"}}]}]`
	for name, c := range map[string]struct{ preset, doc, rules string }{
		"decode":         {"python-edr", seed, "rules: []"},
		"50-rules":       {"python-edr", seed, many.String()},
		"two-orders":     {"python-edr", seed, static},
		"generic":        {"generic", fullAlert, "rules: []"},
		"generic-params": {"generic", fullAlert, dynamic},
	} {
		b.Run(name, func(b *testing.B) {
			m := newMapping(b, c.preset, "ws1", c.rules)
			raw := bridge.Alert{Source: "bus", Received: received, Raw: []byte(c.doc)}
			b.SetBytes(int64(len(c.doc)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.Map(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("check-json-only", func(b *testing.B) {
		b.SetBytes(int64(len(seed)))
		for b.Loop() {
			if err := bridge.CheckJSON([]byte(seed)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
