package api

// IngressMeter counts what an Ingress does. Its methods are called by many goroutines at once and must not block.
type IngressMeter interface {
	// Accepted counts a request that was answered as done, and its documents (0 for a handler's).
	Accepted(source string, documents int)
	// Refused counts a request that was not. source is empty when it was for none.
	Refused(source string, reason IngressReason)
}

type noIngressMeter struct{}

func (noIngressMeter) Accepted(string, int)          {}
func (noIngressMeter) Refused(string, IngressReason) {}

// IngressReason is the closed word for why a request was refused.
type IngressReason string

// The reasons.
const (
	RefusedBrowser    IngressReason = "browser"     // 403: a page in a browser sent it
	RefusedHost       IngressReason = "host"        // 403: meant for another host
	RefusedPeer       IngressReason = "peer"        // 403: not from this address
	RefusedPath       IngressReason = "path"        // 404: no source has it
	RefusedMethod     IngressReason = "method"      // 405: not POST
	RefusedAuth       IngressReason = "auth"        // 401: not authenticated
	RefusedSkew       IngressReason = "skew"        // 401: signed, but the clocks differ
	RefusedReplay     IngressReason = "replay"      // 401: signed, but the nonce was used; 503: nobody knows any more
	RefusedSecret     IngressReason = "secret"      // 503: the secret cannot be read
	RefusedEncoding   IngressReason = "encoding"    // 415: content encoding or charset, 400: does not decode
	RefusedSize       IngressReason = "size"        // 413: body or number of documents
	RefusedTruncated  IngressReason = "truncated"   // 400: the body ended early or is not framed as HTTP wants
	RefusedSlow       IngressReason = "slow"        // 408: the body did not come in time
	RefusedBody       IngressReason = "body"        // 400: empty, byte order mark, UTF-16, too deep
	RefusedRate       IngressReason = "rate"        // 429: over the source's rate, or a large body of a peer that keeps failing
	RefusedMemory     IngressReason = "memory"      // 503: too many large bodies at once
	RefusedClosing    IngressReason = "closing"     // 503: the bridge shuts down
	RefusedWaiting    IngressReason = "waiting"     // 503: the bridge did not settle in time
	RefusedStore      IngressReason = "store"       // 503: settled with an error, nothing is lost
	RefusedDeadLetter IngressReason = "dead_letter" // 422: kept as a dead letter
	RefusedHandler    IngressReason = "handler"     // the handler answered with an error
	RefusedConn       IngressReason = "connection"  // closed or refused for want of room (http.limits.conns)
)

// IngressReasons lists every reason, for metrics with closed labels.
func IngressReasons() []IngressReason {
	return []IngressReason{
		RefusedBrowser, RefusedHost, RefusedPeer, RefusedPath, RefusedMethod, RefusedAuth, RefusedSkew, RefusedReplay, RefusedSecret,
		RefusedEncoding, RefusedSize, RefusedTruncated, RefusedSlow, RefusedBody, RefusedRate, RefusedMemory, RefusedClosing,
		RefusedWaiting, RefusedStore, RefusedDeadLetter, RefusedHandler, RefusedConn,
	}
}
