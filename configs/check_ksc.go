package configs

import (
	"encoding/hex"
	"net"
	"strconv"
	"strings"
	"time"
)

const maxLiveTasks = 100_000

func (c *checker) ksc() {
	k := c.s.KSC
	if k == nil {
		return
	}
	if c.require("ksc.address", k.Address != "", "host:port of the Administration Server") {
		if address, ok := withPort(k.Address, defaultKSCPort); ok {
			k.Address = address
		} else {
			c.secret("ksc.address", "must be host or host:port")
		}
	}
	c.require("ksc.user", k.User != "", "an account of its own at KSC")
	trust := k.CA != "" || len(k.Fingerprints) > 0 || k.SystemRoots
	switch {
	case k.Insecure && trust:
		c.bad("ksc.insecure", "must not stand beside ca, fingerprints or system_roots: remove one or the other")
	case !k.Insecure && !trust:
		c.bad("ksc", "say how the certificate is checked: ca: klserver.cer, fingerprints: [...] or system_roots: true")
	}
	for i, f := range k.Fingerprints {
		raw, err := hex.DecodeString(strings.ReplaceAll(f, ":", ""))
		if err != nil || len(raw) != 32 && len(raw) != 20 {
			c.bad(index("ksc.fingerprints", i), "must be a SHA-256 (64 hex digits) or SHA-1 (40), colons allowed")
			continue
		}
		k.Fingerprints[i] = hex.EncodeToString(raw)
	}
	oneOf(c, "ksc.domain_encoding", k.DomainEncoding, "plain", "base64")
	between(c, "ksc.in_flight", k.InFlight, 1, 1024)
	between(c, "ksc.timeout", k.Timeout, time.Second, 10*time.Minute)
	between(c, "ksc.settle_time", k.SettleTime, time.Second, time.Hour)
	if k.SettleTime < k.Timeout {
		c.bad("ksc.settle_time", "must not be shorter than ksc.timeout (%s): a request may still be under way", show(k.Timeout))
	}
	between(c, "ksc.tasks.hold", k.Tasks.Hold, 1, maxLiveTasks)
	between(c, "ksc.tasks.keep", k.Tasks.Keep, 0, maxLiveTasks)
	oneOf(c, "ksc.tasks.per", k.Tasks.Per, PerServer, PerHost)
	between(c, "ksc.tasks.follow_every", k.Tasks.FollowEvery, time.Second, time.Hour)
	between(c, "ksc.tasks.follow_for", k.Tasks.FollowFor, time.Minute, maxWindow)
}

// secret adds a problem about a value that may hold a password and is not shown.
func (c *checker) secret(path, format string, args ...any) {
	if at, ok := c.s.places.at[path]; ok && at.env == "" {
		c.hidden = append(c.hidden, span{at.line, at.column, at.line})
	}
	c.bad(path, format, args...)
}

// withPort reads host, host:port, an IPv6 address with or without brackets, and returns host:port.
func withPort(address, port string) (string, bool) {
	if strings.ContainsAny(address, "/@?# ") {
		return "", false
	}
	host, p, err := net.SplitHostPort(address)
	if err != nil {
		host, p = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]"), port
		if strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return "", false
		}
	}
	if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 || host == "" {
		return "", false
	}
	return net.JoinHostPort(host, p), true
}
