package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/store"
	"github.com/edr-bridge/edr-bridge/ksc"
	"github.com/edr-bridge/edr-bridge/localagent"
)

// preview is what --dry-run shows of one order.
type preview struct {
	Order    string        `json:"order"`
	Verdict  bridge.State  `json:"verdict"`
	Reason   bridge.Reason `json:"reason,omitempty"`
	Detail   string        `json:"detail,omitempty"`
	Executor string        `json:"executor,omitempty"`
	Host     string        `json:"host"`
	Post     string        `json:"post,omitempty"`
	Body     string        `json:"body,omitempty"`
}

func (a *app) previewOrders(ctx context.Context, w *wiring, orders []bridge.Order) error {
	var out []preview
	var codes []int
	for _, o := range orders {
		p, err := w.preview(ctx, o)
		if err != nil {
			return err
		}
		code := exitDone
		if p.Verdict != bridge.StateQueued {
			code = exitOfOrder(bridge.Order{State: p.Verdict, Reason: p.Reason})
		}
		codes = append(codes, code)
		out = append(out, p)
	}
	if a.output == "table" {
		for _, p := range out {
			if p.Post != "" {
				a.say("%s", p.Post)
			}
			if err := writePreview(a.std.out, p); err != nil {
				return err
			}
		}
	} else if err := printResult(a, out, nil, func(preview) []string { return nil }); err != nil {
		return err
	}
	if code := joinCodes(codes); code != exitDone {
		return &problem{exit: code, code: "order.refused", err: errors.New("refused"), quiet: true}
	}
	return nil
}

func writePreview(w io.Writer, p preview) error {
	if p.Post != "" {
		_, err := fmt.Fprintln(w, p.Body)
		return err
	}
	_, err := fmt.Fprintf(w, "%s: %s\n", p.Verdict, printable(p.Detail))
	return err
}

// kscAddress is where the KSC of an order is.
func (w *wiring) kscAddress(o bridge.Order) string {
	_, want := bridge.SplitHost(o.Host)
	for profile, k := range w.set.Servers() {
		if profile == want {
			return k.Address
		}
	}
	return ""
}

// peekHold reads the hold for a dry run, which makes no store where there is none.
func (w *wiring) peekHold(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(w.set.Local.State, store.FileName)); err != nil {
		return nil //nolint:nilerr // no store, no hold
	}
	_, err := w.openStore(ctx, store.OwnerSend)
	return err
}

// preview goes the way of an order up to the effect: guards, route, host, intent.
func (w *wiring) preview(ctx context.Context, o bridge.Order) (preview, error) {
	guard, err := w.openGuard()
	if err != nil {
		return preview{}, err
	}
	o.Created = time.Now().UTC()
	o.NotAfter = guard.Deadline(o)
	p := preview{Order: o.ID, Host: o.Host, Verdict: bridge.StateQueued}
	refuse := func(v bridge.Verdict) (preview, error) {
		p.Verdict, p.Reason, p.Detail = v.State, v.Reason, v.Detail
		return p, nil
	}
	if err := w.peekHold(ctx); err != nil {
		return preview{}, err
	}
	router, server, err := w.router()
	if err != nil {
		return p, err
	}
	name, v := router.Choose(o)
	o.Executor = name
	if v := guard.Admit(o); v.State != bridge.StateQueued {
		return refuse(v)
	}
	if v.State == bridge.StateRefused {
		return refuse(v)
	}
	p.Executor = name
	if o, v = router.Identify(ctx, o); v.State == bridge.StateRefused {
		return refuse(v)
	}
	if name == bridge.ExecutorLocal {
		if !localagent.Supports(o.Task.Kind()) {
			return refuse(bridge.Verdict{State: bridge.StateRefused, Reason: bridge.ReasonUnsupported, Detail: "the local agent does not carry out " + string(o.Task.Kind()) + " here"})
		}
		p.Detail = fmt.Sprintf("the local agent would run %s on this machine", o.Task.Kind())
		return p, nil
	}
	in, _, err := server.Intend(ctx, o, true)
	if ee, ok := errors.AsType[*bridge.ExecError](err); ok && ee.Class == bridge.Permanent {
		return refuse(bridge.Verdict{State: bridge.StateRefused, Reason: ee.Reason, Detail: err.Error()})
	}
	if err != nil {
		return p, err
	}
	o.Intent = in
	if v := guard.Begin(o); v.State == bridge.StateRefused {
		return refuse(v)
	}
	p.Post = "POST https://" + w.kscAddress(o) + "/api/v1.0/HostGroup.AddIncident"
	p.Body = string(ksc.Preview(in))
	return p, nil
}
