package ksc

import (
	"sync"
	"time"
)

// cache remembers what the server said for a while. When it is full, any other entry makes room: a wrong guess costs
// one question.
type cache[K comparable, V any] struct {
	limit int
	ttl   time.Duration
	now   func() time.Time

	mu      sync.Mutex // guards entries
	entries map[K]cached[V]
}

type cached[V any] struct {
	value   V
	expires time.Time
}

func newCache[K comparable, V any](limit int, ttl time.Duration, now func() time.Time) *cache[K, V] {
	return &cache[K, V]{limit: limit, ttl: ttl, now: now, entries: map[K]cached[V]{}}
}

func (c *cache[K, V]) get(key K) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if ok && !c.now().Before(e.expires) {
		delete(c.entries, key)
		e, ok = cached[V]{}, false
	}
	return e.value, ok
}

// take is get for a value only one may use at a time.
func (c *cache[K, V]) take(key K) (V, bool) {
	v, ok := c.get(key)
	if ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		if _, ok = c.entries[key]; ok {
			delete(c.entries, key)
		}
	}
	return v, ok
}

func (c *cache[K, V]) put(key K, v V) { c.putFor(key, v, c.ttl) }

// putFor is put for what is to be forgotten sooner than the rest.
func (c *cache[K, V]) putFor(key K, v V, ttl time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.entries[key]; !known && len(c.entries) >= c.limit {
		for other := range c.entries {
			delete(c.entries, other)
			break
		}
	}
	c.entries[key] = cached[V]{v, c.now().Add(ttl)}
}
