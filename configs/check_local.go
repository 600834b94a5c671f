package configs

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	maxSocketPath = 107 // bytes, unix(7)
	maxStay       = 5 * 365 * 24 * time.Hour
)

// local checks the settings of the agent.
func (c *checker) local() {
	l := &c.s.Local
	between(c, "local.grace", l.Grace, 0, maxGrace)
	between(c, "local.max_targets", l.MaxTargets, 1, 4096)
	for i, task := range l.Tasks {
		if _, err := bridge.ParseKind(task); err != nil {
			c.bad(index("local.tasks", i), "%s", err)
		}
	}
	if l.Separate && len(l.Socket) > maxSocketPath {
		c.bad("local.socket", "is %d bytes long, a socket's path has %d at most", len(l.Socket), maxSocketPath)
	}
	for i, user := range l.Users {
		if user == "" || strings.ContainsAny(user, " \t:/") {
			c.bad(index("local.users", i), "is no name of an account")
		}
	}
	if l.Separate && !l.Enabled {
		c.bad("local.separate", "needs local.enabled: true")
	}
	between(c, "local.start.time_limit", l.Start.TimeLimit, time.Second, 24*time.Hour)
	between(c, "local.quarantine.max_file", l.Quarantine.MaxFile, 1, 4<<30)
	between(c, "local.quarantine.quota", l.Quarantine.Quota, 1, maxSize)
	if l.Quarantine.Keep != 0 {
		between(c, "local.quarantine.keep", l.Quarantine.Keep, time.Hour, maxStay)
	}
	for i, p := range l.Isolation.Allow {
		c.peer(index("local.isolation.allow", i), p)
	}
	oneOf(c, "local.prevention.mode", l.Prevention.Mode, "block", "log")
	between(c, "local.scan.max_file", l.Scan.MaxFile, 1, 4<<30)
	between(c, "local.scan.max_time", l.Scan.MaxTime, time.Minute, 24*time.Hour)
	between(c, "local.scan.workers", l.Scan.Workers, 1, 32)
}

func (c *checker) peer(path string, p Peer) {
	c.require(join(path, "host"), p.Host != "", "a name, an address or a network")
	_, addrErr := netip.ParseAddr(p.Host)
	_, netErr := netip.ParsePrefix(p.Host)
	if p.Host != "" && addrErr != nil && netErr != nil && (strings.ContainsAny(p.Host, "/:@*?[]{} \\") || len(p.Host) > 253) {
		c.bad(join(path, "host"), "is no name, address or network")
	}
	for i, ports := range p.Ports {
		first, last, span := strings.Cut(ports, "-")
		a, errA := strconv.ParseUint(first, 10, 16)
		b, errB := a, error(nil)
		if span {
			b, errB = strconv.ParseUint(last, 10, 16)
		}
		if errA != nil || errB != nil || a == 0 || b < a {
			c.bad(index(join(path, "ports"), i), `is no port and no span of ports, such as "22" or "13000-13999"`)
		}
	}
	if p.Protocol != "" {
		oneOf(c, join(path, "protocol"), p.Protocol, "tcp", "udp", "any")
	}
	if p.Direction != "" {
		oneOf(c, join(path, "direction"), p.Direction, "in", "out", "both")
	}
}

// sensor checks the settings of the sensor.
func (c *checker) sensor() {
	s := &c.s.Sensor
	between(c, "sensor.baseline.learn", s.Baseline.Learn, time.Hour, 365*24*time.Hour)
	between(c, "sensor.baseline.score", s.Baseline.Score, 1, 64)
	for i, name := range s.Publish {
		source := c.s.Sources[name]
		if source == nil || !source.Type.Redis() {
			c.bad(index("sensor.publish", i), "must name a Redis source of these settings%s", bridge.DidYouMean(name, c.redisSources()))
		}
	}
}

func (c *checker) redisSources() []string {
	var names []string
	for name, source := range c.s.Sources {
		if source != nil && source.Type.Redis() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
