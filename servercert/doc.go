// Package servercert decides whether the certificate a server shows is trusted: servers of Kaspersky sign their own and rarely carry
// the right name, so that a certificate is pinned whole or by its fingerprint, or chains to a given authority under the right name.
// Who is not vouched for by the settings gets nothing: the handshake ends with a PinError that names the fingerprint to compare.
package servercert
