package configs

import (
	"net"
	"net/netip"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	minBodyLimit = 1 << 10
	maxBodyLimit = 64 << 20
	maxConnLimit = 1 << 16
)

// http checks the listener that several sources share.
func (c *checker) http() {
	h := c.s.HTTP
	between(c, "http.max_body", h.MaxBody, minBodyLimit, maxBodyLimit)
	between(c, "http.max_conns", h.MaxConns, 1, maxConnLimit)
	between(c, "http.max_conns_peer", h.MaxConnsPeer, 1, maxConnLimit)
	if !hostPort(h.Listen) {
		c.bad("http.listen", "must be host:port, such as 127.0.0.1:8448, not %s", quoted(h.Listen))
		return
	}
	c.serverTLS("http.tls", h.TLS)
	used := map[string]string{}
	for name, s := range c.s.Sources {
		if s == nil || !s.Type.OverHTTP() {
			continue
		}
		path := join("sources", name)
		if other := used[s.Path]; other != "" {
			c.bad(join(path, "path"), "is the path of sources.%s as well", max(other, name))
		}
		used[s.Path] = name
		if loopback(h.Listen) {
			continue
		}
		switch {
		case h.TLS == nil:
			c.bad("http.listen", "beyond this machine needs http.tls: what is sent would be open to all on the way")
			return
		case s.Auth == nil && s.Type != KUMASOAR:
			c.bad(join(path, "auth"), "required beyond this machine (http.listen): anyone could send alerts")
		}
	}
}

// loopback reports whether only this machine reaches the address.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func (c *checker) serverTLS(path string, t *ServerTLS) {
	if t != nil {
		c.require(join(path, "cert"), t.Cert != "", "a PEM file with the certificate")
		c.require(join(path, "key"), t.Key != "", "a PEM file with its key")
	}
}

// ingress checks a source that products call.
func (c *checker) ingress(path string, s *Source) {
	at := join(path, "path")
	if !strings.HasPrefix(s.Path, "/") || strings.ContainsAny(s.Path, "?#{}% ") || strings.Contains(s.Path, "//") || strings.Contains(s.Path, "/.") {
		c.bad(at, "must be a path such as /alerts, not %s", quoted(s.Path))
	}
	for i, e := range s.Encodings {
		oneOf(c, index(join(path, "encodings"), i), e, "gzip", "snappy")
	}
	c.peers(path, s)
}

// peers checks who may connect, and how much.
func (c *checker) peers(path string, s *Source) {
	for i, text := range s.Peers {
		if _, err := Prefix(text); err != nil {
			c.bad(index(join(path, "peers"), i), "must be an address or a network such as 10.0.5.0/24, not %s", quoted(text))
		}
	}
	if r := s.Rate; r != nil {
		if r.Requests == 0 && r.Alerts == 0 {
			c.bad(join(path, "rate"), "needs requests, alerts or both")
		}
		for name, value := range map[string]int{"requests": r.Requests, "alerts": r.Alerts} {
			if c.s.places.has(join(path, "rate."+name)) {
				between(c, join(path, "rate."+name), value, 1, 1_000_000)
			}
		}
	}
}

// Prefix reads an address or a network.
func Prefix(text string) (netip.Prefix, error) {
	if ip, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	return netip.ParsePrefix(text)
}

func (c *checker) auth(path string, a *Auth) {
	if a == nil {
		return
	}
	path = join(path, "auth")
	ways := 0
	for _, given := range []bool{a.Bearer != "", a.Basic != nil, a.HMAC != nil, a.BodyHMAC != nil, len(a.Clients) > 0} {
		if given {
			ways++
		}
	}
	if ways != 1 && !c.reported(path) {
		c.bad(path, "must be exactly one of bearer, basic, hmac, body_hmac and clients")
	}
	if b := a.Basic; b != nil {
		c.require(join(path, "basic.user"), b.User != "", "the name of the user")
		c.require(join(path, "basic.password"), b.Password != "", "a reference such as secret:kuma/destination")
	}
	if h := a.HMAC; h != nil {
		c.require(join(path, "hmac.keys"), len(h.Keys) > 0, "references to keys by their ids: {k1: secret:hooks/k1}")
		if len(h.Keys) > 2 {
			c.bad(join(path, "hmac.keys"), "must be two at most: the old one and the new one")
		}
	}
	if b := a.BodyHMAC; b != nil {
		c.require(join(path, "body_hmac.key"), b.Key != "", "a reference such as secret:hooks/grafana")
	}
	if len(a.Clients) > 0 && (c.s.HTTP.TLS == nil || c.s.HTTP.TLS.ClientCA == "") {
		c.bad(join(path, "clients"), "needs http.tls.client_ca, the authorities of client certificates")
	}
}

// script checks the source of the nine response scripts.
func (c *checker) script(path string, s *Source) {
	oneOf(c, join(path, "mode"), s.Mode, bridge.ModeShadow, bridge.ModeApprove, bridge.ModeEnforce)
	if strings.ContainsAny(s.CallGroup, ":,/") || len(s.CallGroup) > maxGroup {
		c.bad(join(path, "call_group"), "must be the name of a Unix group, not %s", quoted(s.CallGroup))
	}
	if n := len(s.Socket); n > maxSocket {
		c.bad(join(path, "socket"), "must be %d bytes at most, not %d: no Unix socket has a longer path", maxSocket, n)
	}
}

// syslog checks a source of lines.
func (c *checker) syslog(path string, s *Source) {
	if c.require(join(path, "listen"), s.Listen != "", "host:port, such as 127.0.0.1:5514") && !hostPort(s.Listen) {
		c.bad(join(path, "listen"), "must be host:port, such as 127.0.0.1:5514, not %s", quoted(s.Listen))
		return
	}
	c.serverTLS(join(path, "server_tls"), s.ServerTLS)
	known := s.ServerTLS != nil && s.ServerTLS.ClientCA != ""
	if s.Listen != "" && !loopback(s.Listen) && !known && !s.AllowPlain {
		c.bad(join(path, "listen"), "beyond this machine needs server_tls with client_ca, or allow_plain: true to believe whoever reaches the port")
	}
	c.peers(path, s)
}
