package sensor

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"
)

const (
	// maxParentKeys and maxChildKeys bound what is learned: parents, and children of one parent.
	maxParentKeys = 8192
	maxChildKeys  = 1024
	maxKey        = 1024 // bytes of a path; the digest of a longer one stands for it
	// maxKnown bounds all of it, in bytes; entryCost is what one entry takes besides its text.
	maxKnown  = 16 << 20
	entryCost = 32
	// maxCount keeps a count from overflowing.
	maxCount = 1 << 40

	defaultLearn        = 7 * 24 * time.Hour
	defaultObservations = 50
	defaultScore        = 8
)

// Baseline says how rare chains are found.
//
// The sensor counts which image starts which. Once it has learned, a child its parent never started before is scored by its surprise in
// bits: −log2 P, with P = T / (N + T) the Witten–Bell estimate for something new, N being the starts by that parent and T how many
// different children it had. A parent that always starts the same has a small P; one that always starts something else, such as a
// compiler, a large one. (Witten, Bell: The zero-frequency problem, IEEE Trans. Inf. Theory 37(4), 1991, method C.)
type Baseline struct {
	// Enabled makes the sensor count and, once it has learned, alert.
	Enabled bool
	// File is where counts are kept, as JSON with mode 0600; "" = they end with the process.
	File string
	// Learn is how long the sensor counts without any alert, the time it does not run left out; zero = 7 days.
	Learn time.Duration
	// Observations is how many starts by a parent must be counted before its children are scored; zero = 50.
	Observations int
	// Score is the least surprise in bits that makes an alert; zero = 8, one in 256.
	Score float64
	// Level is the severity of its alerts; "" = MEDIUM.
	Level string
}

func (b *Baseline) fill() {
	if b.Learn == 0 {
		b.Learn = defaultLearn
	}
	if b.Observations == 0 {
		b.Observations = defaultObservations
	}
	if b.Score == 0 {
		b.Score = defaultScore
	}
	if b.Level == "" {
		b.Level = LevelMedium
	}
}

func (b Baseline) check() error {
	if b.Learn < 0 || b.Observations < 0 || b.Score < 0 || math.IsNaN(b.Score) || math.IsInf(b.Score, 0) {
		return fmt.Errorf("baseline: learn, observations and score must not be negative")
	}
	if b.Level != "" {
		if err := checkLevel(b.Level); err != nil {
			return fmt.Errorf("baseline.level: %w", err)
		}
	}
	return nil
}

// frequencies are how often which image started which. It is safe for many goroutines.
type frequencies struct {
	cfg Baseline

	// mu guards the rest.
	mu      sync.Mutex
	parents map[string]*family
	learned time.Duration
	pairs   int
	known   int // bytes, see maxKnown
	dirty   bool
	// refused counts pairs for which there was no room, although all families were dropped that are no use.
	refused uint64
}

// family is what one parent started.
type family struct {
	starts   uint64
	children map[string]uint64
	// full says that there was no room for a child: what is unknown may have been seen.
	full bool
}

func newFrequencies(cfg Baseline) *frequencies {
	return &frequencies{cfg: cfg, parents: map[string]*family{}}
}

// observe counts a start and returns its surprise in bits when that makes an alert.
func (f *frequencies) observe(parent, child string) (bits float64, alert bool) {
	if parent == "" || child == "" {
		return 0, false
	}
	parent, child = keyOf(parent), keyOf(child)
	f.mu.Lock()
	defer f.mu.Unlock()
	fam := f.parents[parent]
	if fam == nil {
		if len(f.parents) >= maxParentKeys {
			f.dropUseless(nil)
		}
		if len(f.parents) >= maxParentKeys || !f.makeRoom(parent, nil) {
			f.refused++
			return 0, false
		}
		fam = &family{children: map[string]uint64{}}
		f.parents[parent] = fam
	}
	count := fam.children[child]
	if count == 0 {
		bits = fam.surprise()
		alert = f.learned >= f.cfg.Learn && f.useful(fam)
	}
	f.dirty = true
	if fam.starts < maxCount {
		fam.starts++
	}
	switch {
	case count == 0 && (len(fam.children) >= maxChildKeys || !f.makeRoom(child, fam)):
		fam.full = true
		f.refused++
	case count < maxCount:
		if count == 0 {
			f.pairs++
		}
		fam.children[child] = count + 1
	}
	return bits, alert
}

// keyOf makes a path a key, which stands in a JSON file.
func keyOf(path string) string {
	if len(path) > maxKey {
		sum := sha256.Sum256([]byte(path))
		return "sha256:" + hex.EncodeToString(sum[:])
	}
	return strings.ToValidUTF8(path, "\uFFFD")
}

// useful reports whether a new child of the family would make an alert once the learning is over.
func (f *frequencies) useful(fam *family) bool {
	return !fam.full && fam.starts >= uint64(max(f.cfg.Observations, 1)) && fam.surprise() >= f.cfg.Score
}

// dropUseless forgets the families that would make no alert, except one: whoever invents parents and children must not fill the
// place of those that would.
func (f *frequencies) dropUseless(except *family) {
	for key, fam := range f.parents {
		if fam == except || f.useful(fam) {
			continue
		}
		delete(f.parents, key)
		f.known -= len(key) + entryCost
		f.pairs -= len(fam.children)
		for child := range fam.children {
			f.known -= len(child) + entryCost
		}
	}
}

// makeRoom reserves place for a key, of useless families if need be.
func (f *frequencies) makeRoom(key string, of *family) bool {
	if f.room(key) {
		return true
	}
	f.dropUseless(of)
	return f.room(key)
}

// room reserves place for a key.
func (f *frequencies) room(key string) bool {
	if f.known+len(key)+entryCost > maxKnown {
		return false
	}
	f.known += len(key) + entryCost
	return true
}

// surprise is −log2 of the chance that the next child is a new one.
func (f *family) surprise() float64 {
	kinds := float64(len(f.children))
	if kinds == 0 {
		return 0
	}
	return -math.Log2(kinds / (float64(f.starts) + kinds))
}

// ran adds time that was spent counting.
func (f *frequencies) ran(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d > 0 && f.learned < f.cfg.Learn {
		f.learned += d
		f.dirty = true
	}
}

// left returns how long the sensor still learns, how many pairs it knows, and how many found no room.
func (f *frequencies) left() (learning time.Duration, pairs int, refused uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return max(f.cfg.Learn-f.learned, 0), f.pairs, f.refused
}
