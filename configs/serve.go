package configs

// Metrics is about the page with metrics and health.
type Metrics struct {
	// Listen is host:port of the page, a loopback address because the page has no authentication: 127.0.0.1:9448.
	// Default: no page.
	Listen string `yaml:"listen,omitempty"`
}

// API is about the control socket of a running bridge.
type API struct {
	// Enabled opens the socket. Default true.
	Enabled bool `yaml:"enabled"`
	// Socket is the path of the Unix socket, 107 bytes at most: absolute or relative to this file. Default: edr-bridge.sock
	// below local.state.
	Socket string `yaml:"socket,omitempty"`
	// Group is the Unix group that may use the socket besides its owner. Default: the group of the process.
	Group string `yaml:"group,omitempty"`
}
