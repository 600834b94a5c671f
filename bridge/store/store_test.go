package store

import (
	"testing"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/bridgetest"
)

func TestStoreKeepsTheContract(t *testing.T) {
	t.Parallel()
	bridgetest.TestStore(t, func(t *testing.T) bridge.Store {
		t.Helper()
		return openTest(t, Config{Dir: t.TempDir()})
	})
}

func openTest(t *testing.T, cfg Config) *Store {
	t.Helper()
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}
