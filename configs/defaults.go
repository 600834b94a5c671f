package configs

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	settingsVersion = 1
	settingsName    = "edr-bridge.yaml"
	productDir      = "edr-bridge"

	defaultQueue      = 4096
	defaultGroup      = "edr-bridge"
	defaultClaimAfter = time.Minute
	deadLetterSuffix  = ":dead"

	defaultInFlight   = 16
	defaultTimeout    = 30 * time.Second
	defaultSettleTime = time.Minute
	defaultKSCPort    = "13299"
	defaultPassword   = SecretRef("secret:ksc/password")

	defaultHold, defaultKeep = 80, 15 // of the 100 tasks KES keeps, five are left to people
	defaultFollowEvery       = 5 * time.Second
	defaultFollowFor         = 24 * time.Hour

	maxAgePID, maxAgeAny = "pid", "default" // keys of max_age beside the tasks
	defaultAgePID        = time.Minute
	defaultAge           = 15 * time.Minute
	defaultDedupe        = 15 * time.Minute
)

// Default returns the settings that hold without a file: shadow mode, no sources, no KSC, the local agent enabled.
// env looks up an environment variable.
func Default(env func(string) (string, bool)) *Settings {
	s := &Settings{
		Version:  settingsVersion,
		Mode:     bridge.ModeShadow,
		Fallback: FallbackNone,
		Local:    defaultLocal(defaultState(env)),
		Sensor:   Sensor{Baseline: Baseline{Learn: 7 * 24 * time.Hour, Score: 8}},
		Secrets:  Secrets{Backend: defaultBackend},
		Log:      Log{Level: "info", Format: "auto"},
		Dedupe:   Dedupe{For: defaultDedupe},

		Limits:    defaultLimits(),
		Approvals: defaultApprovals(),
		Damping:   Damping{Max: 3, Within: 10 * time.Minute},
		Undo:      Undo{Max: 3, Per: time.Hour},
		Leases:    Leases{Default: 4 * time.Hour, ProductOff: 5 * time.Hour, OnProductOff: Reassert},
		GiveUp:    30 * time.Minute,
		Audit:     Audit{AnchorEvery: time.Hour, Keep: 90 * 24 * time.Hour},
		API:       API{Enabled: true},
		HTTP:      HTTP{Listen: "127.0.0.1:8448", MaxBody: 4 << 20, MaxConns: 512, MaxConnsPeer: 64},
	}
	s.fill()
	return s
}

// fill sets the defaults that depend on what is set elsewhere. Only what is not set is touched, so that a written 0 is
// seen by the checks.
func (s *Settings) fill() {
	p := s.places
	if s.MaxAge == nil {
		s.MaxAge = make(map[string]time.Duration)
	}
	for key, age := range map[string]time.Duration{maxAgePID: defaultAgePID, maxAgeAny: defaultAge} {
		if !p.has(join("max_age", key)) {
			s.MaxAge[key] = age
		}
	}
	if !p.has("local.enabled") {
		s.Local.Enabled = s.KSC == nil && len(s.Profiles) == 0
	}
	for path, k := range s.servers() {
		k.fill(path, p)
	}
	if s.KUMA != nil {
		s.KUMA.fill(p)
	}
	for name, source := range s.Sources {
		if source != nil {
			source.fill(name, p)
		}
	}
	for i := range s.Limits {
		if !p.has(join(index("limits", i), "on_breach")) {
			s.Limits[i].OnBreach = OnBreachHold
		}
	}
	for i := range s.Hours {
		s.Hours[i].fill(index("hours", i), p)
	}
	s.absolute()
	s.belowState()
}

// belowState sets the paths that lie in the state directory unless they are set.
func (s *Settings) belowState() {
	p := s.places
	if !p.has("secrets.dir") {
		s.Secrets.Dir = ""
		if s.Secrets.Backend == "file" {
			s.Secrets.Dir = filepath.Join(s.Local.State, "secrets")
		}
	}
	if !p.has("audit.archive") {
		s.Audit.Archive = filepath.Join(s.Local.State, "archive")
	}
	if !p.has("local.agent_state") {
		s.Local.AgentState = agentState(s.Local.State, s.Local.Separate)
	}
	if !p.has("local.socket") {
		s.Local.Socket = agentSocket(s.Local.AgentState, s.Local.Separate)
	}
	if !p.has("api.socket") {
		s.API.Socket = filepath.Join(s.Local.State, "edr-bridge.sock")
	}
	for _, source := range s.Sources {
		if source != nil {
			source.belowState(s.Local.State)
		}
	}
}

