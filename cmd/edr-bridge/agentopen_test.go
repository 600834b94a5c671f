package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/edr-bridge/edr-bridge/configs"
)

func TestTheAgentKnowsWhatTheBridgeDependsOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "edr-bridge.yaml")
	text := `version: 1
local: {enabled: true, state: state}
rules: ["rules.d/*.yaml"]
sensor: {indicators: [bad.txt]}
kuma: {address: "127.0.0.2:7223", token: "secret:kuma/token", system_roots: true}
sources:
  bus: {type: redis-stream, address: "127.0.0.1:6379", stream: s, preset: python-edr}
`
	if err := os.MkdirAll(filepath.Join(dir, "rules.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"edr-bridge.yaml": text, "bad.txt": "203.0.113.9\n", "rules.d/a.yaml": "rules: []\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set, err := configs.Load(path, func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	w := &wiring{set: set, self: identity()}
	cfg, err := w.agentConfig()
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range []string{"127.0.0.1:6379", "127.0.0.2:7223"} {
		if !slices.Contains(cfg.Servers, server) {
			t.Errorf("%s is not among the servers %v", server, cfg.Servers)
		}
	}
	for _, own := range []string{"edr-bridge.yaml", "bad.txt", "rules.d/a.yaml", "state"} {
		if !slices.Contains(cfg.Own, filepath.Join(dir, filepath.FromSlash(own))) {
			t.Errorf("%s is not among the own files %v", own, cfg.Own)
		}
	}
	if !slices.ContainsFunc(cfg.NeverBlock, func(p netip.Prefix) bool { return p.String() == "127.0.0.2/32" }) {
		t.Errorf("KUMA may be blocked: %v", cfg.NeverBlock)
	}
}
