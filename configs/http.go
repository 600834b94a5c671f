package configs

import (
	"maps"
	"slices"
)

// HTTP is about the listener that the sources webhook, kuma-http and kuma-soar share.
type HTTP struct {
	// Listen is host:port. Default 127.0.0.1:8448. Beyond this machine it needs tls, and auth on every source.
	Listen string `yaml:"listen"`
	// TLS makes it HTTPS.
	TLS *ServerTLS `yaml:"tls,omitempty"`
	// MaxBody is how many bytes a request may carry, 1024 to 67108864; default 4194304.
	MaxBody int `yaml:"max_body" jsonschema:"minimum=1024,maximum=67108864"`
	// MaxConns is how many connections are open at once, 1 to 65536; default 512.
	MaxConns int `yaml:"max_conns" jsonschema:"minimum=1,maximum=65536"`
	// MaxConnsPeer is how many of them one address beyond this machine may have, 1 to 65536; default 64.
	MaxConnsPeer int `yaml:"max_conns_peer" jsonschema:"minimum=1,maximum=65536"`
}

// ServerTLS are the settings of a TLS listener. Paths are relative to the settings file; changed files are read again.
type ServerTLS struct {
	// Cert is a PEM file with the certificate and its chain.
	Cert string `yaml:"cert" jsonschema:"required"`
	// Key is a PEM file with its key.
	Key string `yaml:"key" jsonschema:"required"`
	// ClientCA is a PEM file with the authorities of client certificates.
	ClientCA string `yaml:"client_ca,omitempty"`
}

// Auth says how the sender of a request proves itself: exactly one of these.
type Auth struct {
	// Bearer is a reference to the token of the header Authorization: Bearer.
	Bearer SecretRef `yaml:"bearer,omitempty"`
	// Basic is a user with password.
	Basic *BasicAuth `yaml:"basic,omitempty"`
	// HMAC is a signature over time, nonce and body.
	HMAC *HMACAuth `yaml:"hmac,omitempty"`
	// BodyHMAC is a signature over the body alone, as many products send it; a request that was seen can be sent again.
	BodyHMAC *BodyHMACAuth `yaml:"body_hmac,omitempty"`
	// Clients are the common or alternative names a client certificate may carry; it needs http.tls.client_ca.
	Clients []string `yaml:"clients,omitempty"`
}

// Secrets returns the references of the way that was chosen.
func (a *Auth) Secrets() []SecretRef {
	refs := []SecretRef{a.Bearer}
	if a.Basic != nil {
		refs = append(refs, a.Basic.Password)
	}
	if a.HMAC != nil {
		refs = slices.AppendSeq(refs, maps.Values(a.HMAC.Keys))
	}
	if a.BodyHMAC != nil {
		refs = append(refs, a.BodyHMAC.Key)
	}
	return slices.DeleteFunc(refs, func(r SecretRef) bool { return r == "" })
}

// BasicAuth is HTTP basic authentication (RFC 7617).
type BasicAuth struct {
	// User is the name.
	User string `yaml:"user" jsonschema:"required"`
	// Password is a reference to the password.
	Password SecretRef `yaml:"password" jsonschema:"required"`
}

// HMACAuth is HMAC-SHA256 with time and nonce; clocks may be five minutes apart.
type HMACAuth struct {
	// Keys are references to the keys by their ids: two while a key is replaced.
	Keys map[string]SecretRef `yaml:"keys" jsonschema:"required"`
}

// BodyHMACAuth is HMAC-SHA256 over the body.
type BodyHMACAuth struct {
	// Header carries the signature in hex, with or without sha256= before it; default X-Hub-Signature-256.
	Header string `yaml:"header"`
	// Key is a reference to the key.
	Key SecretRef `yaml:"key" jsonschema:"required"`
}

// Rate bounds what a source takes in; what is more is told to come later.
type Rate struct {
	// Requests a second, 1 to 1000000; default no bound.
	Requests int `yaml:"requests,omitempty" jsonschema:"minimum=1,maximum=1000000"`
	// Alerts a second, 1 to 1000000; default no bound.
	Alerts int `yaml:"alerts,omitempty" jsonschema:"minimum=1,maximum=1000000"`
}
