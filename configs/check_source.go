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

const unixScheme = "unix://"

func (c *checker) source(name string, s *Source) {
	path := join("sources", name)
	if !isSourceName(name) {
		c.badKey(path, "its name must be letters, digits, dashes and underscores, 64 at most")
	}
	if s == nil || s.Type == "" && c.reported(path) {
		return
	}
	if !c.require(join(path, "type"), s.Type != "", "redis-stream, webhook, kuma-script or another of the types of sources") {
		return
	}
	oneOf(c, join(path, "type"), s.Type, sourceTypes()...)
	c.foreign(path, s.Type)
	c.anySource(path, s)
	switch s.Type {
	case RedisPubSub:
		c.server(path, s)
		c.require(join(path, "channel"), s.Channel != "", "the name of the channel")
		between(c, join(path, "queue"), s.Queue, 1, 1_000_000)
	case RedisStream:
		c.server(path, s)
		c.require(join(path, "stream"), s.Stream != "", "the key of the stream")
		between(c, join(path, "claim_after"), s.ClaimAfter, time.Second, 24*time.Hour)
		if s.Stream != "" && s.Stream == s.DeadLetter {
			c.bad(join(path, "dead_letter"), "must be another stream than the source itself")
		}
	case Webhook, KUMAHTTP:
		c.ingress(path, s)
		c.auth(path, s.Auth)
	case KUMASOAR:
		c.ingress(path, s)
		c.require(join(path, "token"), s.Token != "", "a reference to the token that KUMA has for the SOAR, such as secret:soar/token")
	case KUMAPoll:
		between(c, join(path, "every"), s.Every, time.Second, time.Hour)
	case KUMAScript:
		c.script(path, s)
	case SyslogTCP:
		c.syslog(path, s)
	case OwnSensor: // all it has stands in sensor
	default: // oneOf has refused it
	}
}

// anySource checks what all types of sources have.
func (c *checker) anySource(path string, s *Source) {
	if s.Type == KUMAScript {
		if s.Preset != presetOf(KUMAScript) {
			c.bad(join(path, "preset"), "call-outs have a form of their own: remove the line")
		}
	} else {
		c.require(join(path, "preset"), s.Preset != "", "how the documents are read, such as python-edr (edr-bridge presets list)")
	}
	for i, task := range s.Tasks {
		if _, err := bridge.ParseKind(task); err != nil {
			c.bad(index(join(path, "tasks"), i), "%s", err)
		}
	}
	for i, host := range s.Hosts {
		if strings.ContainsAny(host, `/\:@[]{} `) {
			c.bad(index(join(path, "hosts"), i), "is no host name or glob (wildcards are * and ?)")
		}
	}
	c.profile(join(path, "ksc"), s.KSC)
	if s.Type.NeedsKUMA() && c.s.KUMA == nil {
		c.bad(join(path, "type"), "%s needs the REST API of KUMA: set kuma.address", s.Type)
	}
}

// server checks how Redis is reached.
func (c *checker) server(path string, s *Source) {
	nodes := "address"
	switch {
	case s.Address != "" && len(s.Addresses) > 0:
		c.bad(join(path, "addresses"), "must not stand beside address: put all into addresses")
	case s.Sentinel != nil && s.Cluster:
		c.bad(join(path, "cluster"), "must not stand beside sentinel")
	case len(s.Addresses) > 1 && s.Sentinel == nil && !s.Cluster:
		c.bad(join(path, "addresses"), "several need sentinel or cluster: true")
	case len(s.Addresses) > 0:
		nodes = "addresses"
	}
	many := s.Sentinel != nil || s.Cluster
	for i, address := range s.Nodes() {
		at := join(path, nodes)
		if nodes == "addresses" {
			at = index(at, i)
		}
		file, unix := strings.CutPrefix(address, unixScheme)
		switch {
		case unix && !strings.HasPrefix(file, "/"):
			c.bad(at, "needs an absolute path behind unix://")
		case unix && (many || s.TLS != nil):
			c.bad(at, "a unix socket goes with neither tls, sentinel nor cluster")
		case !unix && !hostPort(address):
			c.secret(at, "must be host:port or unix:///path; user and password stand in username and password")
		}
	}
	c.require(join(path, "address"), s.Address != "" || len(s.Addresses) > 0, "host:port of Redis")
	between(c, join(path, "db"), s.DB, 0, 1023)
	if s.Cluster && s.DB != 0 {
		c.bad(join(path, "db"), "must be 0 in a cluster")
	}
	if s.Sentinel != nil {
		c.require(join(path, "sentinel.master"), s.Sentinel.Master != "", "the name of the master set")
	}
	if s.Username != "" && s.Password == "" {
		c.bad(join(path, "password"), "required with username: a reference such as secret:redis/password")
	}
	if s.TLS != nil && (s.TLS.Cert == "") != (s.TLS.Key == "") {
		c.bad(join(path, "tls"), "needs both cert and key, or neither")
	}
}

