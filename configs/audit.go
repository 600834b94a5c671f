package configs

import "time"

// Audit says how the audit chain is sealed and how long it is kept.
type Audit struct {
	// Key is a reference to the key of the chain, such as secret:audit/key: without the key nobody can forge the chain, nor
	// verify it. Default: none, anybody can verify it.
	Key SecretRef `yaml:"key,omitempty"`
	// AnchorEvery is how often number and hash of the last record are noted outside of the store, 1m to 168h, or 0s for
	// never. They always go to the log. Default 1h.
	AnchorEvery time.Duration `yaml:"anchor_every"`
	// AnchorFile is a file they are also appended to, best on another machine: absolute or relative to this file.
	AnchorFile string `yaml:"anchor_file,omitempty"`
	// AnchorStream is a Redis stream they are also added to.
	AnchorStream *AnchorStream `yaml:"anchor_stream,omitempty"`
	// Keep is how long records stay in the store before they move to the archive, 24h to 87600h, or 0s for ever.
	// Default 2160h.
	Keep time.Duration `yaml:"keep"`
	// Archive is the directory of the archive: absolute or relative to this file. Default: archive below local.state.
	Archive string `yaml:"archive,omitempty"`
}

// AnchorStream is a stream that holds anchors of the audit chain.
type AnchorStream struct {
	// Source is the name of the source whose Redis server holds the stream.
	Source string `yaml:"source" jsonschema:"required"`
	// Stream is the key of the stream; no alerts may come from it.
	Stream string `yaml:"stream" jsonschema:"required"`
}
