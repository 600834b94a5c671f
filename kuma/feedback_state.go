package kuma

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	feedbackMaxState  = 4 << 20
	feedbackMaxCases  = 4000 // alerts that are followed; beyond, the ones nothing happened to for longest are forgotten, never closed
	feedbackMaxHosts  = 4000 // hosts that are followed; the same
	feedbackMaxWrites = 4000 // beyond, the chain waits
	feedbackKeepCase  = 30 * 24 * time.Hour
)

// feedbackState is what has to survive a restart: the place in the chain and what is open there.
type feedbackState struct {
	// After is the Seq up to which the chain was read. Records before Begin are from before the first start.
	After int64     `json:"after"`
	Begin time.Time `json:"begin"`
	// Cases are the alerts of KUMA that are followed, by id; Hosts the isolated hosts, by their name in lower case.
	Cases map[string]*feedbackCase `json:"cases,omitempty"`
	Hosts map[string]*feedbackHost `json:"hosts,omitempty"`
	// Writes are due, oldest first; one for each kind and key.
	Writes []*feedbackWrite `json:"writes,omitempty"`
}

// feedbackCase is an alert of KUMA and the orders it led to.
type feedbackCase struct {
	// Open are the orders whose end is awaited: its own, or those that cover them.
	Open map[string]bool `json:"open,omitempty"`
	// Done is how many ended done, Bad says that one ended otherwise: the alert is left to a person.
	Done int  `json:"done,omitempty"`
	Bad  bool `json:"bad,omitempty"`
	// Seen is when something last happened to it; Order the last order that ended.
	Seen  time.Time `json:"seen"`
	Order string    `json:"order,omitempty"`
}

// feedbackHost is a host of the active list.
type feedbackHost struct {
	Host   string `json:"host"`
	Target string `json:"target,omitempty"` // its id at KSC
	Tenant string `json:"tenant,omitempty"`
	State  string `json:"state"`
	Order  string `json:"order"`
	// Since is when the state began. Until is when the isolation ends by the order alone, zero = not known.
	Since time.Time `json:"since"`
	Until time.Time `json:"until,omitzero"`
}

// The words of the field state.
const (
	feedbackAccepted  = "accepted"
	feedbackIsolated  = "isolated"
	feedbackReleasing = "releasing"
	feedbackReleased  = "released"
	feedbackFailed    = "failed"
	feedbackUnknown   = "unknown"
)

// over reports whether nothing more is expected of the host.
func (h *feedbackHost) over() bool {
	return h.State == feedbackReleased || h.State == feedbackFailed || h.State == feedbackUnknown
}

// feedbackWrite is one thing to write.
type feedbackWrite struct {
	// Kind is "close" with the id of an alert as Key, or "list" with a key of Hosts.
	Kind  string `json:"kind"`
	Key   string `json:"key"`
	Order string `json:"order,omitempty"`
	// First is when it became due, Due when it is tried next, Tries how often it was.
	First time.Time `json:"first"`
	Due   time.Time `json:"due"`
	Tries int       `json:"tries,omitempty"`
}

const (
	feedbackClose = "close"
	feedbackRow   = "list"
)

// enqueue makes a write due, at the same place when it was due already: what is written is looked up then.
func (s *feedbackState) enqueue(kind, key, order string, now, due time.Time) {
	for _, w := range s.Writes {
		if w.Kind == kind && w.Key == key {
			w.Order, w.Tries, w.First, w.Due = order, 0, now, due
			return
		}
	}
	s.Writes = append(s.Writes, &feedbackWrite{Kind: kind, Key: key, Order: order, First: now, Due: due})
}

func (s *feedbackState) drop(kind, key string) {
	for i, w := range s.Writes {
		if w.Kind == kind && w.Key == key {
			s.Writes = append(s.Writes[:i:i], s.Writes[i+1:]...)
			return
		}
	}
}

// host finds a host by its name or its id at KSC.
func (s *feedbackState) host(name, target string) (key string, h *feedbackHost) {
	key = strings.ToLower(name)
	if h = s.Hosts[key]; h != nil {
		return key, h
	}
	for k, h := range s.Hosts {
		if h.Target != "" && (strings.EqualFold(h.Target, target) || strings.EqualFold(h.Target, name)) {
			return k, h
		}
	}
	return key, nil
}

// forget drops what nothing more is expected of, and the oldest of what is too much. It returns how many went
// although something was still expected of them.
func (s *feedbackState) forget(now time.Time) (lost int) {
	for id, c := range s.Cases {
		if now.Sub(c.Seen) > feedbackKeepCase {
			delete(s.Cases, id)
		}
	}
	for len(s.Cases) > feedbackMaxCases {
		oldest, at := "", now
		for id, c := range s.Cases {
			if oldest == "" || c.Seen.Before(at) {
				oldest, at = id, c.Seen
			}
		}
		if !s.Cases[oldest].Bad {
			lost++
		}
		delete(s.Cases, oldest)
	}
	for len(s.Hosts) > feedbackMaxHosts {
		oldest, at := "", now
		for key, h := range s.Hosts {
			if oldest == "" || h.Since.Before(at) {
				oldest, at = key, h.Since
			}
		}
		delete(s.Hosts, oldest)
		lost++
	}
	return lost
}

func (s *feedbackState) text() (string, error) {
	raw, err := json.Marshal(s)
	if err == nil && len(raw) > feedbackMaxState {
		err = fmt.Errorf("it is larger than %d bytes", feedbackMaxState)
	}
	return string(raw), err
}

// restoreFeedback reads what text wrote. Without it, or when it cannot be read, the state is that of a first start.
func restoreFeedback(text string, now time.Time) (feedbackState, error) {
	fresh := feedbackState{Begin: now.UTC(), Cases: map[string]*feedbackCase{}, Hosts: map[string]*feedbackHost{}}
	if text == "" {
		return fresh, nil
	}
	var s feedbackState
	if len(text) > feedbackMaxState || json.Unmarshal([]byte(text), &s) != nil || s.Begin.IsZero() {
		return fresh, errors.New("the saved watermark is damaged")
	}
	if s.Cases == nil {
		s.Cases = fresh.Cases
	}
	if s.Hosts == nil {
		s.Hosts = fresh.Hosts
	}
	for _, c := range s.Cases {
		if c == nil {
			return fresh, errors.New("the saved watermark is damaged")
		}
		if c.Open == nil {
			c.Open = map[string]bool{}
		}
	}
	for _, h := range s.Hosts {
		if h == nil {
			return fresh, errors.New("the saved watermark is damaged")
		}
	}
	for _, w := range s.Writes {
		if w == nil {
			return fresh, errors.New("the saved watermark is damaged")
		}
	}
	return s, nil
}