// sourceTypes lists the types in the order of the documentation.
func sourceTypes() []SourceType {
	return []SourceType{RedisPubSub, RedisStream, Webhook, KUMAHTTP, KUMASOAR, KUMAPoll, KUMAScript, SyslogTCP, OwnSensor}
}

// settingsOf returns the settings that only some types of sources know, with these types.
func settingsOf() map[string][]SourceType {
	redis := []SourceType{RedisPubSub, RedisStream}
	called := []SourceType{Webhook, KUMAHTTP, KUMASOAR}
	of := map[string][]SourceType{
		"channel": {RedisPubSub}, "queue": {RedisPubSub},
		"stream": {RedisStream}, "group": {RedisStream}, "consumer": {RedisStream}, "dead_letter": {RedisStream}, "claim_after": {RedisStream},
		"path": called, "auth": {Webhook, KUMAHTTP}, "encodings": {Webhook, KUMAHTTP}, "rate": append(called, SyslogTCP), "peers": append(called, SyslogTCP),
		"token": {KUMASOAR}, "tags": {KUMASOAR}, "every": {KUMAPoll},
		"socket": {KUMAScript}, "call_group": {KUMAScript}, "spool": {KUMAScript}, "mode": {KUMAScript},
		"listen": {SyslogTCP}, "allow_plain": {SyslogTCP}, "server_tls": {SyslogTCP},
	}
	for _, name := range []string{"address", "addresses", "username", "password", "db", "tls", "sentinel", "cluster", "allow_open"} {
		of[name] = redis
	}
	return of
}

// foreign refuses settings that only other types of sources know.
func (c *checker) foreign(path string, own SourceType) {
	if !slices.Contains(sourceTypes(), own) {
		return
	}
	of := settingsOf()
	for _, name := range slices.Sorted(maps.Keys(of)) {
		if c.s.places.has(join(path, name)) && !slices.Contains(of[name], own) {
			var known []string
			for _, t := range of[name] {
				known = append(known, string(t))
			}
			c.bad(join(path, name), "is a setting of %s", strings.Join(known, ", "))
		}
	}
}

func isSourceName(name string) bool {
	const alnum = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	return name != "" && len(name) <= 64 && strings.ContainsRune(alnum, rune(name[0])) && strings.Trim(name, alnum+"_-") == ""
}

// reported tells whether there is a problem inside path already.
func (c *checker) reported(path string) bool {
	return slices.ContainsFunc(c.problems, func(p Problem) bool { return p.Path == path || strings.HasPrefix(p.Path, path+".") })
}

func hostPort(address string) bool {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return false
	}
	got, ok := withPort(address, "")
	return ok && got != ""
}

// onThisMachine reports whether every address is a loopback address or a unix socket.
func (s *Source) onThisMachine() bool {
	local := func(address string) bool {
		if strings.HasPrefix(address, unixScheme) {
			return true
		}
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return false
		}
		ip, err := netip.ParseAddr(host)
		return host == "localhost" || err == nil && ip.IsLoopback()
	}
	nodes := s.Nodes()
	return len(nodes) > 0 && !slices.ContainsFunc(nodes, func(a string) bool { return !local(a) })
}
