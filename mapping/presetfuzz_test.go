package mapping_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/mapping"
)

// seeds adds the deliveries of the golden files.
func seeds(f *testing.F) {
	f.Helper()
	files, err := filepath.Glob("testdata/presets/*.golden")
	if err != nil || len(files) == 0 {
		f.Fatalf("golden files: %v, %v", files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		parts := strings.Split(string(data), separator)
		f.Add([]byte(strings.TrimSuffix(parts[1], "\n")))
	}
}

// checkDelivery maps a delivery twice and holds what every result promises.
func checkDelivery(t *testing.T, m *mapping.Mapping, doc []byte) []bridge.Mapped {
	t.Helper()
	before := bytes.Clone(doc)
	raw := bridge.Alert{Source: "bus", Received: received, Raw: doc}
	got, err := m.Map(raw)
	if !bytes.Equal(before, doc) {
		t.Fatal("the delivery was changed")
	}
	if err != nil {
		if !errors.Is(err, bridge.ErrBadAlert) || got != nil {
			t.Fatalf("got %v with %v", got, err)
		}
		return nil
	}
	again, err := m.Map(raw)
	if err != nil {
		t.Fatalf("second time: %v", err)
	}
	if diff := cmp.Diff(got, again, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Fatalf("-first +again\n%s", diff)
	}
	ids := map[string]bool{}
	for _, one := range got {
		a := one.Alert
		if a.ID == "" || ids[a.ID] || a.Source != "bus" || a.Preset == "" || !bytes.Contains(doc, a.Raw) || len(a.Raw) == 0 {
			t.Fatalf("alert %+v", a)
		}
		ids[a.ID] = true
		for name, digest := range map[string]string{"32": a.Process.MD5 + a.File.MD5, "64": a.Process.SHA256 + a.File.SHA256} {
			if strings.Trim(digest, "0123456789abcdef") != "" || len(digest)%32 != 0 {
				t.Fatalf("digest of %s digits: %q", name, digest)
			}
		}
		if a.Process.PID < 0 || a.Process.PID > 4194304 || a.Level != "" && !strings.Contains("LOW MEDIUM HIGH CRITICAL", a.Level) {
			t.Fatalf("alert %+v", a)
		}
		checkOrders(t, one)
	}
	return got
}

func FuzzPresetJSON(f *testing.F) {
	seeds(f)
	f.Add([]byte(`{"DeviceHostName":"\u0061","Type":3.0}{"DeviceHostName":["a"]}[{"DeviceHostName":null}]`))
	kuma := newMapping(f, "kuma", "", fuzzRules)
	others := []*mapping.Mapping{
		newMapping(f, "wazuh", "", fuzzRules), newMapping(f, "kuma-alert", "", fuzzRules),
		withPreset(f, "preset: own\nabout: x\nformat: json\nunwrap: [w, a.b]\neach: [a, b]\nonly: {^.x: [1, null]}\nfields: {id: [^.id, id], host: [a.b, {join: [c, ^.^.d], with: .}]}", fuzzRules),
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		for _, m := range others {
			checkDelivery(t, m, doc)
		}
		got := checkDelivery(t, kuma, doc)
		var object map[string]any
		if len(got) != 1 || json.Unmarshal(doc, &object) != nil {
			return
		}
		// What encoding/json reads as one plain host is the host.
		if host, ok := object["DeviceHostName"].(string); ok && host != "" && !strings.HasPrefix(host, "<") && host != "-" && got[0].Alert.Host != host {
			t.Fatalf("host %q, encoding/json has %q", got[0].Alert.Host, host)
		}
	})
}

func FuzzPresetCEF(f *testing.F) {
	seeds(f)
	m := newMapping(f, "kuma", "", fuzzRules)
	f.Fuzz(func(t *testing.T, doc []byte) {
		checkDelivery(t, m, append([]byte("CEF:0|"), doc...))
		checkDelivery(t, m, append([]byte("CEF:"), doc...))
	})
}

