package api

import (
	"context"
	"net/http"

	"github.com/edr-bridge/edr-bridge/bridge"
)

var _ bridge.Desk = (*Client)(nil)

// Orders implements bridge.Desk.
func (c *Client) Orders(ctx context.Context, f bridge.OrderFilter) ([]bridge.Order, error) {
	list, err := ask[orderFilter, []order](ctx, c, http.MethodPost, pathOrders, encodeOrderFilter(f))
	return withEach(list, err, order.decode)
}

// Order implements bridge.Desk.
func (c *Client) Order(ctx context.Context, id string) (bridge.Order, error) {
	o, err := ask[named, order](ctx, c, http.MethodPost, pathOrder, named{ID: text(id)})
	return with(o, err, order.decode)
}

// Audit implements bridge.Desk.
func (c *Client) Audit(ctx context.Context, f bridge.AuditFilter) ([]bridge.AuditRecord, error) {
	list, err := ask[auditFilter, []record](ctx, c, http.MethodPost, pathAudit, encodeAuditFilter(f))
	return withEach(list, err, record.decode)
}

// VerifyAudit implements bridge.Desk.
func (c *Client) VerifyAudit(ctx context.Context, known *bridge.Anchor) (bridge.AuditReport, error) {
	var v verification
	if known != nil {
		a := encodeAnchor(*known)
		v.Known = &a
	}
	r, err := ask[verification, auditReport](ctx, c, http.MethodPost, pathVerify, v)
	return with(r, err, auditReport.decode)
}

// Leases implements bridge.Desk.
func (c *Client) Leases(ctx context.Context) ([]bridge.Lease, error) {
	list, err := ask[none, []lease](ctx, c, http.MethodGet, pathLeases, none{})
	return withEach(list, err, lease.decode)
}

// Hold implements bridge.Desk.
func (c *Client) Hold(ctx context.Context) (bridge.Hold, error) {
	h, err := ask[none, hold](ctx, c, http.MethodGet, pathHold, none{})
	return with(h, err, hold.decode)
}

// Letters implements bridge.Desk.
func (c *Client) Letters(ctx context.Context, p bridge.Page) ([]bridge.DeadLetter, bridge.Page, error) {
	l, err := ask[page, letterPage](ctx, c, http.MethodPost, pathLetters, page(p))
	letters, err := withEach(l.Letters, err, letter.decode)
	return letters, bridge.Page(l.Next), err
}

// Letter implements bridge.Desk.
func (c *Client) Letter(ctx context.Context, id string) (bridge.DeadLetter, error) {
	l, err := ask[named, letter](ctx, c, http.MethodPost, pathLetter, named{ID: text(id)})
	return with(l, err, letter.decode)
}

// Send implements bridge.Desk. Of an order, only id, host, process, task, mode, via, period and the reason of the actor may be
// set. The bridge goes on when ctx ends before it answers.
func (c *Client) Send(ctx context.Context, orders []bridge.Order) ([]bridge.Order, error) {
	list, err := encodeOrders(orders)
	if err != nil {
		return nil, err
	}
	done, err := ask[entry, []order](ctx, c, http.MethodPost, pathSend, entry{list})
	return withEach(done, err, order.decode)
}

// SetHold implements bridge.Desk.
func (c *Client) SetHold(ctx context.Context, h bridge.Hold) error {
	w, err := encodeHold(h)
	if err != nil {
		return err
	}
	_, err = ask[hold, none](ctx, c, http.MethodPost, pathHold, w)
	return err
}

// Decide implements bridge.Desk.
func (c *Client) Decide(ctx context.Context, d bridge.Decision) (bridge.Order, error) {
	o, err := ask[decision, order](ctx, c, http.MethodPost, pathDecide, encodeDecision(d))
	return with(o, err, order.decode)
}

// Cancel implements bridge.Desk.
func (c *Client) Cancel(ctx context.Context, id, actor, why string) (bridge.Order, error) {
	n := named{ID: text(id), Actor: text(actor), Why: text(why)}
	o, err := ask[named, order](ctx, c, http.MethodPost, pathCancel, n)
	return with(o, err, order.decode)
}

// RetryLetter implements bridge.Desk.
func (c *Client) RetryLetter(ctx context.Context, id, actor string) (bridge.DeadLetter, error) {
	l, err := ask[named, letter](ctx, c, http.MethodPost, pathRetryLetter, named{ID: text(id), Actor: text(actor)})
	return with(l, err, letter.decode)
}

// DropLetter implements bridge.Desk.
func (c *Client) DropLetter(ctx context.Context, id, actor, why string) (bridge.DeadLetter, error) {
	n := named{ID: text(id), Actor: text(actor), Why: text(why)}
	l, err := ask[named, letter](ctx, c, http.MethodPost, pathDropLetter, n)
	return with(l, err, letter.decode)
}
