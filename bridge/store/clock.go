package store

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	// settingClock is how the clocks stood at some transaction, a clockMark.
	settingClock = "clock"
	// maxSlew is how far the wall clock may leave the time since boot between two transactions before that counts as a jump.
	maxSlew = 30 * time.Second
	// markEvery is how often the clocks are written down at most.
	markEvery = time.Minute
)

// Uptime returns the id of the boot and the time since then, with the time the machine was suspended. An empty id means that
// the time can only be compared within this process.
type Uptime func() (boot string, since time.Duration, err error)

// clockMark is how both clocks stood at one moment.
type clockMark struct {
	Boot  string        `json:"boot,omitempty"`
	Since time.Duration `json:"since"`
	Wall  time.Time     `json:"wall"`
}

// jump returns by how much the wall clock was set between two marks: positive = it was put forward. Within one boot the time since
// boot tells; over a boot only a wall clock that went back does, and then no time counts as passed.
func (m clockMark) jump(to clockMark) time.Duration {
	wall := to.Wall.Sub(m.Wall)
	if m.Boot == to.Boot {
		return wall - (to.Since - m.Since)
	}
	return min(0, wall)
}

func isJump(d time.Duration) bool { return d > maxSlew || d < -maxSlew }

// clocks is what the writer remembers of the clocks.
type clocks struct {
	last  clockMark // of the last transaction; zero = there was none
	saved time.Time // wall time of the mark in the settings
}

// checkClock finds out whether somebody set the clock of the machine since the last transaction of any process, and if so
// moves the stored times of the policy with it, so that budgets, windows, leases and deadlines last as long as they
// were to last. Nothing is done where the time since boot is not known.
func (t *tx) checkClock() error {
	uptime, c := t.w.store.cfg.Uptime, &t.w.clock
	if uptime == nil {
		return nil
	}
	now := clockMark{Wall: t.now}
	var err error
	if now.Boot, now.Since, err = uptime(); err != nil {
		return fmt.Errorf("time since boot: %w", err)
	}
	t.mark = now
	if !c.last.Wall.IsZero() && !isJump(c.last.jump(now)) {
		if now.Wall.Sub(c.saved).Abs() < markEvery {
			return nil
		}
		return t.saveMark(now)
	}
	// The first transaction, or a jump: another process may have seen it already.
	last, err := t.loadMark(now)
	switch {
	case err != nil:
		return err
	case last.Wall.IsZero():
		return t.saveMark(now)
	case isJump(last.jump(now)):
		if err := t.shift(last.jump(now)); err != nil {
			return err
		}
	case last.Boot == now.Boot && now.Wall.Sub(last.Wall).Abs() < markEvery:
		c.saved = last.Wall
		return nil
	}
	return t.saveMark(now)
}

// loadMark returns the last mark anybody wrote; zero = nobody did.
func (t *tx) loadMark(now clockMark) (clockMark, error) {
	last := t.w.clock.last
	if now.Boot == "" {
		return last, nil
	}
	value, err := t.setting(settingClock)
	if err != nil || value == "" {
		return last, err
	}
	if err := json.Unmarshal([]byte(value), &last); err != nil {
		return last, fmt.Errorf("setting %s: %w", settingClock, err)
	}
	return last, nil
}

func (t *tx) saveMark(m clockMark) error {
	t.marked = true
	if m.Boot == "" {
		return nil
	}
	value, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("setting %s: %w", settingClock, err)
	}
	_, err = t.run(upsertSetting, settingClock, string(value))
	return err
}

// remember keeps the mark of a transaction that was committed.
func (c *clocks) remember(t *tx) {
	c.last = t.mark
	if t.marked {
		c.saved = t.mark.Wall
	}
}

const (
	// A time plus a span, within what an integer holds: ?1 is the latest, ?2 the earliest that can be moved by ?3. NULL stays NULL.
	shiftFacts  = `UPDATE facts SET at = max(min(at, ?1), ?2) + ?3, until = max(min(until, ?1), ?2) + ?3`
	shiftLeases = `UPDATE leases SET since = max(min(since, ?1), ?2) + ?3, until = max(min(until, ?1), ?2) + ?3,
	isolated = max(min(isolated, ?1), ?2) + ?3, retry = max(min(retry, ?1), ?2) + ?3 WHERE open IS NOT NULL`
	// The moment of the last change decides when another process may take an order over.
	shiftOrders = `UPDATE orders SET not_after = max(min(not_after, ?1), ?2) + ?3, due = max(min(due, ?1), ?2) + ?3,
	updated = max(min(updated, ?1), ?2) + ?3 WHERE state IN ('held', 'queued', 'sending', 'accepted', 'running')`
	shiftWindows = `UPDATE orders SET dedupe_until = max(min(dedupe_until, ?1), ?2) + ?3 WHERE dedupe_until > ?4`
)

// shift moves every stored time a policy goes by.
func (t *tx) shift(by time.Duration) error {
	latest, earliest := int64(math.MaxInt64), int64(math.MinInt64)
	if by > 0 {
		latest -= int64(by)
	} else {
		earliest -= int64(by)
	}
	for _, sql := range []string{shiftFacts, shiftLeases, shiftOrders} {
		if _, err := t.run(sql, latest, earliest, int64(by)); err != nil {
			return err
		}
	}
	// Windows that were over before the jump stay over.
	if _, err := t.run(shiftWindows, latest, earliest, int64(by), nanos(t.now.Add(-by))); err != nil {
		return err
	}
	resumed, err := t.resumed()
	if err != nil {
		return err
	}
	if !resumed.IsZero() {
		if _, err := t.run(upsertSetting, settingResumed, resumed.Add(by).UTC().Format(time.RFC3339Nano)); err != nil {
			return err
		}
	}
	t.w.forget()
	t.touched = true
	way := "forward"
	if by < 0 {
		way = "back"
	}
	t.note(bridge.Note{
		What: bridge.NoteClock, Count: int64(by.Abs() / time.Second),
		Detail: fmt.Sprintf("the clock of the machine was put %s by %s: budgets, windows, leases and deadlines were moved with it", way, by.Abs().Round(time.Second)),
	})
	if f := t.w.store.cfg.OnClock; f != nil {
		f(by)
	}
	t.w.store.log.Warn("the clock of the machine jumped: budgets, windows, leases and deadlines were moved with it", "by", by.String())
	return nil
}
