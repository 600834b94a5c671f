package configs

import (
	"encoding/hex"
	"strings"
	"time"
)

const defaultKUMAPort = "7223"

func (c *checker) kuma() {
	k := c.s.KUMA
	if k == nil {
		return
	}
	if c.require("kuma.address", k.Address != "", "host:port of the REST API of the core") {
		if address, ok := withPort(k.Address, defaultKUMAPort); ok {
			k.Address = address
		} else {
			c.secret("kuma.address", "must be host or host:port")
		}
	}
	if k.CA == "" && len(k.Fingerprints) == 0 && !k.SystemRoots {
		c.bad("kuma", "say how the certificate is checked: ca: kuma-ca.pem, fingerprints: [...] or system_roots: true")
	}
	for i, f := range k.Fingerprints {
		raw, err := hex.DecodeString(strings.ReplaceAll(f, ":", ""))
		if err != nil || len(raw) != 32 {
			c.bad(index("kuma.fingerprints", i), "must be a SHA-256 (64 hex digits), colons allowed")
			continue
		}
		k.Fingerprints[i] = hex.EncodeToString(raw)
	}
	oneOf(c, "kuma.version", k.Version, "auto", "v1", "v2", "v2.1", "v3")
	between(c, "kuma.timeout", k.Timeout, time.Second, 10*time.Minute)
	if k.Feedback.Close != "" {
		oneOf(c, "kuma.feedback.close", k.Feedback.Close, "responded", "incorrect data", "incorrect correlation rule")
	}
	between(c, "kuma.feedback.close_after", k.Feedback.CloseAfter, time.Second, 24*time.Hour)
	for i, l := range k.Feedback.ActiveLists {
		path := index("kuma.feedback.active_lists", i)
		c.require(join(path, "correlator"), l.Correlator != "", "the id of the correlator service")
		c.require(join(path, "list"), l.List != "", "the name or id of the active list")
	}
}
