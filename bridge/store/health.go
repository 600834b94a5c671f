package store

import (
	"context"
)

const settingProbe = "probe"

// Healthy returns nil while changes can be written, else why not. After a failure it writes something itself to find out
// whether that is still so: a bridge that acts on nothing would never notice that its disk has room again.
func (s *Store) Healthy(ctx context.Context) error {
	if s.health.Load() == nil {
		return nil
	}
	return s.do(ctx, func(t *tx) error {
		_, err := t.run(upsertSetting, settingProbe, t.now.String())
		return err
	})
}