// agentState is where the agent keeps what it keeps: with the bridge, or beside it.
func agentState(state string, separate bool) string {
	if !separate {
		return state
	}
	return filepath.Clean(state) + "-agent"
}

// agentSocket is where the agent listens. The folder of a separate one is closed to the bridge, so its socket stands in the folder systemd
// makes for it (RuntimeDirectory=).
func agentSocket(state string, separate bool) string {
	if separate && runtime.GOOS == "linux" {
		return "/run/edr-bridge-agent/agent.sock"
	}
	return filepath.Join(state, "agent.sock")
}

func defaultLocal(state string) Local {
	return Local{
		State: state, MaxTargets: 64, Start: Start{TimeLimit: 10 * time.Minute},
		Quarantine: Quarantine{MaxFile: 100 << 20, Quota: 10 << 30, Keep: 90 * 24 * time.Hour},
		Isolation:  Isolation{Namespaces: true}, Prevention: Prevention{Mode: "block"},
		Scan: Scan{MaxFile: 1 << 30, MaxTime: 6 * time.Hour, Workers: 2},
	}
}

func (k *KSC) fill(path string, p places) {
	if !p.has(join(path, "password")) {
		k.Password = defaultPassword
		if _, profile, named := strings.Cut(path, "."); named {
			k.Password += SecretRef("/" + profile)
		}
	}
	if !p.has(join(path, "domain_encoding")) {
		k.DomainEncoding = "plain"
	}
	if !p.has(join(path, "in_flight")) {
		k.InFlight = defaultInFlight
	}
	if !p.has(join(path, "timeout")) {
		k.Timeout = defaultTimeout
	}
	if !p.has(join(path, "settle_time")) {
		k.SettleTime = max(defaultSettleTime, k.Timeout)
	}
	k.Tasks.fill(join(path, "tasks"), p)
}

func (t *KSCTasks) fill(path string, p places) {
	if !p.has(join(path, "hold")) {
		t.Hold = defaultHold
	}
	if !p.has(join(path, "keep")) {
		t.Keep = defaultKeep
	}
	if !p.has(join(path, "per")) {
		t.Per = PerServer
	}
	if !p.has(join(path, "follow_every")) {
		t.FollowEvery = defaultFollowEvery
	}
	if !p.has(join(path, "follow_for")) {
		t.FollowFor = defaultFollowFor
	}
}

func (k *KUMA) fill(p places) {
	if !p.has("kuma.token") {
		k.Token = "secret:kuma/token"
	}
	if !p.has("kuma.version") {
		k.Version = "auto"
	}
	if !p.has("kuma.feedback.close_after") {
		k.Feedback.CloseAfter = time.Minute
	}
	if !p.has("kuma.timeout") {
		k.Timeout = defaultTimeout
	}
}

// presetOf is the preset a source has without saying.
func presetOf(t SourceType) string {
	switch t {
	case KUMAHTTP:
		return "kuma"
	case KUMASOAR, KUMAPoll:
		return "kuma-alert"
	case KUMAScript:
		return "kuma-call"
	case OwnSensor:
		return "python-edr"
	default:
		return ""
	}
}

func (s *Source) fill(name string, p places) {
	path := join("sources", name)
	if !p.has(join(path, "preset")) {
		s.Preset = presetOf(s.Type)
	}
	if s.Type.OverHTTP() && !p.has(join(path, "path")) {
		s.Path = "/" + name
		if s.Type == KUMASOAR {
			s.Path = SOARPath // KUMA has a host and a port for the SOAR, perhaps no path
		}
	}
	if s.Auth != nil {
		s.Auth.fill(join(path, "auth"), p)
	}
	switch s.Type {
	case KUMASOAR:
		if s.Tags == nil {
			s.Tags = &SOARTags{}
		}
		if !p.has(join(path, "tags.id")) {
			s.Tags.ID = "alert_id"
		}
		if !p.has(join(path, "tags.url")) {
			s.Tags.URL = "kuma_url"
		}
	case KUMAPoll:
		if !p.has(join(path, "every")) {
			s.Every = 10 * time.Second
		}
	case KUMAScript:
		if !p.has(join(path, "mode")) {
			s.Mode = bridge.ModeEnforce
		}
	case RedisPubSub:
		if !p.has(join(path, "queue")) {
			s.Queue = defaultQueue
		}
	case RedisStream:
		if !p.has(join(path, "group")) {
			s.Group = defaultGroup
		}
		if !p.has(join(path, "claim_after")) {
			s.ClaimAfter = defaultClaimAfter
		}
		if !p.has(join(path, "dead_letter")) && s.Stream != "" {
			s.DeadLetter = s.Stream + deadLetterSuffix
		}
	default: // the checks refuse it
	}
	if !p.has(join(path, "host")) && s.Preset == "python-edr" && (s.Type == OwnSensor || s.onThisMachine()) {
		s.Host = HostThis
	}
}