func FuzzPresetSyslog(f *testing.F) {
	seeds(f)
	f.Add([]byte(`<134>1 2026-11-20T17:06:56Z gw app 1 ID [x@1 a="b"] {"host":"ws-1","syslog.host":"evil"}`))
	f.Add([]byte(`<13>Nov 20 17:06:56 gw app[1]: {"host":`))
	m := withPreset(f, "preset: own\nabout: x\nformat: syslog\nfields: {host: [host, syslog.host], time: [syslog.time], user: [syslog.data.x@1.a], title: [syslog.text]}", fuzzRules)
	f.Fuzz(func(t *testing.T, doc []byte) {
		if got := checkDelivery(t, m, append([]byte("<13"), doc...)); len(got) > 1 {
			t.Fatalf("%d alerts of one message", len(got))
		}
		checkDelivery(t, m, doc)
	})
}

func FuzzPresetText(f *testing.F) {
	seeds(f)
	f.Add([]byte("Name: EICAR\r\nObject: C:\\a: b\\c.txt\nMD5: 44D88612FEA8A8F36DE82E1278ABB02F"))
	f.Add([]byte(`Name: EICAR\r\nObject: C:\r\new\MD5\r\nMD5: 44D8`))
	m := withPreset(f, "preset: own\nabout: x\nformat: text\nfields: {title: [Name], file.path: [Object], hashes: [{path: MD5, into: file}]}", fuzzRules)
	f.Fuzz(func(t *testing.T, doc []byte) {
		if got := checkDelivery(t, m, append([]byte("Key: v\n"), doc...)); len(got) > 1 {
			t.Fatalf("%d alerts of one text", len(got))
		}
		checkDelivery(t, m, doc)
	})
}

func FuzzCall(f *testing.F) {
	f.Add([]byte(`{"id":"1","task":"getFile","host":"ws-1","params":{"path":"C:\\a","md5hash":""},"at":"2026-11-20T17:06:56Z","timestamp":1795194415123,"event":` + callEvent + `}`))
	f.Add([]byte(`{"id":"1","task":"isolateHost","params":{"action":"on"},"at":"2026-11-20T17:06:56Z","event":` + callEvent + `}`))
	f.Add([]byte(`{"id":"1","task":"onDemandScan","params":[{"enabled":true,"type":22,"path":"C:\\"}],"host":"ws-1","at":"x"}`))
	m, err := mapping.New(mapping.Config{Sources: map[string]mapping.Source{"bus": {Direct: true}}, Ceiling: bridge.ModeEnforce})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		for _, one := range checkDelivery(t, m, doc) {
			if len(one.Orders)+len(one.Refused) != 1 {
				t.Fatalf("%+v", one)
			}
		}
	})
}

// FuzzPresetFile feeds the loader: no panic, every problem has a place, what loads can be used.
func FuzzPresetFile(f *testing.F) {
	for _, pattern := range []string{"presets/*.yaml", "testdata/presetfiles/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatalf("%s: %v, %v", pattern, files, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Add([]byte("preset: own\nabout: ~\nformat: []\nfields: {? a : [~], level: [{path: ^.^., levels: {LOW: .nan}}]}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 8<<10 {
			return
		}
		cfg := mapping.Config{Presets: []mapping.PresetFile{{Name: "own.yaml", Data: data}}}
		m, err := mapping.New(cfg)
		if err != nil {
			le, ok := errors.AsType[*mapping.LoadError](err)
			if !ok || len(le.Problems) == 0 {
				t.Fatalf("got %T: %v", err, err)
			}
			for _, p := range le.Problems {
				if p.Line < 1 || p.Column < 1 || p.Message == "" || strings.Contains(le.Text(false), "\x1b") {
					t.Fatalf("bad problem %+v", p)
				}
			}
			return
		}
		for _, p := range m.Presets() {
			if p.File == "" {
				continue
			}
			cfg.Sources = map[string]mapping.Source{"bus": {Preset: p.Name}}
			m, err := mapping.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			for _, doc := range []string{`{}`, `[{"a":"b","id":"x"}]`, fullAlert, callEvent, "CEF:0|a|b|c|d|e|5|dhost=ws-1", "<13>Nov 20 17:06:56 gw app: x", "Key: value"} {
				if _, err := m.Map(bridge.Alert{Source: "bus", Received: received, Raw: []byte(doc)}); err != nil && !errors.Is(err, bridge.ErrBadAlert) {
					t.Fatal(err)
				}
			}
		}
	})
}
