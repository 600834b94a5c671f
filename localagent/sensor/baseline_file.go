package sensor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

const (
	// maxBaselineFile bounds what is read. It is more than maxKnown can become when every character is escaped.
	maxBaselineFile = 128 << 20
	baselineVersion = 1
	// damagedSuffix is appended to a file that cannot be read, which is kept for people.
	damagedSuffix = ".damaged"
)

// baselineForm is the file of the counts.
type baselineForm struct {
	Version int                    `json:"version"`
	Learned int64                  `json:"learned_seconds"`
	Parents map[string]*familyForm `json:"parents"`
}

type familyForm struct {
	Starts   uint64            `json:"starts"`
	Full     bool              `json:"full,omitempty"`
	Children map[string]uint64 `json:"children"`
}

// load reads the file; none is an empty one. Bounds hold for files as well.
func (f *frequencies) load() error {
	if f.cfg.File == "" {
		return nil
	}
	data, err := files.ReadOwn(f.cfg.File, maxBaselineFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("baseline: %w", err)
	}
	if err := f.restore(data); err != nil {
		return fmt.Errorf("baseline: %s: %w", f.cfg.File, err)
	}
	return nil
}

func (f *frequencies) restore(data []byte) error {
	var form baselineForm
	if err := json.Unmarshal(data, &form); err != nil {
		return fmt.Errorf("the file is damaged: %w", err)
	}
	if form.Version != baselineVersion || form.Learned < 0 || form.Learned > int64(time.Duration(1<<62).Seconds()) {
		return errors.New("the file is not one of this version")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.learned = time.Duration(form.Learned) * time.Second
	f.parents, f.pairs, f.known = make(map[string]*family, min(len(form.Parents), maxParentKeys)), 0, 0
	for key, p := range form.Parents {
		if p == nil || key == "" || len(key) > maxKey || len(f.parents) >= maxParentKeys || !f.room(key) {
			continue
		}
		fam := &family{starts: min(p.Starts, maxCount), full: p.Full, children: make(map[string]uint64, min(len(p.Children), maxChildKeys))}
		for child, n := range p.Children {
			if len(fam.children) >= maxChildKeys || child == "" || len(child) > maxKey || n == 0 || !f.room(child) {
				fam.full = true
				continue
			}
			fam.children[child] = min(n, maxCount)
		}
		f.parents[key] = fam
		f.pairs += len(fam.children)
	}
	return nil
}

// save writes the counts when they have changed; there is always a whole file.
func (f *frequencies) save() error {
	if f.cfg.File == "" {
		return nil
	}
	data, changed, err := f.text()
	if err != nil || !changed {
		return err
	}
	if err := files.WriteDurable(f.cfg.File, data, 0o600); err != nil {
		f.mu.Lock()
		f.dirty = true
		f.mu.Unlock()
		return fmt.Errorf("baseline: %w", err)
	}
	return nil
}

func (f *frequencies) text() ([]byte, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.dirty {
		return nil, false, nil
	}
	form := baselineForm{Version: baselineVersion, Learned: int64(f.learned / time.Second), Parents: make(map[string]*familyForm, len(f.parents))}
	for key, p := range f.parents {
		form.Parents[key] = &familyForm{Starts: p.starts, Full: p.full, Children: p.children}
	}
	data, err := json.Marshal(form)
	if err != nil {
		return nil, false, fmt.Errorf("baseline: %w", err)
	}
	f.dirty = false
	return data, true, nil
}

// setAside renames a file that cannot be read, so that counting can begin again.
func setAside(name string) error { return os.Rename(name, name+damagedSuffix) }
