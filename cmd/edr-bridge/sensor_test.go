package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/edr-bridge/edr-bridge/configs"
)

func TestSensorFileWithoutRulesMeansNone(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte("version: 1\nrules: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		files []string
		none  bool // the built-in rules stand
	}{{nil, true}, {[]string{file}, false}} {
		set := &configs.Settings{}
		set.Sensor.Rules = tt.files
		cfg, err := (&wiring{set: set}).sensorConfig("sensor")
		if err != nil || len(cfg.Rules) != 0 || (cfg.Rules == nil) != tt.none {
			t.Errorf("%v: rules %v, %v", tt.files, cfg.Rules, err)
		}
	}
}
