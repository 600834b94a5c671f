package configs

import "time"

// KUMA says how to reach the REST API of a KUMA core (support.kaspersky.com/help/KUMA, topic 217973).
type KUMA struct {
	// Address is host or host:port of the core; the port of REST is 7223.
	Address string `yaml:"address" jsonschema:"required"`
	// CA is a PEM file, relative to this file, with the authority of the core's certificate.
	CA string `yaml:"ca,omitempty"`
	// Fingerprints are SHA-256 digests of the core's certificates in hex, colons allowed.
	Fingerprints []string `yaml:"fingerprints,omitempty"`
	// SystemRoots also trusts what the operating system trusts.
	SystemRoots bool `yaml:"system_roots,omitempty"`
	// Token is a reference to the token of a KUMA user, default secret:kuma/token.
	Token SecretRef `yaml:"token"`
	// Version is auto (default), v1, v2, v2.1 or v3.
	Version string `yaml:"version" jsonschema:"enum=auto,enum=v1,enum=v2,enum=v2.1,enum=v3"`
	// Timeout bounds one attempt of one call, 1s to 10m; default 30s.
	Timeout time.Duration `yaml:"timeout"`
	// Feedback says what is written back to KUMA.
	Feedback Feedback `yaml:"feedback"`
}

// Feedback says what is written back to KUMA about the orders of its alerts.
type Feedback struct {
	// Close is the reason with which an alert is closed when all its orders are done: responded, incorrect data or incorrect
	// correlation rule. Default: alerts stay as they are.
	Close string `yaml:"close,omitempty" jsonschema:"enum=responded,enum=incorrect data,enum=incorrect correlation rule"`
	// CloseAfter is how long nothing may have happened to an alert before it is closed, 1s to 24h; default 1m.
	CloseAfter time.Duration `yaml:"close_after"`
	// ActiveLists hold the isolated hosts, so that correlation rules see them.
	ActiveLists []ActiveList `yaml:"active_lists,omitempty" jsonschema:"maxItems=100"`
}

// ActiveList is an active list of a correlator.
type ActiveList struct {
	// Correlator is the id of the correlator service.
	Correlator string `yaml:"correlator" jsonschema:"required"`
	// List is the name of the list, or its id.
	List string `yaml:"list" jsonschema:"required"`
	// Tenant is the id of the tenant whose alerts it is for; default those no other list is for.
	Tenant string `yaml:"tenant,omitempty"`
}

// SOARTags are the names of the form fields KUMA pushes, as its settings of the R-Vision integration call them.
type SOARTags struct {
	// ID carries the id of the alert; default alert_id.
	ID string `yaml:"id"`
	// URL carries the address of the alert in KUMA; default kuma_url.
	URL string `yaml:"url"`
}
