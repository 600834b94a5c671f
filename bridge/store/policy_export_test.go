package store

import (
	"context"
	"errors"
)

// Renew empties the store and gives it another policy: as if it were opened on an empty folder, without the cost of that.
func Renew(s *Store, cfg Config) error {
	cfg.Policy.Deadlines = cfg.Policy.Filled()
	return s.do(context.Background(), func(t *tx) error {
		var errs []error
		for _, table := range []string{"alerts", "orders", "hosts", "audit", "leases", "facts", "letters", "settings"} {
			_, err := t.run("DELETE FROM " + table)
			errs = append(errs, err)
		}
		w := t.w
		w.forget()
		w.places, w.slots, w.lastOrder, w.hostsDue = nil, nil, 0, 0
		t.lastAlert, t.lastOrder, t.lastAudit, t.head = 0, 0, 0, [32]byte{}
		s.cfg.Policy, s.cfg.NotAfter, s.cfg.OnHold = cfg.Policy, cfg.NotAfter, cfg.OnHold
		return errors.Join(errs...)
	})
}
