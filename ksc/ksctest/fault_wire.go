package ksctest

import (
	"net"
	"net/http"
)

// spoil lets a fault have its way with an answer. It is true when the connection was taken over
// and nothing is left to write.
func (s *Server) spoil(w http.ResponseWriter, c *call, f *Fault, a *answer) bool {
	s.log.Debug("mock ksc fails on purpose", "method", c.route.name, "fault", int(f.Kind), "stored", f.Stored)
	switch f.Kind {
	case FaultSlow:
	case FaultReset:
		return s.hangUp(w, c, nil, true)
	case FaultClose:
		return s.hangUp(w, c, nil, false)
	case FaultCut:
		raw := a.raw()
		return s.hangUp(w, c, raw[:min(f.At, len(raw))], false)
	case FaultHangUp:
		return s.hangUp(w, c, a.raw(), false)
	case FaultWrongTypes:
		if a.status == http.StatusOK {
			a.body = wrongTypes(a.body)
		}
	case FaultGzip:
		s.compress(a)
	case FaultUnauthorized, FaultExpire, FaultUnavailable, FaultServerError, FaultHTML, FaultEmpty,
		FaultRedirect, FaultApplication:
		*a = s.reply(c, f)
	}
	return false
}

// hangUp takes the connection from the http package, sends what there is and ends it.
func (s *Server) hangUp(w http.ResponseWriter, c *call, send []byte, reset bool) bool {
	taken, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return false
	}
	if len(send) > 0 {
		_, _ = taken.Write(send) // a client that left is its own affair
	}
	if c.conn == nil {
		_ = taken.Close()
		return true
	}
	if tcp, ok := c.conn.tcp.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0)
	}
	// Below TLS: a server that breaks down says no goodbye in TLS either.
	_ = c.conn.tcp.Close()
	c.conn.release()
	return true
}

// wrongTypes replaces each value of a JSON object by one of another type.
func wrongTypes(body []byte) []byte {
	members, ok := parseArgs(nil, body)
	if !ok || len(members) == 0 {
		return []byte("[]")
	}
	out := []byte{'{'}
	for i, m := range members {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendString(out, string(m.name))
		out = append(out, ':')
		switch m.value[0] {
		case '"':
			out = append(out, "42"...)
		case '{':
			out = append(out, "[]"...)
		case '[':
			out = append(out, "{}"...)
		default: // a number, a bool or null
			out = appendString(out, string(m.value))
		}
	}
	return append(out, '}')
}
