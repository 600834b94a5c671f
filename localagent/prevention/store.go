package prevention

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	rulesFile = "rules.json"
	lockFile  = "rules.lock"
	// breakerFile says which rules are stopped.
	breakerFile = "breaker.json"
	// maxRulesFile has room for MaxRules rules with the longest paths.
	maxRulesFile = 32 << 20
	// rulesVersion is the form of the file.
	rulesVersion = 1
)

// stored is the content of rules.json.
type stored struct {
	Version int    `json:"version"`
	Rules   []Rule `json:"rules"`
}

// load reads the stored rules. What nobody of ours can have written is an error, not an empty list: rules must not be lost unseen.
func (g *Guard) load() ([]Rule, error) { return loadRules(g.cfg.State) }

func loadRules(state string) ([]Rule, error) {
	path := filepath.Join(state, rulesFile)
	data, err := files.ReadOwn(path, maxRulesFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = trusted(state, path)
	}
	if err != nil {
		return nil, fmt.Errorf("read the rules: %w", err)
	}
	rules, err := decodeRules(data)
	if err != nil {
		return nil, fmt.Errorf("the rules in %s are damaged: %w; move the file away to begin without rules", verdict.Shown(path), err)
	}
	return rules, nil
}

// decodeRules reads the content of rules.json and refuses rules that newRule would not make.
func decodeRules(data []byte) ([]Rule, error) {
	var s stored
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, err
	}
	if s.Version != rulesVersion {
		return nil, fmt.Errorf("version is %d, want %d", s.Version, rulesVersion)
	}
	if len(s.Rules) > MaxRules {
		return nil, fmt.Errorf("%d rules, allowed are %d", len(s.Rules), MaxRules)
	}
	seen := make(map[string]bool, len(s.Rules))
	for i := range s.Rules {
		r := &s.Rules[i]
		if err := r.check(); err != nil {
			return nil, fmt.Errorf("rule %d: %w", i+1, err)
		}
		if r.ID != r.id() || seen[r.ID] {
			return nil, fmt.Errorf("rule %d: its id %s is not its own", i+1, verdict.Shown(r.ID))
		}
		seen[r.ID] = true
	}
	return s.Rules, nil
}

func (g *Guard) save(rules []Rule) error {
	data, err := json.MarshalIndent(stored{rulesVersion, rules}, "", " ")
	if err == nil {
		err = os.MkdirAll(g.cfg.State, 0o700)
	}
	if err == nil {
		err = files.WriteDurable(filepath.Join(g.cfg.State, rulesFile), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("store the rules: %w", err)
	}
	return nil
}

// lock makes this process the only one that runs the guard of the state folder, or changes its rules.
func (g *Guard) lock() (*files.Locked, error) {
	if err := os.MkdirAll(g.cfg.State, 0o700); err != nil {
		return nil, err
	}
	lock, err := files.LockFile(filepath.Join(g.cfg.State, lockFile))
	if errors.Is(err, files.ErrLocked) {
		return nil, fmt.Errorf("the guard of %s is run by another process (ask that one), or is just starting: %w", verdict.Shown(g.cfg.State), err)
	}
	return lock, err
}

// mode is what becomes of executions: under DryRun they go on.
func (cfg *Config) mode() Mode {
	if cfg.DryRun {
		return LogOnly
	}
	return cfg.Mode
}

// disabled reports whether the emergency switch is on, by its file (whatever is at the path counts) or since the machine was started.
func (cfg *Config) disabled() bool {
	_, err := os.Lstat(cfg.Disable)
	return err == nil || bootedWithout()
}
