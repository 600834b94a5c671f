// Package scan looks for malware in the scopes of onDemandScan.
//
//	scopes → objects (files, images, boot sectors) → engine (clamd, or the built-in one) → findings
//
// A file that was not looked at whole is skipped, never clean. It follows no links, stays on the device it began on, and is bounded
// in time, bytes and workers. It changes nothing: what becomes of a finding is for the caller to do.
package scan
