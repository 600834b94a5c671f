package store

import (
	"context"
	"database/sql/driver"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// Figures are counts for metrics.
type Figures struct {
	// States counts the orders that stand in the states with a way out; Held those in StateHeld by reason. What is not there is 0.
	States map[bridge.State]int64
	Held   map[bridge.Reason]int64
	// LiveTasks is how many tasks KSC has not finished, Leases how many leases hold, Letters how many dead letters wait.
	LiveTasks, Leases, Letters int64
}

// unfinished lists the states with a way out.
const unfinished = `('held', 'queued', 'sending', 'accepted', 'running')`

// Figures counts what is unfinished; finished orders cost nothing, see Counts for those.
func (s *Store) Figures(ctx context.Context) (Figures, error) {
	f := Figures{States: make(map[bridge.State]int64), Held: make(map[bridge.Reason]int64)}
	err := s.read(ctx, func(c *conn) error {
		err := c.each(ctx, `SELECT state, reason, executor, count(*) FROM orders INDEXED BY orders_state WHERE state IN `+unfinished+
			` GROUP BY state, reason, executor`, nil, func(row []driver.Value) (bool, error) {
			state, n := bridge.State(asText(row[0])), asInt(row[3])
			f.States[state] += n
			switch state {
			case bridge.StateHeld:
				f.Held[bridge.Reason(asText(row[1]))] += n
			case bridge.StateSending, bridge.StateAccepted, bridge.StateRunning:
				if asText(row[2]) == bridge.ExecutorKSC {
					f.LiveTasks += n
				}
			default:
			}
			return true, nil
		})
		if err != nil {
			return err
		}
		row, err := c.first(ctx, `SELECT (SELECT count(*) FROM leases WHERE open IS NOT NULL AND end IS NULL), (SELECT count(*) FROM letters)`)
		if err == nil && row != nil {
			f.Leases, f.Letters = asInt(row[0]), asInt(row[1])
		}
		return err
	})
	return f, err
}

// Counts returns how many orders stand in each state; states without orders are absent. It reads the index of the states from
// end to end: about 0.1 s for a million orders.
func (s *Store) Counts(ctx context.Context) (map[bridge.State]int64, error) {
	out := make(map[bridge.State]int64)
	err := s.read(ctx, func(c *conn) error {
		return c.each(ctx, "SELECT state, count(*) FROM orders GROUP BY state", nil, func(row []driver.Value) (bool, error) {
			out[bridge.State(asText(row[0]))] = asInt(row[1])
			return true, nil
		})
	})
	return out, err
}
