package vault

import (
	"context"
	"os"
	"path/filepath"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// room keeps bytes of the quota free for a copy until release.
func (v *Vault) room(ctx context.Context, size int64) (release func(), err error) {
	used, err := v.Used(ctx)
	if err != nil {
		return nil, verdict.Untouched("quarantine: %w", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if used+v.reserved+size > v.cfg.Quota {
		if !v.cfg.QuotaWarns {
			return nil, verdict.Refuse(bridge.ReasonLimit, "the quarantine holds %d bytes, %d more are beyond its quota of %d (quota): "+
				"drop old items", used+v.reserved, size, v.cfg.Quota)
		}
		v.log.Warn("quarantine is beyond its quota", "used", used+v.reserved, "quota", v.cfg.Quota)
	}
	v.reserved += size
	return func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.reserved -= size
	}, nil
}

// Used returns how many bytes all copies together have.
func (v *Vault) Used(ctx context.Context) (int64, error) {
	if _, err := v.ready(ctx); err != nil {
		return 0, err
	}
	ids, err := v.ids()
	if err != nil {
		return 0, err
	}
	var used int64
	for _, id := range ids {
		if cause := context.Cause(ctx); cause != nil {
			return 0, cause
		}
		// An item that is dropped meanwhile has no bytes.
		if fi, err := os.Lstat(filepath.Join(v.itemDir(id), blobName)); err == nil {
			used += fi.Size()
		}
	}
	return used, nil
}
