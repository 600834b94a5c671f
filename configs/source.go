package configs

import "time"

// SourceType is the kind of a source.
type SourceType string

// The source types.
const (
	RedisPubSub SourceType = "redis-pubsub"
	RedisStream SourceType = "redis-stream"
)

// HostThis as Source.Host says that alerts without a host are about this machine.
const HostThis = "this"

// Source is one place alerts come from.
type Source struct {
	// Type is redis-pubsub (at most once: what is published while the connection is down is lost) or redis-stream
	// (at least once).
	Type SourceType `yaml:"type" jsonschema:"required,enum=redis-pubsub,enum=redis-stream"`
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

	// Preset is how the documents are read: python-edr or generic.
	Preset string `yaml:"preset" jsonschema:"required"`
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

// Nodes returns Address or Addresses.
func (s *Source) Nodes() []string {
	if s.Address != "" {
		return []string{s.Address}
	}
	return append([]string(nil), s.Addresses...)
}
