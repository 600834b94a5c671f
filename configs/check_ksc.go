package configs

import (
	"encoding/hex"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const maxLiveTasks = 100_000

const maxProfiles = 32

func (c *checker) servers() {
	if c.s.KSC != nil && len(c.s.Profiles) > 0 {
		c.bad("ksc", "one KSC cannot be set in the environment beside named profiles")
	}
	if len(c.s.Profiles) > maxProfiles {
		c.bad("ksc", "must be %d profiles at most", maxProfiles)
	}
	if c.s.KSC != nil {
		c.ksc("ksc", c.s.KSC)
	}
	for _, name := range slices.Sorted(maps.Keys(c.s.Profiles)) {
		path := join("ksc", name)
		if !isProfile(name) {
			c.badKey(path, "the name of a profile must be lower-case letters, digits and dashes, 32 at most")
		}
		if k := c.s.Profiles[name]; k != nil && (k.Address != "" || !c.reported(path)) {
			c.ksc(path, k)
		}
	}
	c.tenants()
}

// tenants checks which KSC the alerts of a tenant go to.
func (c *checker) tenants() {
	if len(c.s.Tenants) > 0 && len(c.s.Profiles) == 0 {
		c.bad("tenants", "needs several KSC servers: ksc: {main: {...}, branch: {...}}")
		return
	}
	for _, tenant := range slices.Sorted(maps.Keys(c.s.Tenants)) {
		c.profile(join("tenants", tenant), c.s.Tenants[tenant])
	}
}

// profile checks the name of a KSC profile.
func (c *checker) profile(path, name string) {
	if c.s.Profiles[name] == nil && name != "" {
		c.bad(path, "there is no KSC profile %s%s", quoted(name), bridge.DidYouMean(name, slices.Sorted(maps.Keys(c.s.Profiles))))
	}
}

func isProfile(name string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	return name != "" && len(name) <= 32 && strings.Trim(name, letters+"-") == "" && name[0] != '-'
}

// ksc checks the settings of one KSC.
func (c *checker) ksc(path string, k *KSC) {
	at := func(name string) string { return join(path, name) }
	if c.require(at("address"), k.Address != "", "host:port of the Administration Server") {
		if address, ok := withPort(k.Address, defaultKSCPort); ok {
			k.Address = address
		} else {
			c.secret(at("address"), "must be host or host:port")
		}
	}
	c.require(at("user"), k.User != "", "an account of its own at KSC")
	trust := k.CA != "" || len(k.Fingerprints) > 0 || k.SystemRoots
	switch {
	case k.Insecure && trust:
		c.bad(at("insecure"), "must not stand beside ca, fingerprints or system_roots: remove one or the other")
	case !k.Insecure && !trust:
		c.bad(path, "say how the certificate is checked: ca: klserver.cer, fingerprints: [...] or system_roots: true")
	}
	for i, f := range k.Fingerprints {
		raw, err := hex.DecodeString(strings.ReplaceAll(f, ":", ""))
		if err != nil || len(raw) != 32 && len(raw) != 20 {
			c.bad(index(at("fingerprints"), i), "must be a SHA-256 (64 hex digits) or SHA-1 (40), colons allowed")
			continue
		}
		k.Fingerprints[i] = hex.EncodeToString(raw)
	}
	oneOf(c, at("domain_encoding"), k.DomainEncoding, "plain", "base64")
	between(c, at("in_flight"), k.InFlight, 1, 1024)
	between(c, at("timeout"), k.Timeout, time.Second, 10*time.Minute)
	between(c, at("settle_time"), k.SettleTime, time.Second, time.Hour)
	if k.SettleTime < k.Timeout {
		c.bad(at("settle_time"), "must not be shorter than ksc.timeout (%s): a request may still be under way", show(k.Timeout))
	}
	between(c, at("tasks.hold"), k.Tasks.Hold, 1, maxLiveTasks)
	between(c, at("tasks.keep"), k.Tasks.Keep, 0, maxLiveTasks)
	oneOf(c, at("tasks.per"), k.Tasks.Per, PerServer, PerHost)
	between(c, at("tasks.follow_every"), k.Tasks.FollowEvery, time.Second, time.Hour)
	between(c, at("tasks.follow_for"), k.Tasks.FollowFor, time.Minute, maxWindow)
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
