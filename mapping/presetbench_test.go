package mapping_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// kumaEvent is a correlation event as a destination of KUMA sends it, some 1.6 KB without extra.
func kumaEvent(id int, extra string) string {
	return fmt.Sprintf(`{"ID":"8a3f6d3e-57a8-4f6b-9a9c-%012d","Type":3,"Timestamp":1795194416123,"StartTime":1795194415000,"EndTime":1795194416000,`+
		`"DeviceReceiptTime":1795194416100,"Name":"Office starts a shell","CorrelationRuleID":"b3d6f37c-fb3d-4f22-995a-2e8d559ea496",`+
		`"CorrelationRuleName":"Office starts a shell","Priority":3,"TenantID":"a0996458-8b25-42e9-a673-d800d6169703","TenantName":"Main",`+
		`"ServiceID":"2f743382-8313-4f45-a801-979367a0d0a3","ServiceName":"[MAIN] Correlator","ServiceKind":"correlator","ServiceAddress":"10.0.0.5:7301",`+
		`"BaseEventCount":1,"BaseEventIDs":["f2f9a835-6fdf-4dea-91b3-1ccc1a270582"],"GroupedBy":["DeviceHostName"],`+
		`"DeviceVendor":"Microsoft","DeviceProduct":"Sysmon","DeviceVersion":"15.15","DeviceEventClassID":"1","DeviceEventCategory":"Process Create",`+
		`"DeviceHostName":"ws-017.corp.example","DeviceAddress":"10.20.1.44","DeviceAssetID":"9cdb307a-19e6-430c-ad41-6755460a8c51","DeviceTimeZone":"+03:00",`+
		`"SourceProcessName":"C:\\Program Files\\Microsoft Office\\root\\Office16\\WINWORD.EXE","SourceProcessID":4120,"SourceUserName":"CORP\\nina",`+
		`"DestinationProcessName":"C:\\Windows\\System32\\WindowsPowerShell\\v1.0\\powershell.exe","DestinationProcessID":7312,`+
		`"DestinationUserName":"nina","FileHash":"44D88612FEA8A8F36DE82E1278ABB02F","FilePath":"C:\\Users\\Public\\a b.exe","FileSize":448000,`+
		`"Message":"process created","DeviceCustomString1":"powershell.exe -nop -w hidden","DeviceCustomString1Label":"CommandLine",`+
		`"Tactic":"Execution","Technique":"T1059.001","Extra":{"score":1,"notes":%q}}`, id, extra)
}

// BenchmarkPreset measures one event of 1.7 KB and of 4 KB, a batch, and the same event as CEF.
func BenchmarkPreset(b *testing.B) {
	rules := "rules: [{name: k, mode: enforce, match: {level: [CRITICAL], raw.Technique|startswith: T1}, do: [{task: isolateHost, params: {action: 1}}]}]"
	var batch strings.Builder
	for i := range 200 {
		batch.WriteString(kumaEvent(i, "") + "\n")
	}
	for name, c := range map[string]struct{ preset, doc string }{
		"kuma":       {"kuma", kumaEvent(1, "")},
		"kuma-4KiB":  {"kuma", kumaEvent(1, strings.Repeat("some words of the raw event; ", 82))},
		"kuma-batch": {"kuma", batch.String()},
		"cef": {"cef", `CEF:0|Acme|Shield|4.2|MAL|malware found|8|externalId=5512 rt=1795194416123 dhost=ws-017.corp.example dst=10.20.1.44 src=203.0.113.7 ` +
			`dproc=C:\\Windows\\System32\\WindowsPowerShell\\v1.0\\powershell.exe dpid=7312 sproc=C:\\Program Files\\Microsoft Office\\root\\Office16\\WINWORD.EXE ` +
			`spid=4120 duser=nina filePath=C:\\Users\\Public\\a b.exe fileHash=44D88612FEA8A8F36DE82E1278ABB02F cs1Label=rule cs1=Office starts a shell ` +
			`cs2Label=technique cs2=T1059.001 msg=process created by an office program`},
	} {
		b.Run(name, func(b *testing.B) {
			m := newMapping(b, c.preset, "", rules)
			raw := bridge.Alert{Source: "bus", Received: received, Raw: []byte(c.doc)}
			b.SetBytes(int64(len(c.doc)))
			b.ReportAllocs()
			for b.Loop() {
				if got, err := m.Map(raw); err != nil || len(got) == 0 {
					b.Fatal(len(got), err)
				}
			}
		})
	}
	b.Run("check-json-only", func(b *testing.B) {
		doc := []byte(kumaEvent(1, ""))
		b.SetBytes(int64(len(doc)))
		for b.Loop() {
			if err := bridge.CheckJSON(doc); err != nil {
				b.Fatal(err)
			}
		}
	})
}
