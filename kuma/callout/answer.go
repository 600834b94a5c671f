package callout

// RequestPath is what a call is posted to on the socket (HTTP/1.1, one request a connection).
const RequestPath = "/v1/calls"

// The words of Answer.State beside the states of orders.
const (
	// CallSpooled: kept in the spool directory, not seen by a bridge yet.
	CallSpooled = "spooled"
	// CallStored: stored by the bridge, which cannot tell how its orders stand.
	CallStored = "stored"
	// CallNone: stored by the bridge, and no order came of it.
	CallNone = "none"
)

// Answer is the one line the socket answers.
type Answer struct {
	ID string `json:"id"`
	// State is the state of the order (bridge.State), or one of the words above; empty when the call was not taken.
	State string `json:"state,omitempty"`
	// Order names the order, Covers the order a duplicate is covered by.
	Order  string `json:"order,omitempty"`
	Covers string `json:"covers,omitempty"`
	// Reason is the closed word (bridge.Reason) for why it stands so, Detail says it in words.
	Reason string `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
	// Problem says why the call was not taken.
	Problem string `json:"problem,omitempty"`
}

// Line returns the answer as JSON in one line with its end: without the end the caller takes it for cut off.
func (a Answer) Line() []byte {
	line, err := callEncode(a)
	if err != nil {
		return []byte("{}\n") // cannot happen: all of it is text
	}
	return append(line, '\n')
}
