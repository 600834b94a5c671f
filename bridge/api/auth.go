package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Secret returns a secret as it is at the moment. It is asked at least once a minute while requests come, so that a rotated secret
// is picked up, must heed ctx (5 s) and may be called by several goroutines. What it returns is never written anywhere.
type Secret func(ctx context.Context) ([]byte, error)

// Auth says how the peers of a source prove who they are. Exactly one field is set; the zero Auth lets everybody in and is
// refused where others than programs of this machine can connect.
type Auth struct {
	MTLS     *MTLSAuth
	HMAC     *HMACAuth
	BodyHMAC *BodyHMACAuth
	Bearer   *BearerAuth
	Basic    *BasicAuth
}

// MTLSAuth lets in peers whose client certificate bears a name of the list. The certificate must be issued by the listener's
// client CA.
type MTLSAuth struct {
	// Names are "dns:NAME", "uri:URI" and "email:ADDRESS" for subject alternative names, and "subject:DN" for the whole subject as
	// RFC 2253 writes it ("subject:CN=correlator,O=Corp"). A name without such a prefix is a DNS name. No wildcards.
	Names []string
}

// HMACAuth lets in requests signed with a shared key (HMAC-SHA256):
//
//	X-EDR-Key: k1                       id of the key; may be left out
//	X-EDR-Timestamp: 1763683200         Unix seconds, at most 300 s from the bridge's clock
//	X-EDR-Nonce: 5f0c…                  16 to 128 of A-Z a-z 0-9 . _ ~ + / = -; used once
//	X-EDR-Signature: v1=<64 hex digits>
//
// The signature is over "v1\n<METHOD>\n<path?query as sent>\n<timestamp>\n<nonce>\n<lower-case hex SHA-256 of the body as sent>".
// A request that was accepted cannot be sent again with the same nonce; one that was answered 429 or 503 can. Nonces do not outlive the
// bridge: signatures made before it started are answered 503, to be signed again. A peer whose clock is ahead could have a
// request accepted twice across a restart; the alert's id makes that harmless.
type HMACAuth struct {
	// Keys are one key, or two while they are being exchanged.
	Keys []AuthKey
}

// AuthKey is a key with its name.
type AuthKey struct {
	// ID is 1 to 64 of A-Z a-z 0-9 . _ -.
	ID string
	// Secret has at least 16 bytes.
	Secret Secret
}

// BodyHMACAuth lets in requests whose body is signed alone, as GitHub and Grafana do: hex HMAC-SHA256 of the body, "sha256=" before
// it or not. It does not protect against replays: who sees a request can send it again for ever, and only the dedupe by the
// alert's id and its age stand in the way.
type BodyHMACAuth struct {
	// Header carries the signature; empty = X-Hub-Signature-256.
	Header string
	// Keys are one key, or two while they are being exchanged; at least 16 bytes each.
	Keys []Secret
}

// BearerAuth lets in requests with "Authorization: Bearer <token>".
type BearerAuth struct {
	// Tokens are one token, or two while they are being exchanged; at least 16 bytes each.
	Tokens []Secret
}

// BasicAuth lets in requests with a user name and a password (RFC 7617). KUMA's http destination can send nothing else.
type BasicAuth struct {
	User string
	// Passwords are one password, or two while they are being exchanged; at least 8 bytes each.
	Passwords []Secret
}

const (
	minKey      = 16 // bytes
	minPassword = 8  // bytes
	maxKeys     = 2
)

// none reports whether nobody has to prove anything.
func (a Auth) none() bool { return a == Auth{} }

// authenticator judges the requests of one source.
type authenticator interface {
	// before judges what stands in the headers and the connection. The body has not been read and must not be.
	before(ctx context.Context, r *http.Request) error
	// after judges the body as it came, before anything looks into it.
	after(ctx context.Context, r *http.Request, body []byte) (authTicket, error)
}

// authTicket is a nonce in use. The zero one is of a method without nonces.
type authTicket struct {
	nonces *authNonces
	at     int64
	sum    uint64
}

// giveBack makes the nonce good again for a request that was not accepted: its sender may repeat it as it is.
func (t authTicket) giveBack() {
	if t.nonces != nil {
		t.nonces.forget(t.at, t.sum)
	}
}

var (
	// errDenied is for the peer; what stands around it is for the log only.
	errDenied = errors.New("not authenticated")
	// errSkewed and errReplayed are told to peers that have proved to hold the key.
	errSkewed   = errors.New("the timestamp is too far from the bridge's clock")
	errReplayed = errors.New("this nonce was used before")
	// errTooEarly asks for another signature: whether this one was used before is not known any more.
	errTooEarly = errors.New("the signature is older than what the bridge remembers: sign the request again")
	errNoSecret = errors.New("the secret cannot be read")
)

func denied(why string) error { return fmt.Errorf("%w: %s", errDenied, why) }

// newAuthenticator checks the settings; nil = everybody is let in.
func newAuthenticator(a Auth, now func() time.Time) (authenticator, error) {
	var list []authenticator
	var errs []error
	add := func(c authenticator, err error) {
		list = append(list, c)
		errs = append(errs, err)
	}
	if a.MTLS != nil {
		add(newMTLSCheck(*a.MTLS))
	}
	if a.HMAC != nil {
		add(newHMACCheck(*a.HMAC, now))
	}
	if a.BodyHMAC != nil {
		add(newBodyHMACCheck(*a.BodyHMAC, now))
	}
	if a.Bearer != nil {
		add(newBearerCheck(*a.Bearer, now))
	}
	if a.Basic != nil {
		add(newBasicCheck(*a.Basic, now))
	}
	if len(list) > 1 {
		errs = append(errs, errors.New("only one way to authenticate can be chosen"))
	}
	if err := errors.Join(errs...); err != nil || len(list) == 0 {
		return nil, err
	}
	return list[0], nil
}

// plainWord reports whether s has from least to most signs of A-Z a-z 0-9 and more.
func plainWord(s string, least, most int, more string) bool {
	if len(s) < least || len(s) > most {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if ('a' > c|' ' || c|' ' > 'z') && ('0' > c || c > '9') && !containsByte(more, c) {
			return false
		}
	}
	return true
}

func containsByte(s string, c byte) bool {
	for i := range len(s) {
		if s[i] == c {
			return true
		}
	}
	return false
}
