package prevention

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	breakerVersion = 1
	// maxBreakerFile has room for a line about each rule.
	maxBreakerFile = 4 << 20
	// maxBreakerListed bounds the rules a status names.
	maxBreakerListed = 3
)

// breaker stops a rule that keeps more different files from being executed within a second than a sound one would: files at its path in
// many containers, say. The rule stays stopped until Resume, over restarts; others go on. What is only opened does not count (whoever
// reads a folder opens its files), and copies of one content count once.
type breaker struct {
	limit int
	// state is the folder for breaker.json; empty = nothing is kept.
	state string
	// saving makes one goroutine at a time write the file, so that the last one to write knows all.
	saving sync.Mutex
	// mu guards the rest.
	mu sync.Mutex
	// denied and stopped are by the id of the rule; stopped says why.
	denied  map[string][]breakerEntry
	stopped map[string]string
}

type breakerEntry struct {
	id  files.ID
	sum string
	at  time.Time
}

// brokenRules is the content of breaker.json.
type brokenRules struct {
	Version int               `json:"version"`
	Stopped map[string]string `json:"stopped"`
}

// load reads which rules were stopped before.
func (b *breaker) load() error {
	path := filepath.Join(b.state, breakerFile)
	data, err := files.ReadOwn(path, maxBreakerFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = trusted(b.state, path)
	}
	var kept brokenRules
	if err == nil {
		err = json.Unmarshal(data, &kept)
	}
	if err == nil && kept.Version != breakerVersion {
		err = fmt.Errorf("version is %d, want %d", kept.Version, breakerVersion)
	}
	if err != nil {
		return fmt.Errorf("rules the breaker stopped, in %s: %w; move the file away to begin without", verdict.Shown(path), err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = kept.Stopped
	return nil
}

func (b *breaker) save() error {
	if b.state == "" {
		return nil
	}
	b.saving.Lock()
	defer b.saving.Unlock()
	b.mu.Lock()
	data, err := json.Marshal(brokenRules{breakerVersion, b.stopped})
	b.mu.Unlock()
	if err == nil {
		err = files.WriteDurable(filepath.Join(b.state, breakerFile), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("store which rules the breaker stopped: %w", err)
	}
	return nil
}

// count adds an execution a rule denies and reports whether it may; tripped says that it was the one too many. sum is a digest of the file,
// or empty.
func (b *breaker) count(rule string, id files.ID, sum string, now time.Time) (ok, tripped bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped[rule] != "" {
		return false, false
	}
	fresh := slices.DeleteFunc(b.denied[rule], func(e breakerEntry) bool { return now.Sub(e.at) >= time.Second })
	known := slices.ContainsFunc(fresh, func(e breakerEntry) bool { return e.id == id || sum != "" && e.sum == sum })
	if !known && len(fresh) >= b.limit {
		delete(b.denied, rule)
		if b.stopped == nil {
			b.stopped = make(map[string]string)
		}
		b.stopped[rule] = fmt.Sprintf("the breaker stopped the rule at %s: it kept more than %d different files from being executed within a second",
			now.UTC().Format(time.RFC3339), b.limit)
		return false, true
	}
	if !known {
		fresh = append(fresh, breakerEntry{id, sum, now})
	}
	if b.denied == nil {
		b.denied = make(map[string][]breakerEntry)
	}
	b.denied[rule] = fresh
	return true, false
}

// reason says why the rule is stopped; empty = it is not.
func (b *breaker) reason(rule string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stopped[rule]
}

// keep forgets rules that are not among those of the set, and reports whether one of them was stopped.
func (b *breaker) keep(set *ruleset) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for rule := range b.denied {
		if _, ok := set.id[rule]; !ok {
			delete(b.denied, rule)
		}
	}
	changed := false
	for rule := range b.stopped {
		if _, ok := set.id[rule]; !ok {
			delete(b.stopped, rule)
			changed = true
		}
	}
	return changed
}

// resume lets all rules deny again.
func (b *breaker) resume() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.denied, b.stopped = nil, nil
}

// text says which rules are stopped; empty = none.
func (b *breaker) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var rules []string
	for rule := range b.stopped {
		rules = append(rules, rule)
	}
	slices.Sort(rules)
	var texts []string
	for _, rule := range rules[:min(len(rules), maxBreakerListed)] {
		texts = append(texts, cut(fmt.Sprintf("rule %s: %s", rule, b.stopped[rule]), maxListedText))
	}
	if more := len(rules) - len(texts); more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more rules", more))
	}
	return strings.Join(texts, "; ")
}
