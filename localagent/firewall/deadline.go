package firewall

import "time"

// moment is what the clocks of the machine say.
type moment struct {
	wall time.Time
	// boot names the boot of the machine, up is the time since then, sleep included, which setting the clock does not touch. An
	// empty boot means that the system does not tell.
	boot string
	up   time.Duration
}

func (w *Firewall) now() moment {
	// What is written down must not keep the reading of a clock that stands still while the machine sleeps.
	m := moment{wall: w.cfg.Now().Round(0)}
	m.boot, m.up = w.uptime()
	return m
}

// in returns the end of d from now.
func (m moment) in(d time.Duration) deadline {
	return deadline{Armed: m.wall, Until: m.wall.Add(d), Boot: m.boot, Ends: m.up + d}
}

// deadline is when an isolation is over: by the time since the boot it was set in, and after the next one by the clock of people.
type deadline struct {
	// Armed is when the end was set, Until the end.
	Armed time.Time `json:"armed"`
	Until time.Time `json:"until,omitzero"`
	// Boot names the boot, Ends is the end in the time since then.
	Boot string        `json:"boot,omitempty"`
	Ends time.Duration `json:"ends,omitempty"`
}

// left returns how long it is till then, at most what the end was set to, however the clock was turned. It is never 0, and
// negative when the time is over.
func (d deadline) left(now moment) time.Duration {
	left := d.Until.Sub(now.wall)
	if d.Boot == now.boot && d.Boot != "" {
		left = d.Ends - now.up
	}
	left = min(left, d.Until.Sub(d.Armed))
	if left == 0 {
		return -1
	}
	return left
}

func (d deadline) sane() bool {
	return !d.Armed.IsZero() && d.Until.After(d.Armed) && d.Until.Sub(d.Armed) <= maxIsolateFor
}
