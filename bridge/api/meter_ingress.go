package api

var _ IngressMeter = (*Meter)(nil)

// Accepted implements IngressMeter.
func (m *Meter) Accepted(source string, documents int) {
	pick(m.requests, source).Inc()
	pick(m.documents, source).Add(float64(documents))
}

// Refused implements IngressMeter.
func (m *Meter) Refused(_ string, reason IngressReason) { pick(m.refusals, string(reason)).Inc() }
