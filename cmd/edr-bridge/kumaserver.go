package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/store"
	"github.com/edr-bridge/edr-bridge/configs"
	"github.com/edr-bridge/edr-bridge/kuma"
)

// openKUMA makes the client of the core; nil when none is configured. Nothing is dialled.
func (w *wiring) openKUMA() (*kuma.Client, error) {
	k := w.set.KUMA
	if k == nil || w.core != nil {
		return w.core, nil
	}
	token, err := w.secret(k.Token)
	if err != nil {
		return nil, err
	}
	var ca []byte
	if k.CA != "" {
		if ca, err = os.ReadFile(k.CA); err != nil {
			return nil, fail(exitConfig, "config.kuma.ca", fmt.Errorf("kuma.ca: %w", err), "copy the certificate of the KUMA core")
		}
	}
	core, err := kuma.New(kuma.Config{
		Address: k.Address, CA: ca, Fingerprints: k.Fingerprints, SystemRoots: k.SystemRoots, Token: token, Version: k.Version,
		Timeout: k.Timeout, Logger: w.log,
	})
	if err != nil {
		return nil, fail(exitConfig, "config.kuma", fmt.Errorf("kuma: %w", err), "edr-bridge config check")
	}
	w.core = core
	w.onClose(core.Close)
	return core, nil
}

// needKUMA is openKUMA for what cannot do without.
func (w *wiring) needKUMA() (*kuma.Client, error) {
	core, err := w.openKUMA()
	if err == nil && core == nil {
		err = errors.New("needs the REST API of KUMA: set kuma.address")
	}
	return core, err
}

func (w *wiring) openPoll(ctx context.Context, name string, s *configs.Source) (reader, error) {
	core, err := w.needKUMA()
	if err != nil {
		return nil, err
	}
	return kuma.NewPoll(kuma.PollConfig{
		Name: name, Preset: s.Preset, Client: core, Every: s.Every, OnNote: w.noter(ctx), Logger: w.log,
		Load: func(ctx context.Context) (string, error) { return w.store.SourcePosition(ctx, name) },
		Save: func(ctx context.Context, text string) error { return w.store.SetSourcePosition(ctx, name, text) },
	})
}

func (w *wiring) openSOAR(name string, s *configs.Source) (*kuma.SOAR, error) {
	core, err := w.needKUMA()
	if err != nil {
		return nil, err
	}
	token, err := w.secret(s.Token)
	if err != nil {
		return nil, err
	}
	return kuma.NewSOAR(kuma.SOARConfig{Name: name, Preset: s.Preset, Client: core, Token: token, AlertTag: s.Tags.ID, Logger: w.log})
}

func (w *wiring) openScript(ctx context.Context, name string, s *configs.Source) (reader, error) {
	core, err := w.openKUMA()
	if err != nil {
		return nil, err
	}
	cfg := kuma.ScriptConfig{
		Name: name, Preset: s.Preset, Socket: s.Socket, Group: s.CallGroup, Spool: s.Spool, OnNote: w.noter(ctx), Logger: w.log,
		Orders: w.ordersOfCall,
	}
	if core != nil {
		cfg.Event = func(ctx context.Context, id string, timestampMS int64) (json.RawMessage, error) {
			var at time.Time
			if timestampMS > 0 {
				at = time.UnixMilli(timestampMS)
			}
			return core.FindEvent(ctx, id, at)
		}
	}
	return kuma.NewScript(cfg)
}

// makeSpools makes the directories for calls while no bridge runs: without one such a call would be lost.
func (w *wiring) makeSpools() error {
	for name, s := range w.set.Sources {
		if s.Type != configs.KUMAScript {
			continue
		}
		err := kuma.MakeSpool(s.Spool, s.CallGroup)
		if errors.Is(err, errors.ErrUnsupported) {
			w.log.Warn("no spool directory on this system: calls while the bridge does not run are lost", "source_name", name, "err", err)
			continue
		}
		if err != nil {
			return fail(exitConfig, "config.sources", fmt.Errorf("sources.%s.spool: %w", name, err),
				"make the directory yourself, or run the bridge with an account of the group in call_group")
		}
	}
	return nil
}

// ordersOfCall returns the order a call became a moment ago; the newest come first, so it is found at once.
func (w *wiring) ordersOfCall(ctx context.Context, source, alertID string) ([]bridge.Order, error) {
	return w.store.Orders(ctx, bridge.OrderFilter{Source: source, AlertID: alertID, Limit: 1})
}

// openFeedback makes what writes outcomes back to KUMA; nil when nothing is asked for.
func (w *wiring) openFeedback(st *store.Store) (*kuma.Feedback, error) {
	if w.set.KUMA == nil {
		return nil, nil
	}
	plan := kuma.FeedbackPlan{Close: kuma.CloseReason(w.set.KUMA.Feedback.Close), CloseAfter: w.set.KUMA.Feedback.CloseAfter}
	for _, l := range w.set.KUMA.Feedback.ActiveLists {
		plan.Lists = append(plan.Lists, kuma.FeedbackList{Tenant: l.Tenant, Correlator: l.Correlator, List: l.List})
	}
	if plan.Close == "" && len(plan.Lists) == 0 {
		return nil, nil
	}
	core, err := w.openKUMA()
	if err != nil {
		return nil, err
	}
	const position = "feedback" // no source is named so: a name has no dots, and sources stand below position/
	feedback, err := kuma.NewFeedback(kuma.FeedbackConfig{
		Plan: plan, Client: core, Order: st.Order, Leases: st.Leases, Logger: w.log,
		Records: func(ctx context.Context, after int64, limit int) ([]bridge.AuditRecord, error) {
			return st.Audit(ctx, bridge.AuditFilter{After: after, Limit: limit})
		},
		Alert: func(ctx context.Context, order string) (caseID, tenant string, ok bool, err error) {
			a, err := st.AlertOf(ctx, order)
			if errors.Is(err, bridge.ErrNotFound) {
				return "", "", false, nil
			}
			return a.Case, a.Tenant, err == nil && a.Case != "", err
		},
		Load: func(ctx context.Context) (string, error) { return st.SourcePosition(ctx, "kuma."+position) },
		Save: func(ctx context.Context, text string) error { return st.SetSourcePosition(ctx, "kuma."+position, text) },
	})
	if err != nil {
		return nil, fail(exitConfig, "config.kuma", fmt.Errorf("kuma.feedback: %w", err), "edr-bridge config check")
	}
	return feedback, nil
}
