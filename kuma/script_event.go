package kuma

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/kuma/callout"
)

// fetch gets the event of one call and delivers the call with it. Without success the call comes again after a pause; when it is too
// old for that, it is delivered without its event, and the mapping refuses it with a reason.
func (sp *scriptSpool) fetch(ctx context.Context, name string, e *scriptEntry, call callout.Call, doc []byte) {
	event, err := sp.s.event(ctx, call)
	if err == nil {
		call.Event = event
		var full []byte
		if full, err = call.MarshalJSON(); err == nil {
			_ = sp.deliver(ctx, name, e, full)
			return
		}
	}
	if ctx.Err() != nil {
		sp.free(e)
		return
	}
	if age := sp.s.cfg.Now().Sub(call.At); age >= sp.s.cfg.EventAge {
		sp.s.cfg.Logger.Warn("event of a call could not be fetched, the call goes on without it",
			"source_name", sp.s.cfg.Name, "alert", call.ID, "err", err)
		sp.mu.Lock()
		e.eventless = true
		sp.mu.Unlock()
		_ = sp.deliver(ctx, name, e, doc)
		return
	}
	sp.later(e, fmt.Sprintf("its event cannot be fetched: %v", err))
}

// event asks once, and takes only one JSON object of a size KUMA's events have.
func (s *Script) event(ctx context.Context, call callout.Call) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, scriptEventCall)
	defer cancel()
	event, err := s.cfg.Event(ctx, call.EventID, call.Timestamp)
	switch {
	case err != nil:
		return nil, err
	case len(event) > scriptMaxFetched:
		return nil, fmt.Errorf("the event is %d bytes long, allowed are %d", len(event), scriptMaxFetched)
	case !bytes.HasPrefix(bytes.TrimLeft(event, " \t\r\n"), []byte("{")):
		return nil, errors.New("the event is no JSON object")
	}
	if err := bridge.CheckJSON(event); err != nil {
		return nil, fmt.Errorf("the event %w", err)
	}
	return event, nil
}
