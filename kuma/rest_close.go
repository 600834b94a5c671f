package kuma

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// CloseReason is why an alert is closed.
type CloseReason string

// The reasons KUMA knows.
const (
	CloseResponded     CloseReason = "responded"
	CloseIncorrectData CloseReason = "incorrect data"
	CloseIncorrectRule CloseReason = "incorrect correlation rule"
)

// CloseReasons lists the reasons KUMA knows.
func CloseReasons() []CloseReason {
	return []CloseReason{CloseResponded, CloseIncorrectData, CloseIncorrectRule}
}

// ParseCloseReason returns the reason spelled so in any case: the pages of the help disagree about capitals.
func ParseCloseReason(s string) (CloseReason, error) {
	for _, r := range CloseReasons() {
		if strings.EqualFold(s, string(r)) {
			return r, nil
		}
	}
	return "", fmt.Errorf("unknown reason %.60q: want responded, incorrect data or incorrect correlation rule", s)
}

// CloseAlert closes an alert; its correlator must be running. closedBefore says that it was closed already, which is as good, and is
// also the answer when a request whose answer was lost is repeated.
//
// KUMA: POST alerts/close, support.kaspersky.com/help/KUMA/3.0.3/en-US/269917.htm.
func (c *Client) CloseAlert(ctx context.Context, id string, reason CloseReason) (closedBefore bool, err error) {
	if !restUUID(id) {
		return false, restArgument("close alert: id %.60q is not a UUID", id)
	}
	if reason, err = ParseCloseReason(string(reason)); err != nil {
		return false, restArgument("close alert: %v", err)
	}
	body, err := json.Marshal(struct {
		ID     string      `json:"id"`
		Reason CloseReason `json:"reason"`
	}{id, reason})
	if err != nil {
		return false, err
	}
	_, err = c.call(ctx, restRequest{method: http.MethodPost, path: restClose, contentType: "application/json", body: body})
	if errors.Is(err, ErrClosedAlready) {
		return true, nil
	}
	return false, err
}