func (a *Auth) fill(path string, p places) {
	if a.BodyHMAC != nil && !p.has(join(path, "body_hmac.header")) {
		a.BodyHMAC.Header = "X-Hub-Signature-256"
	}
}

// belowState sets the paths of call-outs that lie in the state directory unless they are set.
func (s *Source) belowState(state string) {
	if s.Type != KUMAScript {
		return
	}
	if s.Socket == "" {
		s.Socket = filepath.Join(state, "kuma.sock")
	}
	if s.Spool == "" {
		s.Spool = filepath.Join(state, "spool")
	}
}

// absolute makes paths absolute that are relative to the settings file. Those from the environment are left for the
// checks, because they are relative to nothing.
func (s *Settings) absolute() {
	fix := func(path string, value *string) {
		at := s.places.at[path]
		if *value != "" && at.env == "" && s.places.base != "" && !filepath.IsAbs(*value) {
			*value = filepath.Join(s.places.base, *value)
		}
	}
	for path, value := range s.files() {
		fix(path, value)
	}
}

// Files returns the absolute paths of all files and directories these settings name, in no order; those of rules and presets, which are
// patterns, are not among them.
func (s *Settings) Files() []string {
	var list []string
	for name, path := range s.files() {
		if name == "local.start.cgroup" || name == "local.scan.clamd" {
			continue // of the system, not of this program
		}
		if abs, err := filepath.Abs(*path); *path != "" && err == nil {
			list = append(list, abs)
		}
	}
	return list
}

// files returns the settings that are paths of files or directories.
func (s *Settings) files() map[string]*string {
	files := map[string]*string{
		"local.state": &s.Local.State, "secrets.dir": &s.Secrets.Dir, "secrets.passphrase_file": &s.Secrets.PassphraseFile,
		"local.agent_state": &s.Local.AgentState, "local.socket": &s.Local.Socket, "local.start.cgroup": &s.Local.Start.Cgroup, "local.scan.clamd": &s.Local.Scan.Clamd,
		"local.scan.signatures": &s.Local.Scan.Signatures, "audit.anchor_file": &s.Audit.AnchorFile, "audit.archive": &s.Audit.Archive, "api.socket": &s.API.Socket,
	}
	for i := range s.Sensor.Indicators {
		files[index("sensor.indicators", i)] = &s.Sensor.Indicators[i]
	}
	for i := range s.Sensor.Rules {
		files[index("sensor.rules", i)] = &s.Sensor.Rules[i]
	}
	for path, k := range s.servers() {
		files[join(path, "ca")] = &k.CA
	}
	if s.KUMA != nil {
		files["kuma.ca"] = &s.KUMA.CA
	}
	s.HTTP.TLS.files("http.tls", files)
	for name, source := range s.Sources {
		if source == nil {
			continue
		}
		path := join("sources", name)
		if t := source.TLS; t != nil {
			files[path+".tls.ca"], files[path+".tls.cert"], files[path+".tls.key"] = &t.CA, &t.Cert, &t.Key
		}
		source.ServerTLS.files(path+".server_tls", files)
		if source.Type == KUMAScript {
			files[path+".socket"], files[path+".spool"] = &source.Socket, &source.Spool
		}
	}
	return files
}

// files adds its paths.
func (t *ServerTLS) files(path string, files map[string]*string) {
	if t != nil {
		files[path+".cert"], files[path+".key"], files[path+".client_ca"] = &t.Cert, &t.Key, &t.ClientCA
	}
}

// userState is the state directory of an account that is not root: the one systemd made for the unit (StateDirectory= in systemd.exec(5)), else
// the account's own (XDG Base Directory Specification).
func userState(env func(string) (string, bool)) string {
	if dir, ok := env("STATE_DIRECTORY"); ok && filepath.IsAbs(dir) && !strings.Contains(dir, ":") {
		return dir
	}
	if dir, ok := env("XDG_STATE_HOME"); ok && filepath.IsAbs(dir) {
		return filepath.Join(dir, productDir)
	}
	if home, ok := env("HOME"); ok && filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", productDir)
	}
	return filepath.Join(os.TempDir(), productDir)
}
