// Package callout is a call of one of the nine script names of KUMA's response rules: what a program under such a name does
// (RunScript), and what a bridge needs to take its calls up.
//
// A call is read from an argument line (ParseCall) and handed over within 50 ms over a socket of its own or through a spool
// directory (HandOver). Argument lines carry text an attacker wrote: a value stays one value or the whole call is refused.
// A program of its own links this package (cmd/edr-bridge-call), so it stays small: it knows bridge and
// golang.org/x/sys, and neither net/http nor TLS.
package callout
