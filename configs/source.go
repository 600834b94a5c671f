package configs

import (
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// SourceType is the kind of a source.
type SourceType string

// The source types.
const (
	RedisPubSub SourceType = "redis-pubsub"
	RedisStream SourceType = "redis-stream"
	Webhook     SourceType = "webhook"
	KUMAHTTP    SourceType = "kuma-http"
	KUMASOAR    SourceType = "kuma-soar"
	KUMAPoll    SourceType = "kuma-poll"
	KUMAScript  SourceType = "kuma-script"
	SyslogTCP   SourceType = "syslog"
	OwnSensor   SourceType = "sensor"
)

// SOARPath is the path below which KUMA asks a SOAR, as R-Vision has it.
const SOARPath = "/api/v2"

// HostThis as Source.Host says that alerts without a host are about this machine.
const HostThis = "this"

// Source is one place alerts come from.
type Source struct {
	// Type is redis-pubsub (at most once: what is published while the connection is down is lost), redis-stream (at least
	// once), webhook (HTTP requests of any product), kuma-http (the destination of a KUMA correlator), kuma-soar (KUMA's push to
	// a SOAR), kuma-poll (KUMA's REST API is asked), kuma-script (the nine response scripts of KUMA), syslog (lines over TCP) or
	// sensor (processes that start on this machine, see the settings of sensor).
	Type SourceType `yaml:"type" jsonschema:"required,enum=redis-pubsub,enum=redis-stream,enum=webhook,enum=kuma-http,enum=kuma-soar,enum=kuma-poll,enum=kuma-script,enum=syslog,enum=sensor"`
	// Address is host:port, [ipv6]:port or unix:///path of the Redis server.
	Address string `yaml:"address,omitempty"`
	// Addresses are the sentinels, or the nodes of a cluster to start from.
	Addresses []string `yaml:"addresses,omitempty"`
	// Username is the ACL user.
	Username string `yaml:"username,omitempty"`
	// Password is a reference to the password of the user, such as secret:redis/password.
	Password SecretRef `yaml:"password,omitempty"`
	// DB is the number of the database, 0 to 1023; 0 in a cluster.
	DB int `yaml:"db,omitempty" jsonschema:"minimum=0,maximum=1023"`
	// TLS switches TLS on.
	TLS *TLS `yaml:"tls,omitempty"`
	// Sentinel says that the addresses are sentinels.
	Sentinel *Sentinel `yaml:"sentinel,omitempty"`
	// Cluster says that the addresses are nodes of a Redis Cluster.
	Cluster bool `yaml:"cluster,omitempty"`

	// Channel is the exact name of the channel (redis-pubsub).
	Channel string `yaml:"channel,omitempty"`
	// Queue is how many alerts may wait in memory, 1 to 1000000; default 4096 (redis-pubsub).
	Queue int `yaml:"queue,omitempty" jsonschema:"minimum=1,maximum=1000000"`
	// Stream is the key of the stream (redis-stream).
	Stream string `yaml:"stream,omitempty"`
	// Group is the consumer group; default edr-bridge (redis-stream).
	Group string `yaml:"group,omitempty"`
	// Consumer is the name of this bridge in the group; it must stay the same over restarts. Default: the host name.
	Consumer string `yaml:"consumer,omitempty"`
	// DeadLetter is the stream for what cannot be read; default: the name of the stream with :dead (redis-stream).
	DeadLetter string `yaml:"dead_letter,omitempty"`
	// ClaimAfter is how long an alert stays with a silent consumer before another takes it over, 1s to 24h; default 60s
	// (redis-stream).
	ClaimAfter time.Duration `yaml:"claim_after,omitempty"`

	// Path is the path of the requests; default /NAME, for kuma-soar /api/v2 (webhook, kuma-http, kuma-soar).
	Path string `yaml:"path,omitempty"`
	// Auth says how a sender proves itself (webhook, kuma-http).
	Auth *Auth `yaml:"auth,omitempty"`
	// Encodings are the content encodings that are taken besides none: gzip, snappy (webhook, kuma-http).
	Encodings []string `yaml:"encodings,omitempty" jsonschema:"enum=gzip,enum=snappy"`
	// Rate bounds what is taken in (webhook, kuma-http, kuma-soar, syslog).
	Rate *Rate `yaml:"rate,omitempty"`
	// Peers are the addresses and networks that may connect; default all (webhook, kuma-http, kuma-soar, syslog).
	Peers []string `yaml:"peers,omitempty"`
	// Token is a reference to what KUMA has as the token of the SOAR (kuma-soar).
	Token SecretRef `yaml:"token,omitempty"`
	// Tags are the names of the form fields (kuma-soar).
	Tags *SOARTags `yaml:"tags,omitempty"`
	// Every is how often KUMA is asked, 1s to 1h; default 10s (kuma-poll).
	Every time.Duration `yaml:"every,omitempty"`
	// Socket is the path of the Unix socket of the call-outs, 107 bytes at most; default kuma.sock below local.state (kuma-script).
	Socket string `yaml:"socket,omitempty"`
	// CallGroup is the Unix group whose members may call out besides the bridge's own account: kuma; default the group of the
	// process (kuma-script).
	CallGroup string `yaml:"call_group,omitempty"`
	// Spool is the directory for call-outs while no bridge runs; default spool below local.state (kuma-script).
	Spool string `yaml:"spool,omitempty"`
	// Mode bounds what call-outs may do, below the mode of the settings: shadow, approve or enforce (default) (kuma-script).
	Mode bridge.Mode `yaml:"mode,omitempty" jsonschema:"enum=shadow,enum=approve,enum=enforce"`
	// Listen is host:port (syslog).
	Listen string `yaml:"listen,omitempty"`
	// AllowPlain accepts lines beyond this machine without TLS: whoever reaches the port is believed (syslog).
	AllowPlain bool `yaml:"allow_plain,omitempty"`
	// ServerTLS makes the port TLS; with client_ca senders need a certificate (syslog).
	ServerTLS *ServerTLS `yaml:"server_tls,omitempty"`

	// Preset is how the documents are read, such as python-edr, generic or wazuh (`edr-bridge presets list`). The kuma sources
	// have one of their own.
	Preset string `yaml:"preset,omitempty"`
	// KSC is the profile of KSC for alerts that name no tenant, where there are several.
	KSC string `yaml:"ksc,omitempty"`
	// Hosts are the only hosts alerts of this source may act on, as names or globs; default all.
	Hosts []string `yaml:"hosts,omitempty"`
	// Host is the host of alerts that name none: this (this machine) or a name. The default is this for python-edr over
	// a loopback or unix address, else nothing: such alerts are refused.
	Host string `yaml:"host,omitempty"`
	// Tasks are the only tasks alerts of this source may lead to; default all.
	Tasks []string `yaml:"tasks,omitempty"`
	// AllowOpen accepts a Redis server beyond this machine that lets anyone in without a password.
	AllowOpen bool `yaml:"allow_open,omitempty"`
}

// TLS are the settings of a TLS connection. Paths are relative to the settings file.
type TLS struct {
	// CA is a PEM file with the only authorities that are trusted; default those of the operating system.
	CA string `yaml:"ca,omitempty"`
	// Cert is a PEM file with the client's certificate; it goes with key.
	Cert string `yaml:"cert,omitempty"`
	// Key is a PEM file with the key of cert.
	Key string `yaml:"key,omitempty"`
	// ServerName is the name the server's certificate must carry; default the host of the address.
	ServerName string `yaml:"server_name,omitempty"`
}

// Sentinel says how to find the master.
type Sentinel struct {
	// Master is the name of the master set.
	Master string `yaml:"master" jsonschema:"required"`
	// Username logs in to the sentinels themselves.
	Username string `yaml:"username,omitempty"`
	// Password is a reference to the password at the sentinels.
	Password SecretRef `yaml:"password,omitempty"`
}

// Redis reports whether the source is read from Redis.
func (t SourceType) Redis() bool { return t == RedisPubSub || t == RedisStream }

// OverHTTP reports whether the source shares the listener of http.
func (t SourceType) OverHTTP() bool { return t == Webhook || t == KUMAHTTP || t == KUMASOAR }

// NeedsKUMA reports whether the source asks KUMA itself.
func (t SourceType) NeedsKUMA() bool { return t == KUMASOAR || t == KUMAPoll }

// Nodes returns Address or Addresses.
func (s *Source) Nodes() []string {
	if s.Address != "" {
		return []string{s.Address}
	}
	return append([]string(nil), s.Addresses...)
}
