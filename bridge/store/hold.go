package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	settingHold    = "hold"
	settingResumed = "resumed"
)

// holdJSON gives bridge.Hold its names in the database.
type holdJSON struct {
	Active bool      `json:"active"`
	Reason string    `json:"reason,omitempty"`
	Actor  string    `json:"actor,omitempty"`
	Since  time.Time `json:"since"`
}

// Hold returns the latched stop; the zero value when it was never set.
func (s *Store) Hold(ctx context.Context) (bridge.Hold, error) {
	value, err := s.setting(ctx, settingHold)
	if err != nil {
		return bridge.Hold{}, err
	}
	return decodeHold(value)
}

// SetHold latches or releases the stop for every process that uses the store, with its audit record
// (NoteHold or NoteResume). A zero Since is filled in. With a resume every budget of the policy starts anew.
func (s *Store) SetHold(ctx context.Context, h bridge.Hold) error {
	h.Reason = cut(h.Reason)
	return s.do(ctx, func(t *tx) error {
		set := h
		if set.Since.IsZero() {
			set.Since = t.now
		}
		return t.setHold(set)
	})
}

func (t *tx) setHold(h bridge.Hold) error {
	before, err := t.hold()
	if err != nil {
		return err
	}
	h.Since = asTime(nanos(h.Since))
	value, err := json.Marshal(holdJSON(h))
	if err != nil {
		return refusal{fmt.Errorf("hold: %w", err)}
	}
	if _, err := t.run(upsertSetting, settingHold, string(value)); err != nil {
		return err
	}
	if before.Active && !h.Active {
		if _, err := t.run(upsertSetting, settingResumed, h.Since.Format(time.RFC3339Nano)); err != nil {
			return err
		}
		// What counted towards budgets until then counts no more, as in the ledger.
		if _, err := t.run(`DELETE FROM facts WHERE what IN ('charge', 'undo')`); err != nil {
			return err
		}
	}
	t.touched, t.held, t.w.memory.hold = true, &h, &h
	if l := t.w.memory.ledger; l != nil {
		l.SetHold(h)
	}
	what := bridge.NoteResume
	if h.Active {
		what = bridge.NoteHold
	}
	t.note(bridge.Note{What: what, Actor: h.Actor, Detail: h.Reason})
	return nil
}

// hold returns the latched stop as the transaction sees it.
func (t *tx) hold() (bridge.Hold, error) {
	if h := t.w.memory.hold; h != nil {
		return *h, nil
	}
	value, err := t.setting(settingHold)
	if err != nil {
		return bridge.Hold{}, err
	}
	h, err := decodeHold(value)
	if err == nil {
		t.w.memory.hold = &h
	}
	return h, err
}

// resumed returns when a hold was taken back last; zero when none ever was.
func (t *tx) resumed() (time.Time, error) {
	value, err := t.setting(settingResumed)
	if err != nil || value == "" {
		return time.Time{}, err
	}
	at, err := time.Parse(time.RFC3339Nano, value)
	if err != nil {
		return time.Time{}, fmt.Errorf("moment of the last resume: %w", err)
	}
	return at, nil
}

func (t *tx) setting(name string) (string, error) {
	row, err := t.first(selectSetting, name)
	if err != nil || row == nil {
		return "", err
	}
	return asText(row[0]), nil
}

func decodeHold(value string) (bridge.Hold, error) {
	if value == "" {
		return bridge.Hold{}, nil
	}
	var h holdJSON
	if err := json.Unmarshal([]byte(value), &h); err != nil {
		return bridge.Hold{}, fmt.Errorf("hold: %w", err)
	}
	return bridge.Hold(h), nil
}
