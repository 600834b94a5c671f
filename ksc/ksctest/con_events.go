package ksctest

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	incidentAdded    = "KLSRV_EV_INCIDENT_ADDED" // support.kaspersky.com/help/KSC/16/KSCAPI/a00404.html
	feedPeriod       = time.Second               // clients ask no more often
	feedLifetime     = 300                       // seconds an entry says it is valid
	maxFeedEntries   = 1000                      // a session that never asks loses the oldest
	maxSubscriptions = 16                        // of one session
)

// feed keeps what ConEvents.Retrieve hands out.
type feed struct {
	subscribed atomic.Int64 // sessions; lets publish leave early

	// mu guards the fields below.
	mu        sync.Mutex
	nextID    int
	bySession map[*session]*subscriber
}

// subscriber is one session's part of the feed.
type subscriber struct {
	wants   map[int]string // subscription id → type
	entries []params
	asked   time.Time
}

// publish tells the subscribers of an incident.
func (f *feed) publish(i *Incident, now time.Time) {
	if f.subscribed.Load() == 0 {
		return
	}
	entry := params{
		{"KLSRV_CON_EVENT_TYPE", incidentAdded},
		{"KLSRV_CON_EVENT_PARAMS", params{{"KLINCDT_ID", i.ID}, {"KLINCDT_SEVERITY", i.Severity}, {"KLINCDT_TYPE", ""}}},
		{"KLSRV_CON_EVENT_BIRTH_TIME", now},
		{"KLSRV_CON_EVENT_LIFE_TIME", feedLifetime},
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, sub := range f.bySession {
		for _, kind := range sub.wants {
			if kind == incidentAdded {
				sub.entries = append(sub.entries, entry)
				sub.entries = sub.entries[max(0, len(sub.entries)-maxFeedEntries):]
				break
			}
		}
	}
}

// drop forgets a session.
func (f *feed) drop(sess *session) {
	if f.subscribed.Load() == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.bySession, sess)
	f.subscribed.Store(int64(len(f.bySession)))
}

func (s *Server) subscribe(c *call) error {
	kind, err := c.args.str("wstrEvent")
	if err != nil {
		return err
	}
	if kind == "" {
		return badParameter("wstrEvent", "required")
	}
	f := &s.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.bySession == nil {
		f.bySession = make(map[*session]*subscriber)
	}
	sub := f.bySession[c.session]
	if sub == nil {
		sub = &subscriber{wants: make(map[int]string)}
		f.bySession[c.session] = sub
		f.subscribed.Add(1)
	}
	if len(sub.wants) >= maxSubscriptions {
		return tooMany("subscriptions")
	}
	f.nextID++
	sub.wants[f.nextID] = kind
	c.result(f.nextID, member{"nPeriod", int(feedPeriod.Milliseconds())})
	return nil
}

func (s *Server) unsubscribe(c *call) error {
	id, err := c.args.integer("nSubsId")
	if err != nil {
		return err
	}
	f := &s.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	sub := f.bySession[c.session]
	if sub == nil || sub.wants[id] == "" {
		return notFound("Subscription", "nSubsId")
	}
	delete(sub.wants, id)
	return nil
}

// retrieve hands out what came since the last time, and refuses callers that ask too often.
func (s *Server) retrieve(c *call) error {
	f := &s.feed
	now := s.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	sub := f.bySession[c.session]
	if sub == nil {
		return notFound("Subscription", "session")
	}
	if !sub.asked.IsZero() && now.Sub(sub.asked) < feedPeriod {
		return unavailable("Retrieve is called too often")
	}
	sub.asked = now
	list := make([]any, len(sub.entries))
	for i, entry := range sub.entries {
		list[i] = entry
	}
	sub.entries = nil
	c.result(len(list) > 0, member{"pEvents", list}, member{"nPeriod", int(feedPeriod.Milliseconds())})
	return nil
}
