package configs

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	minKept = 24 * time.Hour
	maxKept = 87600 * time.Hour
	// maxSocket is the length of a path a Unix socket can have on Linux (unix(7): 108 bytes with the one that ends it).
	maxSocket = 107
	maxGroup  = 256
)

func (c *checker) audit() {
	a := c.s.Audit
	zeroOr(c, "audit.anchor_every", a.AnchorEvery, time.Minute, maxWaiting)
	if a.AnchorEvery == 0 && (a.AnchorFile != "" || a.AnchorStream != nil) {
		c.bad("audit.anchor_every", "must not be 0s beside anchor_file or anchor_stream, which would stay empty")
	}
	zeroOr(c, "audit.keep", a.Keep, minKept, maxKept)
	if a.AnchorStream != nil {
		c.anchorStream(a.AnchorStream)
	}
}

func (c *checker) anchorStream(a *AnchorStream) {
	const path = "audit.anchor_stream"
	named := c.require(join(path, "source"), a.Source != "", "the name of a source whose Redis server holds the stream")
	keyed := c.require(join(path, "stream"), a.Stream != "", "the key of the stream")
	if !named || !keyed {
		return
	}
	source, ok := c.s.Sources[a.Source]
	if !ok {
		names := slices.Sorted(maps.Keys(c.s.Sources))
		c.bad(join(path, "source"), "must be the name of a source, not %s%s", quoted(a.Source), bridge.DidYouMean(a.Source, names))
		return
	}
	if source == nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(c.s.Sources)) {
		other := c.s.Sources[name]
		if other == nil || other.DB != source.DB || !slices.Equal(other.Nodes(), source.Nodes()) {
			continue
		}
		if a.Stream == other.Stream || a.Stream == other.DeadLetter {
			c.bad(join(path, "stream"), "must be another stream than those of sources.%s: an anchor is no alert", name)
			return
		}
	}
}

func (c *checker) metrics() {
	const path = "metrics.listen"
	listen := c.s.Metrics.Listen
	if listen == "" {
		return
	}
	host, _, err := net.SplitHostPort(listen)
	if _, ok := withPort(listen, ""); err != nil || host != "" && !ok {
		c.bad(path, "must be host:port, such as 127.0.0.1:9448, not %s", quoted(listen))
		return
	}
	if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.IsLoopback()) {
		c.bad(path, "must be a loopback address such as 127.0.0.1:9448, because the page has no authentication; not %s", quoted(listen))
	}
}

func (c *checker) api() {
	a := c.s.API
	if strings.ContainsAny(a.Group, ":,/") || len(a.Group) > maxGroup {
		c.bad("api.group", "must be the name of a Unix group, not %s", quoted(a.Group))
	}
	if n := len(a.Socket); a.Enabled && n > maxSocket {
		path := "api.socket"
		if !c.s.places.has(path) && c.s.places.has("local.state") {
			c.bad("local.state", "is too long for the control socket in it (%d bytes, %d at most): set api.socket", n, maxSocket)
			return
		}
		c.bad(path, "must be %d bytes at most, not %d: no Unix socket has a longer path", maxSocket, n)
	}
}
