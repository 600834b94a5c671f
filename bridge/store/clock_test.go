package store

import (
	"database/sql/driver"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// machine is a computer whose clock can be set.
type machine struct {
	mu    sync.Mutex
	boot  string
	since time.Duration
	wall  time.Time
}

func newMachine() *machine { return &machine{boot: "b1", since: time.Hour, wall: newClock().at} }

// pass lets time pass, set sets the clock.
func (m *machine) pass(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.since, m.wall = m.since+d, m.wall.Add(d)
}

func (m *machine) set(by time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wall = m.wall.Add(by)
}

func (m *machine) restart(off time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.boot, m.since, m.wall = m.boot+"'", time.Second, m.wall.Add(off)
}

func (m *machine) config(dir string) Config {
	return Config{
		Dir: dir,
		Now: func() time.Time {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.wall
		},
		Uptime: func() (string, time.Duration, error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.boot, m.since, nil
		},
	}
}

// spans are how long each stored time of the policy lies ahead.
func spans(t *testing.T, s *Store) map[string]string {
	t.Helper()
	out := map[string]string{}
	now := s.now()
	err := s.read(t.Context(), func(c *conn) error {
		for _, sql := range []string{
			`SELECT 'fact at', at FROM facts`, `SELECT 'fact until', until FROM facts`, `SELECT 'lease since', since FROM leases WHERE open`,
			`SELECT 'lease until', until FROM leases WHERE open`, `SELECT 'isolated', isolated FROM leases WHERE open`,
			`SELECT 'old lease until', until FROM leases WHERE open IS NULL`,
			`SELECT state || ' not_after', not_after FROM orders`, `SELECT state || ' due', due FROM orders`,
			`SELECT state || ' window', dedupe_until FROM orders`, `SELECT state || ' updated', updated FROM orders`,
		} {
			if err := c.each(t.Context(), sql, nil, func(row []driver.Value) (bool, error) {
				if row[1] != nil {
					out[asText(row[0])] += asTime(row[1]).Sub(now).String() + ";"
				} else {
					out[asText(row[0])] += "never;"
				}
				return true, nil
			}); err != nil {
				return err
			}
		}
		row, err := c.first(t.Context(), selectSetting, settingResumed)
		if err == nil && row != nil {
			at, perr := time.Parse(time.RFC3339Nano, asText(row[0]))
			out["resumed"], err = at.Sub(now).String(), perr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// furnish puts a fact, two leases, a queued and a done order with windows, and a resume into the store.
func furnish(t *testing.T, s *Store, m *machine) {
	t.Helper()
	queued, done := numbered(t, 1), numbered(t, 2)
	for _, o := range []*bridge.Order{&queued, &done} {
		o.Dedupe, o.Window, o.NotAfter = o.ID, time.Hour, s.now().Add(15*time.Minute)
	}
	admitTest(t, s, queued)
	moveTest(t, s, moveTest(t, s, admitTest(t, s, done)[0], bridge.StateSending), bridge.StateDone)
	over := numbered(t, 3)
	over.Dedupe, over.Window, over.NotAfter = over.ID, time.Second, s.now().Add(time.Hour)
	moveTest(t, s, moveTest(t, s, admitTest(t, s, over)[0], bridge.StateSending), bridge.StateUnknown)
	for _, active := range []bool{true, false} {
		if err := s.SetHold(t.Context(), bridge.Hold{Active: active, Actor: "cli:x"}); err != nil {
			t.Fatal(err)
		}
	}
	now := s.now().UnixNano()
	tamper(
		t, s,
		fmt.Sprintf(`INSERT INTO facts (what, order_id, at, until) VALUES ('ask', 'o', %d, %d)`, now, now+int64(time.Hour)),
		fmt.Sprintf(`INSERT INTO leases (order_id, effect, since, until, isolated, open) VALUES ('a', 'a', %d, %d, %d, 1)`, now, now+int64(4*time.Hour), now),
		fmt.Sprintf(`INSERT INTO leases (order_id, effect, since, until) VALUES ('b', 'b', %d, %d)`, now, now+int64(4*time.Hour)),
	)
	m.pass(time.Minute)
}

func clockNotes(t *testing.T, s *Store) []AuditRecord {
	t.Helper()
	var out []AuditRecord
	if err := s.ExportAudit(t.Context(), 0, func(r AuditRecord) error {
		if r.What == bridge.NoteClock {
			out = append(out, r)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestF31JumpOfTheClockMovesEveryPolicyTime(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		by   time.Duration
		note string
	}{
		"a day forward":          {24 * time.Hour, "forward by 24h0m0s"},
		"a day back":             {-24 * time.Hour, "back by 24h0m0s"},
		"a minute forward":       {time.Minute, "forward by 1m0s"},
		"fifty years forward":    {50 * 365 * 24 * time.Hour, "forward by"},
		"just what is too small": {30 * time.Second, ""},
		"a slew back":            {-29 * time.Second, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, restart := range []bool{false, true} {
				m, dir := newMachine(), t.TempDir()
				s, err := Open(t.Context(), m.config(dir))
				if err != nil {
					t.Fatal(err)
				}
				furnish(t, s, m)
				want := spans(t, s)
				if restart {
					// The bridge is not running while the clock is set.
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
				}
				m.set(tc.by)
				if restart {
					if s, err = Open(t.Context(), m.config(dir)); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.Note(t.Context(), bridge.Note{What: bridge.NoteStart}); err != nil {
					t.Fatal(err)
				}
				got, notes := spans(t, s), clockNotes(t, s)
				if tc.note == "" {
					if len(notes) != 0 {
						t.Errorf("restart %v: a slew is a jump: %s", restart, notes[0].Detail)
					}
				} else {
					// What has ended is history: it stays where it was.
					for _, past := range []string{"done not_after", "done updated", "unknown window", "unknown not_after", "unknown updated", "old lease until"} {
						if want[past] == got[past] {
							t.Errorf("restart %v: %s was moved", restart, past)
						}
						delete(want, past)
						delete(got, past)
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("restart %v: spans (-before the jump +after):\n%s", restart, diff)
					}
					if len(notes) != 1 || !strings.Contains(notes[0].Detail, tc.note) {
						t.Errorf("restart %v: notes %+v, want one with %q", restart, notes, tc.note)
					}
				}
				sound(t, s)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestF31TwoProcessesMoveTheTimesOnce(t *testing.T) {
	t.Parallel()
	m, dir := newMachine(), t.TempDir()
	run, send := openTest(t, m.config(dir)), openTest(t, m.config(dir))
	furnish(t, run, m)
	if err := send.Note(t.Context(), bridge.Note{What: bridge.NoteStart}); err != nil {
		t.Fatal(err)
	}
	want := spans(t, run)["lease until"]
	m.set(24 * time.Hour)
	for _, s := range []*Store{run, send, run, send, openTest(t, m.config(dir))} {
		if err := s.Note(t.Context(), bridge.Note{What: bridge.NoteStop}); err != nil {
			t.Fatal(err)
		}
	}
	if got := spans(t, run)["lease until"]; got != want {
		t.Errorf("the lease lasts %s, want %s", got, want)
	}
	if notes := clockNotes(t, run); len(notes) != 1 {
		t.Errorf("%d notes, want 1", len(notes))
	}
}

func TestF31JumpIsNotLostWithAFailedTransaction(t *testing.T) {
	t.Parallel()
	m := newMachine()
	s := openTest(t, m.config(t.TempDir()))
	furnish(t, s, m)
	want := spans(t, s)["lease until"]
	m.set(-24 * time.Hour)
	if err := s.do(t.Context(), func(*tx) error { return fmt.Errorf("no") }); err == nil {
		t.Fatal("committed")
	}
	if err := s.Note(t.Context(), bridge.Note{What: bridge.NoteStart}); err != nil {
		t.Fatal(err)
	}
	if got := spans(t, s)["lease until"]; got != want {
		t.Errorf("the lease lasts %s, want %s", got, want)
	}
}

func TestF31JumpIsSeenWithinAProcessWhereTheBootHasNoName(t *testing.T) {
	t.Parallel()
	m := newMachine()
	m.boot = ""
	s := openTest(t, m.config(t.TempDir()))
	furnish(t, s, m)
	if err := s.Note(t.Context(), bridge.Note{What: bridge.NoteStart}); err != nil {
		t.Fatal(err)
	}
	want := spans(t, s)["lease until"]
	for _, by := range []time.Duration{-24 * time.Hour, 48 * time.Hour} {
		m.set(by)
		for range 2 {
			if err := s.Note(t.Context(), bridge.Note{What: bridge.NoteStart}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got, notes := spans(t, s)["lease until"], clockNotes(t, s); got != want || len(notes) != 2 {
		t.Errorf("the lease lasts %s after %d notes, want %s after 2", got, len(notes), want)
	}
}

func TestF31TimeThatPassesIsNoJump(t *testing.T) {
	t.Parallel()
	m, dir := newMachine(), t.TempDir()
	s := openTest(t, m.config(dir))
	furnish(t, s, m)
	before := spans(t, s)["lease until"]
	// A long sleep, suspended or idle: both clocks go on. Slews of some seconds each add up to more than a jump.
	m.pass(3 * time.Hour)
	for range 10 {
		m.pass(time.Minute)
		m.set(20 * time.Second)
		if err := s.Note(t.Context(), bridge.Note{What: bridge.NoteStart}); err != nil {
			t.Fatal(err)
		}
	}
	if notes := clockNotes(t, s); len(notes) != 0 {
		t.Errorf("notes %+v, want none", notes)
	}
	// The machine restarts and was off for a day: nobody can tell that from a jump forward, and time did pass.
	m.restart(24 * time.Hour)
	again := openTest(t, m.config(dir))
	if err := again.Note(t.Context(), bridge.Note{What: bridge.NoteStart}); err != nil {
		t.Fatal(err)
	}
	if notes := clockNotes(t, s); len(notes) != 0 || before == spans(t, s)["lease until"] {
		t.Errorf("notes %+v, want none", notes)
	}
	// A clock that lies before the last known moment after a restart was set back.
	m.restart(-24 * 365 * time.Hour)
	third := openTest(t, m.config(dir))
	if err := third.Note(t.Context(), bridge.Note{What: bridge.NoteStart}); err != nil {
		t.Fatal(err)
	}
	if notes := clockNotes(t, s); len(notes) != 1 {
		t.Errorf("%d notes, want 1", len(notes))
	}
}

func TestF31DaylightSavingDoesNotMatter(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("no time zones here")
	}
	m := newMachine()
	m.wall = time.Date(2026, 3, 29, 0, 59, 30, 0, time.UTC).In(berlin) // 30 s before the clocks go forward
	s := openTest(t, m.config(t.TempDir()))
	furnish(t, s, m)
	if err := s.Note(t.Context(), bridge.Note{What: bridge.NoteStart}); err != nil {
		t.Fatal(err)
	}
	if got, want := spans(t, s)["lease until"], "3h59m0s;"; got != want {
		t.Errorf("the lease lasts %s, want %s", got, want)
	}
	if notes := clockNotes(t, s); len(notes) != 0 {
		t.Errorf("notes %+v, want none", notes)
	}
}

func TestClockIsWrittenDownOnceAMinute(t *testing.T) {
	t.Parallel()
	m := newMachine()
	s := openTest(t, m.config(t.TempDir()))
	mark := func() string {
		t.Helper()
		if err := s.Note(t.Context(), bridge.Note{What: bridge.NoteStart}); err != nil {
			t.Fatal(err)
		}
		value, err := s.setting(t.Context(), settingClock)
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	first := mark()
	m.pass(59 * time.Second)
	if got := mark(); got != first || got == "" {
		t.Errorf("mark %s after 59 s, want %s", got, first)
	}
	m.pass(time.Second)
	if got := mark(); got == first {
		t.Error("the mark of a minute ago stands")
	}
}

func TestSystemUptimeGoesOn(t *testing.T) {
	t.Parallel()
	up := systemUptime()
	b1, s1, err := up()
	if err != nil {
		t.Fatal(err)
	}
	b2, s2, err := up()
	if err != nil || b1 != b2 || s2 < s1 {
		t.Errorf("uptime %s %v, then %s %v, %v", b1, s1, b2, s2, err)
	}
	s := openTest(t, Config{})
	admitTest(t, s, numbered(t, 1))
	if value, err := s.setting(t.Context(), settingClock); err != nil || b1 != "" && !strings.Contains(value, b1) {
		t.Errorf("setting %q, %v, want boot %s", value, err, b1)
	}
}
