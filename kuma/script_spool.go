package kuma

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/kuma/callout"
)

// scriptEntry is what the loop knows of one file of the spool directory.
type scriptEntry struct {
	name callout.SpoolName
	// busy: it is delivered and not settled, or a fetcher has it.
	busy bool
	// needsEvent: it goes to a fetcher. eventless: its event did not come in time, it is delivered without.
	needsEvent, eventless bool
	// notBefore is when it may be tried again, pause the last pause.
	notBefore time.Time
	pause     time.Duration
	// said is the last thing the log was told about it.
	said string
}

// scriptSpool is the spool directory of a running source.
type scriptSpool struct {
	s   *Script
	dir *callout.SpoolDir
	// mu guards entries and what they hold.
	mu      sync.Mutex
	entries map[string]*scriptEntry
	// stuck are entries that are no call and could not be put aside, and when that is tried again. Only the loop uses it.
	stuck map[string]time.Time
	// fetchers are the places of goroutines that fetch events.
	fetchers chan struct{}
	fetching sync.WaitGroup
}

// readSpool delivers what is in the spool directory, oldest first, until ctx ends or the directory cannot be read.
func (s *Script) readSpool(ctx context.Context, stands func()) error {
	dir, err := callout.OpenSpool(s.cfg.Spool)
	if err != nil {
		return fmt.Errorf("%s: %w", s.cfg.Spool, err)
	}
	defer func() { _ = dir.Close() }()
	if dir.Public() && len(s.cfg.Writers) == 0 {
		return fmt.Errorf("%s: everybody on the machine could call: chmod 3770, or say whose files are taken (writers)", s.cfg.Spool)
	}
	sp := &scriptSpool{
		s: s, dir: dir, entries: make(map[string]*scriptEntry), stuck: make(map[string]time.Time), fetchers: make(chan struct{}, s.cfg.Fetchers),
	}
	ctx, stop := context.WithCancel(ctx)
	defer sp.fetching.Wait() // before the directory closes
	defer stop()
	woken := make(chan struct{}, 1)
	unwatch, err := dir.Watch(woken)
	if err != nil {
		s.cfg.Logger.Warn("spool directory cannot be watched, looked through instead", "source_name", s.cfg.Name, "err", err)
	} else {
		defer unwatch()
	}
	tick := time.NewTicker(s.cfg.Scan)
	defer tick.Stop()
	for {
		names, err := sp.list()
		if err != nil {
			return fmt.Errorf("%s: %w", s.cfg.Spool, err)
		}
		stands()
		for _, name := range names {
			if sp.take(ctx, name) != nil {
				return nil // told to stop
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-woken:
		case <-s.settled:
		case <-tick.C:
		}
	}
}

// list returns the files that are due, oldest first, puts aside what is no call, and forgets what is gone.
func (sp *scriptSpool) list() ([]string, error) {
	if err := sp.dir.InPlace(); err != nil {
		return nil, err
	}
	names, err := sp.dir.Names()
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	now := sp.s.cfg.Now()
	var due, foreign []string
	sp.mu.Lock()
	there := make(map[string]bool, len(names))
	for _, name := range names {
		n, ok := callout.ParseSpoolName(name)
		if !ok {
			if name != callout.SpoolBad && (!strings.HasPrefix(name, callout.SpoolTemp) || sp.dir.Torn(name, now)) {
				foreign = append(foreign, name)
			}
			continue
		}
		there[name] = true
		e := sp.entries[name]
		if e == nil {
			e = &scriptEntry{name: n}
			sp.entries[name] = e
		}
		if !e.busy && !now.Before(e.notBefore) {
			due = append(due, name)
		}
	}
	maps.DeleteFunc(sp.entries, func(name string, e *scriptEntry) bool { return !there[name] && !e.busy })
	maps.DeleteFunc(sp.stuck, func(_ string, until time.Time) bool { return !now.Before(until) })
	due = slices.DeleteFunc(due, sp.isStuck)
	sp.mu.Unlock()
	for _, name := range slices.DeleteFunc(foreign, sp.isStuck) {
		sp.putAside(name, callout.ErrSpoolForeign)
	}
	return due, nil
}

func (sp *scriptSpool) isStuck(name string) bool {
	_, stuck := sp.stuck[name]
	return stuck
}

// take reads one file and hands it over. The error is that of ctx.
func (sp *scriptSpool) take(ctx context.Context, name string) error {
	sp.mu.Lock()
	e := sp.entries[name]
	skip := e == nil || e.busy || e.needsEvent && !e.eventless && len(sp.fetchers) == cap(sp.fetchers)
	sp.mu.Unlock()
	if skip {
		return ctx.Err()
	}
	doc, call, ok := sp.open(name, e)
	if !ok {
		return ctx.Err()
	}
	sp.mu.Lock()
	e.needsEvent = call.EventID != "" && call.Event == nil && sp.s.cfg.Event != nil
	fetch := e.needsEvent && !e.eventless
	e.busy = true
	sp.mu.Unlock()
	if !fetch {
		return sp.deliver(ctx, name, e, doc)
	}
	select {
	case sp.fetchers <- struct{}{}:
		sp.fetching.Go(func() {
			defer func() { <-sp.fetchers; sp.s.wake() }()
			sp.fetch(ctx, name, e, call, doc)
		})
	default:
		sp.free(e) // another call's turn; a fetcher that ends wakes the loop
	}
	return ctx.Err()
}

// open reads a file and checks that it is a call and the one its name says. What is not is put aside.
func (sp *scriptSpool) open(name string, e *scriptEntry) ([]byte, callout.Call, bool) {
	doc, err := sp.dir.Read(name, e.name, sp.s.cfg.Writers)
	if err == nil {
		var call callout.Call
		if call, err = callout.DecodeCall(doc); err != nil {
			err = fmt.Errorf("%w: %w", callout.ErrSpoolForeign, err)
		} else if call.ID != e.name.ID {
			err = fmt.Errorf("%w: it holds another call than its name says", callout.ErrSpoolForeign)
		}
		if err == nil {
			return doc, call, true
		}
	}
	if errors.Is(err, callout.ErrSpoolForeign) {
		sp.putAside(name, err)
		return nil, callout.Call{}, false
	}
	sp.later(e, fmt.Sprintf("cannot be read: %v", err))
	return nil, callout.Call{}, false
}

// deliver hands a call over and gives it back when nobody takes it.
func (sp *scriptSpool) deliver(ctx context.Context, name string, e *scriptEntry, doc []byte) error {
	var once sync.Once
	d := bridge.Delivery{
		Alert: sp.s.alert(e.name.ID, doc),
		Settle: func(_ context.Context, err error) error {
			answer := errScriptSettled
			once.Do(func() { answer = sp.settle(name, e, err) })
			return answer
		},
	}
	select {
	case sp.s.out <- d:
		return ctx.Err()
	case <-ctx.Done():
		sp.free(e)
		return ctx.Err()
	}
}

// settle takes a stored call out of the directory, puts an unreadable one aside and lets any other come again.
func (sp *scriptSpool) settle(name string, e *scriptEntry, err error) error {
	defer sp.s.wake()
	switch {
	case err == nil:
		return sp.reopened(func(dir *callout.SpoolDir) error { return dir.Remove(name) }, e)
	case errors.Is(err, bridge.ErrBadAlert):
		return sp.reopened(func(dir *callout.SpoolDir) error {
			_, err := dir.SetAside(name, sp.s.cfg.Now())
			return err
		}, e)
	default:
		sp.later(e, "")
		return nil
	}
}

// reopened does something to the directory, although the source may have ended and closed it.
func (sp *scriptSpool) reopened(do func(*callout.SpoolDir) error, e *scriptEntry) error {
	dir, err := callout.OpenSpool(sp.s.cfg.Spool)
	if err == nil {
		err = errors.Join(do(dir), dir.Close())
	}
	if err != nil {
		sp.later(e, fmt.Sprintf("stored, and cannot be taken out of the spool directory: %v", err))
		return err
	}
	sp.free(e)
	return nil
}

func (sp *scriptSpool) free(e *scriptEntry) {
	sp.mu.Lock()
	e.busy = false
	sp.mu.Unlock()
}

// later lets a call come again after a pause that doubles. A reason is logged when it is another one than before.
func (sp *scriptSpool) later(e *scriptEntry, why string) {
	var pause time.Duration
	sp.mu.Lock()
	e.busy = false
	e.pause = min(max(2*e.pause, sp.s.cfg.Retry), max(scriptMaxRetry, sp.s.cfg.Retry))
	e.notBefore = sp.s.cfg.Now().Add(e.pause)
	say := why != "" && why != e.said
	e.said, pause = why, e.pause
	sp.mu.Unlock()
	time.AfterFunc(pause, sp.s.wake)
	if say {
		sp.s.cfg.Logger.Warn("spooled call waits", "source_name", sp.s.cfg.Name, "alert", e.name.ID, "err", why)
	}
}

// putAside moves what is no call out of the way and reports it.
func (sp *scriptSpool) putAside(name string, why error) {
	kept, err := sp.dir.SetAside(name, sp.s.cfg.Now())
	if err != nil {
		sp.stuck[name] = sp.s.cfg.Now().Add(scriptStuck)
		sp.s.cfg.Logger.Error("entry of the spool directory is no call and cannot be put aside",
			"source_name", sp.s.cfg.Name, "entry", callout.Excerpt(name), "err", errors.Join(why, err))
		return
	}
	sp.s.cfg.Logger.Warn("entry of the spool directory was put aside", "source_name", sp.s.cfg.Name, "entry", callout.Excerpt(name), "err", why)
	sp.s.cfg.OnNote(bridge.Note{
		What: bridge.NoteDeadLetter, Source: sp.s.cfg.Name, Count: 1,
		Detail: fmt.Sprintf("spool entry %s put aside as %s: %v", callout.Excerpt(name), kept, why),
	})
}

// wake makes the spool loop look again.
func (s *Script) wake() {
	select {
	case s.settled <- struct{}{}:
	default:
	}
}
