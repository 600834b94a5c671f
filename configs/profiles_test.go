package configs

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const profiles = `version: 1
ksc:
  main:   {address: ksc01, user: u, ca: main.cer}
  branch: {address: "ksc02:443", user: v, system_roots: true, virtual_server: b, password: "secret:other", tasks: {hold: 10}, timeout: 90s}
tenants: {7d2c: branch, 1f00: main}
`

func TestProfilesAreSeveralKSCServers(t *testing.T) {
	t.Parallel()
	s := mustLoad(t, profiles)
	if s.KSC != nil || len(s.Profiles) != 2 || s.Local.Enabled {
		t.Fatalf("%+v", s)
	}
	main, branch := s.Profiles["main"], s.Profiles["branch"]
	got := []any{
		main.Address, main.Password, main.Tasks.Hold, main.SettleTime, branch.Address, branch.Password, branch.Tasks.Hold,
		branch.SettleTime, branch.VirtualServer, s.Tenants["7d2c"], s.At("ksc.branch.tasks.hold"),
	}
	want := []any{
		"ksc01:13299", SecretRef("secret:ksc/password/main"), 80, time.Minute, "ksc02:443", SecretRef("secret:other"), 10,
		90 * time.Second, "b", "branch", s.At("ksc.branch"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	policy := s.Policy()
	live := map[string]bridge.LiveTasks{
		"main":   {Hold: 80, Keep: 15, At: s.At("ksc.main.tasks")},
		"branch": {Hold: 10, Keep: 15, At: s.At("ksc.branch.tasks")},
	}
	if diff := cmp.Diff(live, policy.LiveOf); diff != "" {
		t.Error(diff)
	}
	var names []string
	for profile := range s.Servers() {
		names = append(names, profile)
	}
	if diff := cmp.Diff([]string{"branch", "main"}, names); diff != "" {
		t.Error(diff)
	}
}

func TestProfilesComeBackFromWhatIsShown(t *testing.T) {
	t.Parallel()
	s := mustLoad(t, profiles)
	shown, err := s.Resolved()
	if err != nil {
		t.Fatal(err)
	}
	again := mustLoad(t, string(shown))
	if diff := cmp.Diff(s.Profiles, again.Profiles); diff != "" {
		t.Error(diff)
	}
	first, _ := s.Digest()
	second, _ := again.Digest()
	if first != second || first == "" {
		t.Errorf("digests %s and %s", first, second)
	}
}

func TestProfilesGoWithNoKSCOfTheEnvironment(t *testing.T) {
	t.Parallel()
	_, err := load(t, profiles, "EDR_BRIDGE_KSC_ADDRESS", "k:1", "EDR_BRIDGE_KSC_USER", "u", "EDR_BRIDGE_KSC_SYSTEM_ROOTS", "true")
	if err == nil || !strings.Contains(err.Error(), "beside named profiles") {
		t.Error(err)
	}
}
