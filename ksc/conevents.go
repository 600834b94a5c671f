package ksc

import "context"

var methodIsAnyServiceConsoleAvailable = method{"ConEvents.IsAnyServiceConsoleAvailable", true}

type boolOut struct {
	result
	Value *bool `json:"PxgRetVal"`
}

func (o *boolOut) missing() string {
	if o.Value == nil {
		return "PxgRetVal is no boolean"
	}
	return ""
}

// IsAnyServiceConsoleAvailable reports whether Web Console holds its background connection to the server. Without it
// incidents are accepted and no response task is ever made from them. Which right the call needs is not
// documented, so an error is no reason to refuse orders.
//
// KSC: https://support.kaspersky.com/help/KSC/16/KSCAPI/a00528.html
func (c *Client) IsAnyServiceConsoleAvailable(ctx context.Context) (bool, error) {
	var out boolOut
	if err := c.call(ctx, methodIsAnyServiceConsoleAvailable, struct{}{}, &out); err != nil {
		return false, err
	}
	return *out.Value, nil
}
